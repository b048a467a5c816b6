"""Checkpoint: an ensemble as one folder of safetensors and JSON; nothing in it is ever unpickled.

`model.json` is written last and names the sha256 of `weights.safetensors`: a folder without it, or
with other weights, is incomplete and refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfuse import __version__
from pairfuse.errors import CheckpointError, ConfigError, shown
from pairfuse.files import write_bytes, write_json
from pairfuse.fusion.baselines import FittedBaseline, load_baseline
from pairfuse.fusion.blocks import HeadShape
from pairfuse.fusion.ensemble import Ensemble, Member, Predictor
from pairfuse.fusion.heads import is_token_head
from pairfuse.fusion.scaling import ViewScaling
from pairfuse.fusion.training import FittedModel, build_network
from pairfuse.recipe import Recipe

FORMAT_VERSION = 6
DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"
#: What rebuilding raises from a description that lacks something or is of other types.
_MISFITS = (
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError),
    *(MemoryError, ConfigError),
)
#: What a member's description says that it is.
_HEAD, _BASELINE = "head", "baseline"
#: What `build_encoders` takes, with the type of each.
_OPTIONS = {"encoders": list, "pooling": str, "max_length": int, "precision": str}
_OPTIONS |= {"truncation": str, "tokens": bool}


@dataclass(frozen=True)
class Checkpoint:
    """An ensemble with the encoders it was trained on: how to build them, their fingerprints.

    `temperature` calibrates its probabilities; the labels of which the calibrated probability is
    at least `set_threshold` form a prediction set that holds the true label with `coverage`.
    """

    ensemble: Ensemble
    fingerprints: Mapping[str, str]
    encoder_options: Mapping[str, Any]
    scores: Mapping[str, Any]
    temperature: float = 1.0
    set_threshold: float = 0.0
    coverage: float = 1.0


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write weights, then their description."""
    from safetensors.numpy import save

    ensemble = checkpoint.ensemble
    weights = save(_tensors(ensemble))
    drop_checkpoint(folder)
    write_bytes(folder / WEIGHTS, weights)
    write_json(
        folder / DESCRIPTION,
        {
            "format_version": FORMAT_VERSION,
            "version": __version__,
            "labels": ensemble.labels,
            "prior": ensemble.prior.tolist(),
            "modality": dict(ensemble.modality),
            "dims": dict(ensemble.dims),
            "members": [_described(member) for member in ensemble.members],
            "weights": list(ensemble.weights),
            "fingerprints": dict(checkpoint.fingerprints),
            "encoder_options": dict(checkpoint.encoder_options),
            "scores": dict(checkpoint.scores),
            "temperature": checkpoint.temperature,
            "set_threshold": checkpoint.set_threshold,
            "coverage": checkpoint.coverage,
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        },
    )


def drop_checkpoint(folder: Path) -> None:
    """Make a checkpoint incomplete: what follows it in the run folder is about to change."""
    (folder / DESCRIPTION).unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint back.

    Raises:
        CheckpointError: There is none, it is incomplete, or its content is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    description = _read_description(folder)
    try:
        data = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{folder / WEIGHTS} cannot be read ({error.strerror}); run `pairfuse train` again"
        ) from error
    if hashlib.sha256(data).hexdigest() != description.get("weights_sha256"):
        raise CheckpointError(
            f"{folder / WEIGHTS} is not the file that {DESCRIPTION} describes; "
            "run `pairfuse train` again"
        )
    try:
        return _rebuild(description, load(data))
    except (*_MISFITS, SafetensorError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"{folder / DESCRIPTION} does not fit its weights ({reason}); "
            "run `pairfuse train` again"
        ) from error


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not path.is_file():
        raise CheckpointError(f"no complete model in {folder}; run `pairfuse train` first")
    try:
        description = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON; run `pairfuse train` again") from error
    found = description.get("format_version") if isinstance(description, dict) else None
    if found != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} is of format version {shown(found)}, this is version {FORMAT_VERSION}; "
            "run `pairfuse train` again"
        )
    return dict(description)


def _described(member: Predictor) -> dict[str, Any]:
    """All of a member but its arrays."""
    if isinstance(member, Member):
        return {"is": _HEAD, "reads": list(member.views), **asdict(member.model.recipe)}
    assert isinstance(member, FittedBaseline)
    return {"is": _BASELINE, **member.description()}


def _tensors(ensemble: Ensemble) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for number, member in enumerate(ensemble.members):
        if isinstance(member, Member):
            own = {f"model/{name}": values for name, values in member.model.parameters.items()}
            for view, part in member.scaling.items():
                own[f"mean/{view}"] = part.mean
                own[f"axes/{view}"] = part.axes
                own[f"deviation/{view}"] = part.deviation
        else:
            assert isinstance(member, FittedBaseline)
            own = member.arrays()
        out |= {f"{number}/{name}": np.ascontiguousarray(each) for name, each in own.items()}
    return out


def _rebuild(description: Mapping[str, Any], tensors: Mapping[str, Any]) -> Checkpoint:
    labels = tuple(str(label) for label in description["labels"])
    members = tuple(
        _member(number, each, description, tensors)
        for number, each in enumerate(description["members"])
    )
    ensemble = Ensemble(
        members=members,
        weights=tuple(float(weight) for weight in description["weights"]),
        labels=labels,
        prior=np.asarray(description["prior"], dtype=np.float32),
        modality=dict(description["modality"]),
        dims={view: int(dim) for view, dim in description["dims"].items()},
    )
    if ensemble.prior.shape != (len(labels),) or not members:
        raise ValueError("labels, prior and members do not agree")
    _check_members(ensemble)
    if not all(np.isfinite(values).all() for values in (ensemble.prior, *tensors.values())):
        raise ValueError("a weight is no number")
    _check_encoders(description)
    temperature, threshold, coverage = (
        float(description[name]) for name in ("temperature", "set_threshold", "coverage")
    )
    if not (0 < temperature < 1e6 and 0 <= threshold <= 1 and 0 <= coverage <= 1):
        raise ValueError("its temperature, set threshold or coverage is out of bounds")
    return Checkpoint(
        ensemble,
        dict(description["fingerprints"]),
        dict(description["encoder_options"]),
        dict(description["scores"]),
        temperature,
        threshold,
        coverage,
    )


def _check_members(ensemble: Ensemble) -> None:
    """Refuse weights that are no shares, and a baseline of other views or labels."""
    weights = ensemble.weights
    if len(weights) != len(ensemble.members) or not all(0 < w <= 1 for w in weights):
        raise ValueError("its weights are not those of its members")
    if abs(sum(weights) - 1) > 1e-6:
        raise ValueError(f"its weights sum to {sum(weights):.3f}, not to 1")
    for member in ensemble.members:
        if not isinstance(member, FittedBaseline):
            continue
        if member.num_classes != len(ensemble.labels):
            raise ValueError(f"a baseline knows {member.num_classes} labels")
        if any(ensemble.dims.get(view) != dim for view, dim in member.dims.items()):
            raise ValueError("a baseline reads views of another width")


def _check_encoders(description: Mapping[str, Any]) -> None:
    options, marks = description["encoder_options"], description["fingerprints"]
    if "encoders" not in options or not all(
        type(value) is _OPTIONS[name] for name, value in options.items()
    ):
        raise ValueError("the options of its encoders are none")
    if not all(isinstance(word, str) for word in (*options["encoders"], *marks.values())):
        raise ValueError("an encoder or a fingerprint is no word")
    if not marks.keys() >= description["dims"].keys():
        raise ValueError("an encoder has no fingerprint")


def _member(
    number: int,
    own: Mapping[str, Any],
    description: Mapping[str, Any],
    tensors: Mapping[str, Any],
) -> Predictor:
    start, named = f"{number}/", {k: own[k] for k in own if k not in ("is", "reads")}
    arrays = {
        name.removeprefix(start): values
        for name, values in tensors.items()
        if name.startswith(start)
    }
    if own["is"] == _BASELINE:
        return load_baseline(named, arrays)
    if own["is"] != _HEAD:
        raise ValueError(f"member {number} is neither a head nor a baseline")
    recipe = Recipe(**{**named, "views": tuple(named["views"])})
    return _head(recipe, own["reads"], description, arrays)


def _head(
    recipe: Recipe,
    views: Sequence[str],
    description: Mapping[str, Any],
    arrays: Mapping[str, Any],
) -> Member:
    scaling = {
        view: ViewScaling(
            arrays[f"mean/{view}"],
            arrays[f"axes/{view}"],
            arrays[f"deviation/{view}"],
        )
        for view in views
    }
    for view, part in scaling.items():
        width, axes = int(description["dims"][view]), part.axes.shape[1]
        if is_token_head(recipe.head):  # a token need not be as wide as the vector beside it
            width = len(part.mean)
        if part.mean.shape != (width,) or part.axes.shape != (width, axes):
            raise ValueError(f"the scaling of {view} is not of width {width}")
        if part.deviation.shape != (axes,):
            raise ValueError(f"the scaling of {view} has other axes than deviations")
    shape = HeadShape(
        {view: part.axes.shape[1] for view, part in sorted(scaling.items())},
        dict(description["modality"]),
        len(description["labels"]),
        recipe.hidden_dim,
        recipe.dropout,
    )
    parameters = {
        name.removeprefix("model/"): values
        for name, values in arrays.items()
        if name.startswith("model/")
    }
    if recipe.head != "linear" and not any(
        recipe.hidden_dim in p.shape for p in parameters.values()
    ):
        raise ValueError(f"no weights are of width {recipe.hidden_dim}")  # before they take memory
    model = FittedModel(shape, recipe, parameters)
    build_network(model)  # refuses parameters that do not fit the shape
    return Member(model, scaling)

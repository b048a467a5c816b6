"""Checkpoint: an ensemble as one folder of safetensors and JSON; nothing in it is ever unpickled.

`model.json` is written last and names the sha256 of `weights.safetensors`: a folder without it, or
with other weights, is incomplete and refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfuse import __version__
from pairfuse.errors import CheckpointError, ConfigError, shown
from pairfuse.files import write_bytes, write_json
from pairfuse.fusion.blocks import HeadShape
from pairfuse.fusion.ensemble import Ensemble, Member
from pairfuse.fusion.final_estimator import FinalEstimator
from pairfuse.fusion.heads import is_token_head
from pairfuse.fusion.scaling import ViewScaling
from pairfuse.fusion.training import FittedModel, build_network
from pairfuse.recipe import Recipe

FORMAT_VERSION = 5
DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"
#: What rebuilding raises from a description that lacks something or is of other types.
_MISFITS = (
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError),
    *(MemoryError, ConfigError),
)
#: How members answer together, and whether the checkpoint then holds a final estimator.
_ENSEMBLES = {"average": False, "stacking": True}
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
    recipes = [asdict(member.model.recipe) for member in ensemble.members]
    write_json(
        folder / DESCRIPTION,
        {
            "format_version": FORMAT_VERSION,
            "version": __version__,
            "labels": ensemble.labels,
            "prior": ensemble.prior.tolist(),
            "modality": dict(ensemble.modality),
            "dims": dict(ensemble.dims),
            "recipes": recipes,
            "ensemble": "average" if ensemble.final_estimator is None else "stacking",
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


def _tensors(ensemble: Ensemble) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for number, member in enumerate(ensemble.members):
        for name, values in member.model.parameters.items():
            out[f"{number}/model/{name}"] = np.ascontiguousarray(values)
        for view, part in member.scaling.items():
            out[f"{number}/mean/{view}"] = np.ascontiguousarray(part.mean)
            out[f"{number}/axes/{view}"] = np.ascontiguousarray(part.axes)
            out[f"{number}/deviation/{view}"] = np.ascontiguousarray(part.deviation)
    if ensemble.final_estimator is not None:
        out["final_estimator/weights"] = np.ascontiguousarray(ensemble.final_estimator.weights)
        out["final_estimator/bias"] = np.ascontiguousarray(ensemble.final_estimator.bias)
    return out


def _rebuild(description: Mapping[str, Any], tensors: Mapping[str, Any]) -> Checkpoint:
    recipes = [Recipe(**{**each, "views": tuple(each["views"])}) for each in description["recipes"]]
    labels = tuple(str(label) for label in description["labels"])
    ensemble = Ensemble(
        members=tuple(
            _member(number, description, tensors, recipe) for number, recipe in enumerate(recipes)
        ),
        labels=labels,
        prior=np.asarray(description["prior"], dtype=np.float32),
        modality=dict(description["modality"]),
        dims={view: int(dim) for view, dim in description["dims"].items()},
        final_estimator=_final_estimator(description, tensors),
    )
    if ensemble.prior.shape != (len(labels),) or not ensemble.members:
        raise ValueError("labels, prior and members do not agree")
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


def _final_estimator(
    description: Mapping[str, Any], tensors: Mapping[str, Any]
) -> FinalEstimator | None:
    """What makes one prediction of the members'; none where they are averaged."""
    is_stacked = _ENSEMBLES[description["ensemble"]]
    if is_stacked != ("final_estimator/weights" in tensors):
        raise ValueError("its ensemble is not that of its weights")
    if not is_stacked:
        return None
    weights, bias = tensors["final_estimator/weights"], tensors["final_estimator/bias"]
    members, classes = len(description["recipes"]), len(description["labels"])
    heads = len(weights) // classes
    if weights.shape != (heads * classes, classes) or bias.shape != (classes,):
        raise ValueError("its final_estimator is of another shape than its labels")
    if not heads or members % heads:
        raise ValueError(f"a final_estimator of {heads} heads does not fit {members} members")
    return FinalEstimator(weights, bias)


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
    number: int, description: Mapping[str, Any], tensors: Mapping[str, Any], recipe: Recipe
) -> Member:
    scaling = {
        view: ViewScaling(
            tensors[f"{number}/mean/{view}"],
            tensors[f"{number}/axes/{view}"],
            tensors[f"{number}/deviation/{view}"],
        )
        for view in recipe.views or description["dims"]
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
    start = f"{number}/model/"
    parameters = {
        name.removeprefix(start): values
        for name, values in tensors.items()
        if name.startswith(start)
    }
    if recipe.head != "linear" and not any(
        recipe.hidden_dim in p.shape for p in parameters.values()
    ):
        raise ValueError(f"no weights are of width {recipe.hidden_dim}")  # before they take memory
    model = FittedModel(shape, recipe, parameters)
    build_network(model)  # refuses parameters that do not fit the shape
    return Member(model, scaling)

"""Answers: calibrated probabilities and prediction sets for pairs, by a trained checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairfuse.arrays import Bools, Floats
from pairfuse.commands.run_folder import read_evidence
from pairfuse.commands.workspace import Workspace
from pairfuse.console import say
from pairfuse.data.pairs import Pair
from pairfuse.encoders import build_encoders, fingerprint
from pairfuse.errors import CheckpointError
from pairfuse.features.views import Views
from pairfuse.fusion.checkpoint import Checkpoint, load_checkpoint
from pairfuse.stats.calibration import apply_temperature, fit_temperature
from pairfuse.stats.conformal import conformal_threshold, prediction_sets
from pairfuse.study.ablation import TEXT_ONLY
from pairfuse.study.crossfit import CrossFit


@dataclass(frozen=True)
class Answers:
    """Calibrated probabilities (N, C), labels in each set (N, C), a flag for each pair."""

    probabilities: Floats
    sets: Bools
    flags: tuple[str, ...]


def build_checkpoint(workspace: Workspace, fit: CrossFit, scores: Mapping[str, Any]) -> Checkpoint:
    """The ensemble with what its out-of-fold probabilities say about its confidence."""
    targets, coverage = workspace.table.targets, workspace.config.study.coverage
    temperature = fit_temperature(fit.mean, targets)
    return Checkpoint(
        fit.ensemble,
        {encoder.name: fingerprint(encoder) for encoder in workspace.encoders},
        _encoder_options(workspace),
        scores,
        temperature,
        conformal_threshold(
            apply_temperature(fit.mean, temperature),
            targets,
            coverage,
            groups=workspace.table.groups,
        ),
        coverage,
    )


def answer(workspace: Workspace, checkpoint: Checkpoint, pairs: Sequence[Pair]) -> Answers:
    """What the ensemble says of these pairs."""
    return _decided(checkpoint, _raw(workspace, checkpoint, pairs), pairs)


def answer_cheaply(workspace: Workspace, checkpoint: Checkpoint, pairs: Sequence[Pair]) -> Answers:
    """The text-only ensemble's answer where it is sure enough, the fused one's for the others.

    Raises:
        DataError: No ablation was made, so no threshold is known.
        CheckpointError: The text-only ensemble is not there.
    """
    found = read_evidence(workspace.folder).cascade
    text_only = load_checkpoint(workspace.folder / TEXT_ONLY)
    if text_only.ensemble.labels != checkpoint.ensemble.labels:
        raise CheckpointError(
            f"{workspace.folder} holds no cascade for this model; run `pairfuse ablate` again"
        )
    raw = _raw(workspace, text_only, pairs)
    cheap = _decided(text_only, raw, pairs)
    unsure = np.flatnonzero(raw.max(axis=1) < found.threshold)
    say(
        f"cascade   {len(unsure)} of {len(pairs)} pairs need their image: "
        f"{1 - len(unsure) / len(pairs):.1%} of the image encodes saved"
    )
    flags = [f"{flag} text-only".strip() for flag in cheap.flags]
    probabilities, sets = cheap.probabilities.copy(), cheap.sets.copy()
    if len(unsure):
        full = answer(workspace, checkpoint, [pairs[row] for row in unsure.tolist()])
        probabilities[unsure], sets[unsure] = full.probabilities, full.sets
        for place, row in enumerate(unsure.tolist()):
            flags[row] = full.flags[place]
    return Answers(probabilities, sets, tuple(flags))


def check_fits(workspace: Workspace, checkpoint: Checkpoint, pairs: Sequence[Pair]) -> None:
    """Refuse a data set that the model was not trained for, and one without test pairs."""
    labels = checkpoint.ensemble.labels
    found = {pair.label for pair in workspace.dataset.pairs if pair.label is not None}
    strange = sorted(found - set(labels))
    if strange:
        raise CheckpointError(
            f"the model knows the labels {', '.join(labels)}; {workspace.config.data.root} has "
            f"{strange[0]!r}: it is not the data set that the model was trained for"
        )
    if not pairs:
        raise CheckpointError(f"{workspace.config.data.root} has no test pair to predict")


def _raw(workspace: Workspace, checkpoint: Checkpoint, pairs: Sequence[Pair]) -> Floats:
    return checkpoint.ensemble.predict_proba(_views(workspace, checkpoint, pairs))


def _decided(checkpoint: Checkpoint, raw: Floats, pairs: Sequence[Pair]) -> Answers:
    calm = apply_temperature(raw, checkpoint.temperature)
    lost = np.array([pair.text is None and pair.image is None for pair in pairs])
    calm[lost] = raw[lost]  # the class prior is calibrated as it is
    sets = prediction_sets(calm, checkpoint.set_threshold)
    return Answers(calm, sets, tuple(_flag(pair) for pair in pairs))


def _views(workspace: Workspace, checkpoint: Checkpoint, pairs: Sequence[Pair]) -> Views:
    """Features by the encoders that the model was trained on, and by no others."""
    options = dict(checkpoint.encoder_options)
    encoders = build_encoders(
        options.pop("encoders"), **options, device=workspace.config.features.device
    )
    used = [encoder for encoder in encoders if encoder.name in checkpoint.ensemble.dims]
    for encoder in used:
        found, wanted = fingerprint(encoder), checkpoint.fingerprints[encoder.name]
        if found != wanted:
            raise CheckpointError(
                f"encoder {encoder.name} is not the one that the model was trained on "
                f"(fingerprint {found[:8]}, trained on {wanted[:8]}): its weights or settings "
                "changed; train again, or bring the old ones back"
            )
    return workspace.views(pairs, used)


def _encoder_options(workspace: Workspace) -> dict[str, Any]:
    """What builds the same encoders again; `auto` is resolved, so that another device agrees."""
    features = workspace.config.features
    precisions = {encoder.made_from.get("precision", "fp32") for encoder in workspace.encoders}
    return {
        "encoders": list(features.encoders),
        "pooling": features.pooling,
        "max_length": features.max_length,
        "tokens": features.tokens,
        "truncation": features.truncation,
        "precision": max(precisions - {"fp32"}, default="fp32"),
    }


def _flag(pair: Pair) -> str:
    if pair.text is None and pair.image is None:
        return "prior"
    missing = [name for name in ("text", "image") if getattr(pair, name) is None]
    return " ".join(f"no-{name}" for name in missing)

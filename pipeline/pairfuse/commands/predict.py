"""`pairfuse predict`: labels, calibrated probabilities and prediction sets for the test pairs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairfuse.commands.flags import Subparsers, add_configured, workspace_of
from pairfuse.console import log, say

if TYPE_CHECKING:
    from pairfuse.arrays import Bools, Floats, Ints
    from pairfuse.commands.workspace import Extracted, Workspace
    from pairfuse.data.pairs import Dataset, Pair
    from pairfuse.fusion.checkpoint import Checkpoint

#: Arms whose ensemble is kept: by `train`, and by `ablate`.
ARMS = ("fused", "text-only")


@dataclass(frozen=True)
class PairPredictions:
    """Calibrated probabilities (N, C), labels in each set (N, C), a flag for each pair."""

    probabilities: Floats
    sets: Bools
    flags: tuple[str, ...]


def add_parser(commands: Subparsers) -> None:
    """Add the command with its flags."""
    about = "write labels for the test pairs"
    command = add_configured(commands, "predict", about, run, ["features"])
    command.add_argument("--out", type=Path, metavar="FILE", help="where the labels are written")
    models = command.add_mutually_exclusive_group()
    models.add_argument(
        "--arm", choices=ARMS, default=ARMS[0], help="which arm's ensemble predicts"
    )
    models.add_argument(
        "--cascade", action="store_true", help="encode the image only where the text is unsure"
    )


def run(parsed: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    predict(workspace_of(parsed), parsed.out, arm=parsed.arm, cascade=parsed.cascade)


def predict(
    workspace: Workspace, out: Path | None = None, *, arm: str = ARMS[0], cascade: bool = False
) -> Path:
    """Label the test pairs with the trained ensemble; the file of labels is returned.

    In a cascade the text-only ensemble predicts where it is sure enough, and only the images of
    the other pairs are encoded. Where test pairs have a label, the predictions are scored.
    """
    from pairfuse.files import write_csv, write_json
    from pairfuse.fusion.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(workspace.folder / ("model" if arm == ARMS[0] else arm))
    labels = checkpoint.ensemble.labels
    _check_fits(workspace, checkpoint)
    if not workspace.config.run:  # a run that is named is meant, whatever the data are
        workspace.check_run()
    pairs = workspace.first_look.split("test")
    found = (predict_cascade if cascade else predict_pairs)(workspace, checkpoint, pairs)
    y_pred = [labels[best] for best in found.probabilities.argmax(axis=1)]
    place = out or workspace.folder / "test_labels.csv"
    groups = _groups(workspace.first_look, pairs)
    write_csv(place, ("guid", "tag"), [(p.guid, tag) for p, tag in zip(pairs, y_pred, strict=True)])
    columns = ["guid", "group", "truth", "tag", *(f"p_{label}" for label in labels), "set", "flags"]
    rows = zip(pairs, groups, y_pred, found.probabilities, found.sets, found.flags, strict=True)
    cells = []
    for pair, group, tag, probabilities, inside, flag in rows:
        known = [pair.guid, group, pair.label or "", tag]
        cells.append(
            [*known, *(f"{p:.6f}" for p in probabilities), _set_words(labels, inside), flag]
        )
    write_csv(place.with_name("test_probabilities.csv"), columns, cells)
    counts = ", ".join(f"{label} {y_pred.count(label)}" for label in labels)
    say(f"predict   {len(pairs)} labels in {place} ({counts})")
    scored = _score_labelled(
        pairs, labels, found.probabilities, groups, seed=workspace.config.study.seed
    )
    scores_place = place.with_name("test_scores.json")
    if scored:
        write_json(scores_place, {"arm": "cascade" if cascade else arm} | scored)
    else:
        scores_place.unlink(missing_ok=True)  # of other predictions
    return place


def _groups(dataset: Dataset, pairs: Sequence[Pair]) -> Ints:
    """Number of each pair's group of duplicates in the data set, shape (N,)."""
    import numpy as np

    from pairfuse.data.duplicates import duplicate_groups

    known = zip(dataset.pairs, duplicate_groups(dataset).tolist(), strict=True)
    groups = {pair.guid: group for pair, group in known}
    return np.array([groups[pair.guid] for pair in pairs], dtype=np.int64)


def _score_labelled(
    pairs: Sequence[Pair],
    labels: Sequence[str],
    probabilities: Floats,
    groups: Ints,
    *,
    seed: int,
) -> dict[str, Any]:
    """Scores of the test pairs that have a label, which no training saw; none where none has.

    A label that the model does not know is an error in each score.

    Args:
        pairs: N test pairs.
        labels: The C that the model knows.
        probabilities: Shape (N, C).
        groups: Of duplicates, shape (N,).
        seed: Of the resamples.
    """
    import numpy as np

    from pairfuse.features.views import targets_of
    from pairfuse.stats.bootstrap import draw_groups, in_words
    from pairfuse.stats.metrics import score

    rows = [row for row, pair in enumerate(pairs) if pair.label is not None]
    if not rows:
        return {}
    known = [pairs[row] for row in rows]
    unseen = sorted({pair.label for pair in known if pair.label} - set(labels))
    strange = sum(pair.label in unseen for pair in known)
    if strange:
        log.warning(
            "%d of %d labelled test pairs have a label that the model does not know (%s): "
            "they count as errors",
            strange,
            len(known),
            ", ".join(unseen[:5]) + (", ..." if len(unseen) > 5 else ""),
        )
    every = (*labels, *unseen)
    padded = np.pad(probabilities[rows], ((0, 0), (0, len(unseen))))  # (N, C)
    draws = draw_groups(groups[rows], seed=seed)
    scores = score(targets_of(known, every), padded[None], every, draws)
    ranked = "" if np.isnan(scores.auroc.value) else f", AUROC {in_words(scores.auroc)}"
    say(
        f"scores    of {len(known)} labelled test pairs: accuracy {in_words(scores.accuracy)}, "
        f"macro-F1 {in_words(scores.macro_f1)}{ranked}"
    )
    return {"labels": list(every), "labels_unknown_to_the_model": unseen} | scores.as_dict()


def predict_pairs(
    workspace: Workspace, checkpoint: Checkpoint, pairs: Sequence[Pair]
) -> PairPredictions:
    """What the ensemble predicts for these pairs."""
    extracted = _extracted(workspace, checkpoint, pairs)
    raw = checkpoint.ensemble.predict_proba(extracted.views)
    return _calibrated(checkpoint, raw, extracted.pairs)


def predict_cascade(
    workspace: Workspace, checkpoint: Checkpoint, pairs: Sequence[Pair]
) -> PairPredictions:
    """The text-only ensemble's prediction where it is sure enough, else the fused one's.

    Raises:
        DataError: No ablation was made, so no threshold is known.
        CheckpointError: The text-only ensemble is not there.
    """
    from pairfuse.commands.run_folder import read_evidence
    from pairfuse.errors import CheckpointError
    from pairfuse.fusion.checkpoint import load_checkpoint
    from pairfuse.study.ablation import TEXT_ONLY

    cascade = read_evidence(workspace.folder).cascade
    text_only = load_checkpoint(workspace.folder / TEXT_ONLY)
    if text_only.ensemble.labels != checkpoint.ensemble.labels:
        raise CheckpointError(
            f"{workspace.folder} holds no cascade for this model; run `pairfuse ablate` again"
        )
    extracted = _extracted(workspace, text_only, pairs)
    raw = text_only.ensemble.predict_proba(extracted.views)
    cheap = _calibrated(text_only, raw, extracted.pairs)
    [unsure] = (raw.max(axis=1) < cascade.threshold).nonzero()
    say(
        f"cascade   {len(unsure)} of {len(pairs)} pairs need their image: "
        f"{1 - len(unsure) / len(pairs):.1%} of the images need not be encoded"
    )
    flags = [f"{flag} text-only".strip() for flag in cheap.flags]
    probabilities, sets = cheap.probabilities.copy(), cheap.sets.copy()
    if len(unsure):
        full = predict_pairs(workspace, checkpoint, [pairs[row] for row in unsure.tolist()])
        probabilities[unsure], sets[unsure] = full.probabilities, full.sets
        for place, row in enumerate(unsure.tolist()):
            flags[row] = full.flags[place]
    return PairPredictions(probabilities, sets, tuple(flags))


def _check_fits(workspace: Workspace, checkpoint: Checkpoint) -> None:
    """Refuse a data set that the model was not trained for, and one without test pairs."""
    from pairfuse.errors import CheckpointError

    labels, dataset = checkpoint.ensemble.labels, workspace.first_look
    trained = dataset.split("train", "val")  # a label of test pairs alone is no reason to refuse
    found = {pair.label for pair in trained if pair.label is not None}
    strange = sorted(found - set(labels))
    if strange:
        raise CheckpointError(
            f"the model knows the labels {', '.join(labels)}; {workspace.config.data.root} has "
            f"{strange[0]!r}: it is not the data set that the model was trained for"
        )
    if not dataset.split("test"):
        raise CheckpointError(f"{workspace.config.data.root} has no test pair to predict")


def _extracted(workspace: Workspace, checkpoint: Checkpoint, pairs: Sequence[Pair]) -> Extracted:
    """Features by the encoders that the model was trained on, and by no others."""
    from pairfuse.encoders import build_encoders, fingerprint
    from pairfuse.errors import CheckpointError

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
    return workspace.extract(used, pairs)


def _calibrated(checkpoint: Checkpoint, raw: Floats, pairs: Sequence[Pair]) -> PairPredictions:
    from pairfuse.stats.calibration import apply_temperature
    from pairfuse.stats.conformal import prediction_sets

    probabilities = apply_temperature(raw, checkpoint.temperature)
    for row, pair in enumerate(pairs):
        if pair.text is None and pair.image is None:
            probabilities[row] = raw[row]  # the class prior is calibrated as it is
    sets = prediction_sets(probabilities, checkpoint.set_threshold)
    return PairPredictions(probabilities, sets, tuple(_flag(pair) for pair in pairs))


def _flag(pair: Pair) -> str:
    if pair.text is None and pair.image is None:
        return "prior"
    missing = [name for name in ("text", "image") if getattr(pair, name) is None]
    return " ".join(f"no-{name}" for name in missing)


def _set_words(labels: Sequence[str], inside: Bools) -> str:
    return " | ".join(label for label, there in zip(labels, inside, strict=True) if there)

"""Cascade: the text-only prediction where it is confident enough, the fused one elsewhere.

Images are encoded only for the rows that are passed on. A threshold is judged on folds that it was
not chosen on; the one that is returned for use was chosen on all rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pairfuse.arrays import Bools, Doubles, Floats, Ints
from pairfuse.stats.bootstrap import Draws, Estimate
from pairfuse.stats.calibration import held_out_rows
from pairfuse.stats.metrics import class_f1, confusion, macro_f1_estimate

#: Macro-F1 that a cascade may lose against the fused model.
TOLERANCE = 0.005
#: A threshold above every confidence: every row is passed on to the fused model.
NEVER = 2.0
#: Thresholds of a cascade that are looked at, beside 0 and NEVER.
STEPS = 50


@dataclass(frozen=True)
class CascadePoint:
    """Text-only predictions from this confidence on: share of image encodes saved, macro-F1."""

    threshold: float
    saved: float
    macro_f1: float


@dataclass(frozen=True)
class Cascade:
    """The threshold for use, and what thresholds chosen on other folds save and keep.

    Attributes:
        threshold: Least text-only confidence at which the image is not looked at.
        saved: Share of image encodes that thresholds of other folds save.
        macro_f1: What they score.
        fused_macro_f1: The fused model's, with every image.
        curve: What every threshold would do, on all rows.
    """

    threshold: float
    saved: float
    macro_f1: Estimate
    fused_macro_f1: Estimate
    curve: tuple[CascadePoint, ...]


def cascade(text_only: Floats, fused: Floats, targets: Ints, folds: Ints, draws: Draws) -> Cascade:
    """Keep the text-only prediction where it is confident; pay for the image elsewhere.

    A threshold is chosen to save most image encodes among those at which macro-F1 is at least the
    fused model's minus `TOLERANCE`.

    Args:
        text_only: Shape (R, N, C).
        fused: Shape (R, N, C).
        targets: Shape (N,).
        folds: Shape (R, N), the fold that held each row out.
        draws: Resamples of the rows' groups.
    """
    classes = fused.shape[-1]
    confidence, by_fused = text_only.max(axis=-1), fused.argmax(axis=-1)  # (R, N)
    levels = np.quantile(confidence, np.arange(1, STEPS) / STEPS)
    thresholds = np.unique(np.concatenate([[0.0], levels, [NEVER]]))
    kept = confidence >= thresholds[:, None, None]  # (T, R, N)
    y_pred = np.where(kept, text_only.argmax(axis=-1), by_fused)
    chosen, saved = np.empty_like(by_fused), np.empty(by_fused.shape)
    for repeat, rows in held_out_rows(folds):
        macro = _mean_f1(y_pred[:, [repeat]][..., ~rows], targets[~rows], classes)
        place = _most_saving(kept[:, [repeat]][..., ~rows], macro)
        chosen[repeat, rows] = y_pred[place, repeat, rows]
        saved[repeat, rows] = kept[place, repeat, rows]
    macro = _mean_f1(y_pred, targets, classes)
    points = zip(thresholds.tolist(), kept.mean(axis=(1, 2)).tolist(), macro.tolist(), strict=True)
    return Cascade(
        threshold=float(thresholds[_most_saving(kept, macro)]),
        saved=float(saved.mean()),
        macro_f1=macro_f1_estimate(targets, chosen, classes, draws),
        fused_macro_f1=macro_f1_estimate(targets, by_fused, classes, draws),
        curve=tuple(CascadePoint(*point) for point in points),
    )


def _most_saving(kept: Bools, macro: Doubles) -> int:
    """The first threshold that saves most, of kept (T, R, n), at a good score (T,).

    The last one, NEVER, has the fused model's score and is always good enough.
    """
    good = macro >= macro[-1] - TOLERANCE
    return int(np.where(good, kept.mean(axis=(1, 2)), -1.0).argmax())


def _mean_f1(y_pred: Ints, targets: Ints, classes: int) -> Doubles:
    """Macro-F1, mean over repeats, (T,), of y_pred (T, R, n)."""
    matrices = [[confusion(targets, each, classes) for each in repeats] for repeats in y_pred]
    return np.asarray(class_f1(np.array(matrices)).mean(axis=(1, 2)))

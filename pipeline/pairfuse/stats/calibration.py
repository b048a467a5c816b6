"""Decide: what to do with probabilities: calibrate, give sets of labels, abstain, skip images.

Whatever is fitted here is fitted on out-of-fold probabilities, and judged on folds that it was not
fitted on. What is returned for use was fitted on all rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from pairfuse.arrays import Bools, Doubles, Floats, Ints
from pairfuse.stats.bootstrap import Draws, Estimate
from pairfuse.stats.metrics import (
    ReliabilityBin,
    Scores,
    class_f1,
    confusion,
    macro_f1_estimate,
    score,
)

#: Macro-F1 that a cascade may lose against the fused model.
TOLERANCE = 0.005
#: A threshold above every confidence: every row is given to the fused model.
NEVER = 2.0
#: Thresholds of a cascade that are looked at, beside 0 and NEVER.
STEPS = 50
#: Shares of the rows, the most confident first, that abstention is shown for.
SHARES = tuple(tenth / 10 for tenth in range(1, 11))
_COLDEST, _HOTTEST = 0.05, 20.0
#: Probabilities below this count as this in logarithms.
_LEAST = 1e-12


@dataclass(frozen=True)
class Calibration:
    """Temperature for use; scores and bins before, and after the temperature of other folds."""

    temperature: float
    before: Scores
    after: Scores

    @property
    def reliability(self) -> tuple[ReliabilityBin, ...]:
        """Confidence against accuracy, calibrated."""
        return self.after.reliability

    def as_dict(self) -> dict[str, object]:
        return {
            "temperature": self.temperature,
            "before": _summary(self.before),
            "after": _summary(self.after),
            "reliability": [asdict(each) for each in self.reliability],
        }


@dataclass(frozen=True)
class Conformal:
    """Prediction sets: the threshold for use; what that of other folds achieves."""

    coverage: float
    threshold: float  # least probability of a label in the set
    achieved: float
    mean_size: float
    sizes: dict[str, float]  # share of rows by the size of their set

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Answered:
    """Scores of the most confident share of the rows."""

    answered: float
    accuracy: float
    macro_f1: float  # over the classes that occur or are guessed among them

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class CascadePoint:
    """Text-only answers from this confidence on: image encodes saved, macro-F1."""

    threshold: float
    saved: float
    macro_f1: float


@dataclass(frozen=True)
class Cascade:
    """The threshold for use, and what thresholds chosen on other folds save and keep."""

    threshold: float
    saved: float
    cascade: Estimate
    fused: Estimate
    curve: tuple[CascadePoint, ...]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def tempered(probabilities: Floats, temperature: float) -> Floats:
    """softmax(log p / T), shape (..., C); 1 changes nothing, more is less sure."""
    logs = np.log(np.maximum(probabilities.astype(np.float64), _LEAST)) / temperature
    raised = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), dtype=np.float32)


def fit_temperature(probabilities: Floats, targets: Ints) -> float:
    """The temperature of the least log loss (Guo et al. 2017), between 0.05 and 20.

    Args:
        probabilities: Shape (N, C).
        targets: Shape (N,).
    """
    logs = np.log(np.maximum(probabilities.astype(np.float64), _LEAST))
    own = logs[np.arange(len(targets)), targets]

    def loss(log_temperature: float) -> float:
        coldness = math.exp(-log_temperature)
        scaled = logs * coldness
        top = scaled.max(axis=1)
        total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((total - own * coldness).mean())

    bounds = (math.log(_COLDEST), math.log(_HOTTEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded")
    return float(math.exp(found.x))


def calibrated(probabilities: Floats, targets: Ints, folds: Ints) -> Floats:
    """Each row at the temperature that was fitted on the other folds of its repeat.

    Args:
        probabilities: Shape (R, N, C).
        targets: Shape (N,).
        folds: Shape (R, N), the fold that held each row out.
    """
    out = np.empty_like(probabilities)
    for repeat, rows in _parts(folds):
        temperature = fit_temperature(probabilities[repeat, ~rows], targets[~rows])
        out[repeat, rows] = tempered(probabilities[repeat, rows], temperature)
    return out


def calibration(
    probabilities: Floats, targets: Ints, folds: Ints, labels: Sequence[str], draws: Draws
) -> Calibration:
    """What a temperature does to the log loss and to the calibration; see `calibrated`."""
    every = probabilities.reshape(-1, probabilities.shape[-1])  # (R * N, C)
    return Calibration(
        fit_temperature(every, np.tile(targets, len(probabilities))),
        score(targets, probabilities, labels, draws),
        score(targets, calibrated(probabilities, targets, folds), labels, draws),
    )


def conformal_threshold(
    probabilities: Floats, targets: Ints, coverage: float, *, groups: Ints | None = None
) -> float:
    """The least probability at which a label is in the set, so that sets cover the truth.

    One less the quantile ceil((n + 1) * coverage) / n of 1 - p of the true label (Sadinle et al.
    2019, LAC). Each group of duplicates counts as one of the n: its rows share its weight (Dunn et
    al. 2022). Too few groups for such a coverage give 0, every label.

    Args:
        probabilities: Shape (N, C).
        targets: Shape (N,).
        coverage: Share of rows whose set should hold the true label.
        groups: Shape (N,); none is one for each row.
    """
    rows = np.arange(len(targets))
    _, index, sizes = np.unique(
        rows if groups is None else groups, return_inverse=True, return_counts=True
    )
    count = len(sizes)
    needed = math.ceil((count + 1) * coverage - 1e-9)
    if needed > count:
        return 0.0
    missed = 1 - probabilities[rows, targets].astype(np.float64)
    order = np.argsort(missed, kind="stable")
    reached = np.cumsum(1 / sizes[index[order]])
    place = int(np.searchsorted(reached, needed - 1e-9))
    return float(1 - missed[order[min(place, len(order) - 1)]])


def prediction_sets(probabilities: Floats, threshold: float) -> Bools:
    """Labels of at least this probability, and always the most probable one, (..., C)."""
    inside = probabilities >= np.float32(threshold)
    top = probabilities.argmax(axis=-1)[..., None]
    np.put_along_axis(inside, top, True, axis=-1)
    return np.asarray(inside, dtype=bool)


def conformal(
    probabilities: Floats, targets: Ints, groups: Ints, folds: Ints, *, coverage: float
) -> Conformal:
    """Prediction sets of every row by the threshold of the other folds.

    Args:
        probabilities: Shape (R, N, C), calibrated or not.
        targets: Shape (N,).
        groups: Shape (N,).
        folds: Shape (R, N).
        coverage: Share of rows whose set should hold the true label.
    """
    inside = np.empty(probabilities.shape, dtype=bool)
    for repeat, rows in _parts(folds):
        others = ~rows
        threshold = conformal_threshold(
            probabilities[repeat, others], targets[others], coverage, groups=groups[others]
        )
        inside[repeat, rows] = prediction_sets(probabilities[repeat, rows], threshold)
    sizes = inside.sum(axis=-1)
    shares = np.bincount(sizes.ravel(), minlength=probabilities.shape[-1] + 1) / sizes.size
    mean = np.asarray(probabilities.mean(axis=0), dtype=np.float32)
    return Conformal(
        coverage,
        conformal_threshold(mean, targets, coverage, groups=groups),
        achieved=float(inside[:, np.arange(len(targets)), targets].mean()),
        mean_size=float(sizes.mean()),
        sizes={str(size): float(share) for size, share in enumerate(shares) if size},
    )


def abstention(probabilities: Floats, targets: Ints) -> list[Answered]:
    """Accuracy and macro-F1 of the most confident rows, mean over repeats.

    Args:
        probabilities: Shape (R, N, C).
        targets: Shape (N,).
    """
    classes = probabilities.shape[-1]
    y_pred, order = probabilities.argmax(axis=-1), np.argsort(-probabilities.max(axis=-1), axis=-1)
    out = []
    for share in SHARES:
        count = max(1, round(share * len(targets)))
        found = [
            _scored(confusion(targets[chosen[:count]], guess[chosen[:count]], classes))
            for guess, chosen in zip(y_pred, order, strict=True)
        ]
        accuracy, macro = np.mean(found, axis=0).tolist()
        out.append(Answered(share, accuracy, macro))
    return out


def cascade(text_only: Floats, fused: Floats, targets: Ints, folds: Ints, draws: Draws) -> Cascade:
    """Keep the text-only answer where it is sure; pay for the image elsewhere.

    A threshold is chosen to save most image encodes among those at which macro-F1 is at least the
    fused model's less `TOLERANCE`.

    Args:
        text_only: Shape (R, N, C).
        fused: Shape (R, N, C).
        targets: Shape (N,).
        folds: Shape (R, N), the fold that held each row out.
        draws: Resamples of the rows' groups.
    """
    classes = fused.shape[-1]
    sure, dear = text_only.max(axis=-1), fused.argmax(axis=-1)  # (R, N)
    levels = np.quantile(sure, np.arange(1, STEPS) / STEPS)
    thresholds = np.unique(np.concatenate([[0.0], levels, [NEVER]]))
    kept = sure >= thresholds[:, None, None]  # (T, R, N)
    y_pred = np.where(kept, text_only.argmax(axis=-1), dear)
    chosen, saved = np.empty_like(dear), np.empty(dear.shape)
    for repeat, rows in _parts(folds):
        macro = _mean_f1(y_pred[:, [repeat]][..., ~rows], targets[~rows], classes)
        place = _cheapest(kept[:, [repeat]][..., ~rows], macro)
        chosen[repeat, rows] = y_pred[place, repeat, rows]
        saved[repeat, rows] = kept[place, repeat, rows]
    macro = _mean_f1(y_pred, targets, classes)
    points = zip(thresholds.tolist(), kept.mean(axis=(1, 2)).tolist(), macro.tolist(), strict=True)
    return Cascade(
        float(thresholds[_cheapest(kept, macro)]),
        float(saved.mean()),
        macro_f1_estimate(targets, chosen, classes, draws),
        macro_f1_estimate(targets, dear, classes, draws),
        tuple(CascadePoint(*point) for point in points),
    )


def _cheapest(kept: Bools, macro: Doubles) -> int:
    """The first threshold that saves most, of kept (T, R, n), at a good score (T,).

    The last one, NEVER, has the fused model's score and is always good enough.
    """
    good = macro >= macro[-1] - TOLERANCE
    return int(np.where(good, kept.mean(axis=(1, 2)), -1.0).argmax())


def _mean_f1(y_pred: Ints, targets: Ints, classes: int) -> Doubles:
    """Macro-F1, mean over repeats, (T,), of y_pred (T, R, n)."""
    matrices = [[confusion(targets, each, classes) for each in repeats] for repeats in y_pred]
    return np.asarray(class_f1(np.array(matrices)).mean(axis=(1, 2)))


def _scored(matrix: Doubles) -> tuple[float, float]:
    """Accuracy, and macro-F1 over the classes that occur or are guessed."""
    there = (matrix.sum(axis=0) + matrix.sum(axis=1)) > 0
    return float(np.trace(matrix) / matrix.sum()), float(class_f1(matrix)[there].mean())


def _parts(folds: Ints) -> Iterator[tuple[int, Bools]]:
    """Each repeat's folds: number of the repeat, mask (N,) of the rows that the fold held out."""
    for repeat, numbers in enumerate(folds):
        for number in np.unique(numbers):
            yield repeat, numbers == number


def _summary(scores: Scores) -> dict[str, float]:
    return {"ece": scores.ece.value, "log_loss": scores.log_loss.value}

"""Metrics: scores of probabilities, each with its bootstrap interval over duplicate groups.

A score is the mean over the repeats of the folds of each repeat's metric. Every metric is a
function of sums over rows, written once: `_metrics` gives the value from the sums of all rows and
the interval from the sums of the resampled ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pairfuse.arrays import Doubles, Floats, Ints
from pairfuse.stats.bootstrap import Draws, Estimate, indicator, over_repeats, percentile

#: Names of the scores, in order.
METRICS = (
    "accuracy",
    "macro_f1",
    "weighted_f1",
    "auroc",
    "average_precision",
    "log_loss",
    "brier",
    "ece",
)
#: Probabilities below this count as this in the log loss.
CLIP = 1e-7
#: Bins of equal width in the expected calibration error (Guo et al. 2017).
ECE_BINS = 15
#: Bins of equal frequency that stand for the scores of a class in resampled ranking metrics.
RANK_BINS = 256
#: Groups that the jackknife leaves out in one block.
LEFT_OUT = 1000
_RANKING = ("auroc", "average_precision")
_TINY = 1e-12

Values = NDArray[np.floating]


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class; support is its number of rows."""

    label: str
    support: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows (mean over repeats) whose confidence is in (low, high], its mean, and their accuracy."""

    low: float
    high: float
    rows: float
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Scores:
    """Scores of one arm.

    Attributes:
        rows: N.
        auroc: Mean over the classes of one class against the rest, without classes that have no
            row or all; of two classes that of the second. 0.5 where no class can be ranked.
        average_precision: The same of average precision, without classes that have no row.
        log_loss: In nats; probabilities below `CLIP` count as `CLIP`.
        brier: Sum of squares over the classes, in [0, 2] (Brier 1950).
        ece: Expected calibration error, 15 bins of equal width (Guo et al. 2017).
        classes: In the order of the vocabulary.
        confusion: Rows by (target, prediction), mean over repeats.
        reliability: The bins of the ECE that hold a row.
    """

    rows: int
    accuracy: Estimate
    macro_f1: Estimate
    weighted_f1: Estimate
    auroc: Estimate
    average_precision: Estimate
    log_loss: Estimate
    brier: Estimate
    ece: Estimate
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[float, ...], ...]
    reliability: tuple[ReliabilityBin, ...]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def confusion(targets: Ints, y_pred: Ints, num_classes: int) -> Doubles:
    """Counts of (target, prediction), shape (C, C)."""
    cells = np.bincount(targets * num_classes + y_pred, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.float64)


def class_f1(matrices: Values) -> Doubles:
    """F1 of each class, shape (..., C), from confusion matrices (..., C, C).

    A class that neither occurs nor is predicted counts 0, as in scikit-learn.
    """
    both = np.diagonal(matrices, axis1=-2, axis2=-1)
    total = matrices.sum(axis=-1) + matrices.sum(axis=-2)
    return np.asarray(2 * both / np.maximum(total, _TINY), dtype=np.float64)


def macro_f1(targets: Ints, y_pred: Ints, num_classes: int) -> float:
    """Mean F1 over all classes of the vocabulary."""
    return float(class_f1(confusion(targets, y_pred, num_classes)).mean())


def auroc(targets: Ints, probabilities: Floats) -> float:
    """Area under the ROC curve, as `Scores.auroc`, of probabilities (R, N, C)."""
    return _ranked(targets, probabilities)[0]


def score(targets: Ints, probabilities: Floats, labels: Sequence[str], draws: Draws) -> Scores:
    """Score the out-of-fold probabilities of one arm.

    Intervals are the middle 95 % of the resampled metric. That of macro-F1, by which arms are
    judged, holds its truth with many classes too (`macro_f1_estimate`), and covers the noise
    between repeats that rows do not explain (`over_repeats`). Resampling lifts the ECE, so its
    interval is moved by as much; that of the ranking metrics comes from binned scores and is moved
    by what the bins change.

    Args:
        targets: Shape (N,).
        probabilities: Shape (R, N, C), rows sum to 1.
        labels: C of them.
        draws: Resamples of the N rows' groups.
    """
    cells = _Cells(len(probabilities), len(labels))
    table = cells.of(targets, probabilities)
    total = np.asarray(table.sum(axis=0), dtype=np.float64)[:, None]  # (Q, 1)
    binned = cells.metrics(total)[:, 0]
    drawn = np.concatenate([cells.metrics(sums) for sums in draws.each(table)], axis=1)
    exact = binned.copy()
    exact[[METRICS.index(name) for name in _RANKING]] = _ranked(targets, probabilities)
    shift = exact - binned
    ece = METRICS.index("ece")
    shift[ece] = exact[ece] - drawn[ece].mean()
    estimates = [
        percentile(float(value), row, shift=float(by))
        for value, row, by in zip(exact, drawn, shift, strict=True)
    ]
    named = {
        name: _within(estimate, name)
        for name, estimate in zip(METRICS, estimates[: len(METRICS)], strict=True)
    }
    y_pred = probabilities.argmax(axis=-1)
    named["macro_f1"] = macro_f1_estimate(targets, y_pred, len(labels), draws)
    matrix = cells.matrices(total)[..., 0].mean(axis=0)  # (C, C)
    rest, count = estimates[len(METRICS) :], len(labels)
    of_classes = zip(rest[:count], rest[count : 2 * count], rest[2 * count :], strict=True)
    return Scores(
        rows=len(targets),
        **named,
        classes=tuple(
            ClassScores(label, int(support), *found)
            for label, support, found in zip(labels, matrix.sum(axis=1), of_classes, strict=True)
        ),
        confusion=tuple(tuple(row) for row in matrix.tolist()),
        reliability=_reliability(targets, probabilities),
    )


def confusion_cells(targets: Ints, y_pred: Ints, num_classes: int) -> sparse.csr_array:
    """Confusion cells of each row, (N, R * C * C), from y_pred (R, N)."""
    width = num_classes**2
    return sparse.hstack(
        [indicator(targets * num_classes + each, width) for each in y_pred], format="csr"
    )


def mean_f1(sums: Values, num_classes: int, *, arms: int = 1) -> Doubles:
    """Macro-F1, mean over repeats, (A, B), from sums (A * R * C * C, B) of `confusion_cells`."""
    shape = (arms, -1, num_classes, num_classes, sums.shape[-1])
    matrices = np.moveaxis(sums.astype(np.float64).reshape(shape), -1, 1)  # (A, B, R, C, C)
    return np.asarray(class_f1(matrices).mean(axis=(-2, -1)))


def drawn_macro_f1(targets: Ints, y_pred: Ints, num_classes: int, draws: Draws) -> Doubles:
    """Macro-F1 of y_pred (R, N) in each resample: (R, resamples)."""
    cells = _f1_cells(targets, y_pred, num_classes)
    return np.concatenate([_macro_f1s(sums, num_classes) for sums in draws.each(cells)], axis=1)


def macro_f1_estimate(targets: Ints, y_pred: Ints, num_classes: int, draws: Draws) -> Estimate:
    """Macro-F1 of y_pred (R, N), mean over repeats, with its interval.

    A class that a resample lacks counts 0 there, so resamples score too low: of 99 classes in 1,000
    rows their middle 95 % holds the truth in half of the samples. Therefore

    - the resamples are moved to where the value is after its bias was taken from it. The bias is
      what they score minus the value, where classes that a resample lacks count half. Of 8 sizes of
      samples, 60 to 300 each, the worst held the truth in 93 % so, in 92 % with them left out (most
      misses above) and in 92 % with them as 0 (most below): a choice within what chance explains;
    - where some resample lacks a class, their standard error is at least that of the jackknife over
      groups (Efron & Stein 1981): a class of one row is either right or absent, never wrong once.

    Then as `over_repeats` has it.
    """
    found = np.array([macro_f1(targets, each, num_classes) for each in y_pred])
    drawn = drawn_macro_f1(targets, y_pred, num_classes, draws)
    occurring = indicator(targets, num_classes)
    held = np.concatenate([(sums > 0).sum(axis=0) for sums in draws.each(occurring)])
    classes = len(np.unique(targets))
    counted = (held + classes) / 2
    bias = float((drawn.mean(axis=0) * counted / held).mean() - found.mean())
    rare = held.min() < classes
    estimate, _ = over_repeats(
        found,
        drawn,
        centre=float(found.mean()) - bias,
        least_error=_jackknife_error(targets, y_pred, num_classes, draws) if rare else 0.0,
    )
    return _within(estimate, "macro_f1")


def _f1_cells(targets: Ints, y_pred: Ints, num_classes: int) -> sparse.csr_array:
    """What F1 is made of, for each repeat: hits, and rows plus predictions: (N, R * 2 * C)."""
    occurring = indicator(targets, num_classes)
    parts = []
    for each in y_pred:
        hits = indicator(targets, num_classes, (each == targets).astype(np.float64))
        parts += [hits, occurring + indicator(each, num_classes)]
    return sparse.hstack(parts, format="csr")


def _macro_f1s(sums: Values, num_classes: int) -> Doubles:
    """Macro-F1 of each repeat, (R, B), from sums (R * 2 * C, B) of `_f1_cells`."""
    parts = sums.astype(np.float64).reshape(-1, 2, num_classes, sums.shape[-1])
    f1 = 2 * parts[:, 0] / np.maximum(parts[:, 1], _TINY)  # (R, C, B)
    return np.asarray(f1.mean(axis=1))


def _jackknife_error(targets: Ints, y_pred: Ints, num_classes: int, draws: Draws) -> float:
    """Standard error of macro-F1, mean over repeats, from leaving out one group at a time."""
    groups = draws.member @ _f1_cells(targets, y_pred, num_classes)  # (G, Q)
    total = groups.sum(axis=0)[:, None]
    left = np.concatenate(
        [
            _macro_f1s(total - groups[start : start + LEFT_OUT].T.toarray(), num_classes)
            for start in range(0, draws.groups, LEFT_OUT)
        ],
        axis=1,
    ).mean(axis=0)  # (G,)
    return float(left.std() * np.sqrt(draws.groups - 1))


@dataclass(frozen=True)
class _Cells:
    """Which columns hold what: confusion, gaps by confidence, ranks, log loss, squares."""

    repeats: int
    num_classes: int

    @property
    def ranked(self) -> range:
        """Classes whose ranking counts."""
        return range(1, 2) if self.num_classes == 2 else range(self.num_classes)

    @property
    def widths(self) -> list[int]:
        ranks = len(self.ranked) * 2 * RANK_BINS
        return [self.repeats * each for each in (self.num_classes**2, ECE_BINS, ranks)]

    def of(self, targets: Ints, probabilities: Floats) -> sparse.csr_array:
        """Cells of each row, (N, Q)."""
        confidence = probabilities.max(axis=-1)
        y_pred = probabilities.argmax(axis=-1)
        gaps = (y_pred == targets) - confidence.astype(np.float64)
        bins = _confidence_bins(confidence)
        parts = [confusion_cells(targets, y_pred, self.num_classes)]
        parts += [indicator(at, ECE_BINS, gap) for at, gap in zip(bins, gaps, strict=True)]
        for each in probabilities:
            for target in self.ranked:
                at = _rank_bins(each[:, target]) + RANK_BINS * (targets == target)
                parts.append(indicator(at, 2 * RANK_BINS))
        parts.append(sparse.csr_array(_proper(targets, probabilities)))
        return sparse.hstack(parts, format="csr")

    def matrices(self, sums: Values) -> Values:
        """Confusion matrices, (R, C, C, B)."""
        shape = (self.repeats, self.num_classes, self.num_classes, sums.shape[-1])
        return sums[: self.widths[0]].reshape(shape)

    def metrics(self, sums: Values) -> Values:
        """All metrics in the order of METRICS, then precision, recall and F1 of each class: (M, B).

        Args:
            sums: Shape (Q, B).
        """
        _, gaps, ranks, proper = np.split(sums, np.cumsum(self.widths))
        matrices = self.matrices(sums).astype(np.float64)
        hits = np.einsum("rccb->rcb", matrices)
        occur, predicted = matrices.sum(axis=2), matrices.sum(axis=1)  # (R, C, B)
        rows = occur[0].sum(axis=0)  # (B,)
        f1 = 2 * hits / np.maximum(occur + predicted, _TINY)
        gaps = np.abs(gaps.reshape(self.repeats, ECE_BINS, -1))
        auroc, precisions = self._ranking(ranks)
        summary = [
            hits.sum(axis=1).mean(axis=0) / rows,
            f1.mean(axis=(0, 1)),
            (f1 * occur).sum(axis=1).mean(axis=0) / rows,
            auroc,
            precisions,
            *(proper / rows),
            gaps.sum(axis=1).mean(axis=0) / rows,
        ]
        per_class = [hits / np.maximum(predicted, 1), hits / np.maximum(occur, 1), f1]
        return np.concatenate([np.stack(summary), *(each.mean(axis=0) for each in per_class)])

    def _ranking(self, ranks: Values) -> tuple[Values, Values]:
        shape = (self.repeats, len(self.ranked), 2, RANK_BINS, ranks.shape[-1])
        table = ranks.reshape(shape)
        areas, precisions = [], []
        for repeat in table:
            areas.append(_known_mean([_auroc(*each) for each in repeat], empty=np.nan))
            precisions.append(
                _known_mean([_average_precision(*each) for each in repeat], empty=np.nan)
            )
        return np.mean(areas, axis=0), np.mean(precisions, axis=0)


def _ranked(targets: Ints, probabilities: Floats) -> list[float]:
    """AUROC and average precision from the scores themselves."""
    ranked = _Cells(len(probabilities), probabilities.shape[-1]).ranked
    found = []
    for each in probabilities:
        tables = []
        for target in ranked:
            values, place = np.unique(each[:, target], return_inverse=True)
            hits = targets == target
            counts = [np.bincount(place[side], minlength=len(values)) for side in (~hits, hits)]
            tables.append([count.astype(np.float64)[:, None] for count in counts])
        area = _known_mean([_auroc(*table) for table in tables], empty=0.5)
        precision = _known_mean([_average_precision(*table) for table in tables], empty=0.0)
        found.append((float(area[0]), float(precision[0])))
    return [sum(values) / len(found) for values in zip(*found, strict=True)]


def _auroc(misses: Values, hits: Values) -> Values:
    """Area under the ROC curve, shape (B,), from counts (bins, B) of rising score; ties are half.

    Not a number where a side is empty.
    """
    below = np.cumsum(misses, axis=0) - misses / 2
    pairs = hits.sum(axis=0) * misses.sum(axis=0)
    area = (hits * below).sum(axis=0)
    return np.where(pairs > 0, area / np.maximum(pairs, 1), np.nan)


def _average_precision(misses: Values, hits: Values) -> Values:
    """Mean precision at each hit, shape (B,), from counts (bins, B) of rising score."""
    found = np.cumsum(hits[::-1], axis=0)
    taken = found + np.cumsum(misses[::-1], axis=0)
    area = (hits[::-1] * found / np.maximum(taken, 1)).sum(axis=0)
    return np.where(found[-1] > 0, area / np.maximum(found[-1], 1), np.nan)


def _known_mean(values: Sequence[Values], *, empty: float) -> Values:
    """Mean over the classes of what is a number, shape (B,)."""
    table = np.stack(values)
    known = ~np.isnan(table)
    total = np.where(known, table, 0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), empty)


def _rank_bins(scores: Floats) -> Ints:
    """Bin of each score, rising, in [0, RANK_BINS); equal scores share a bin."""
    values, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    if len(values) <= RANK_BINS:
        return place
    below = np.cumsum(counts) - counts
    bins: Ints = (below * RANK_BINS // len(scores))[place]
    return bins


def _confidence_bins(confidence: Floats) -> Ints:
    """Bin of each confidence: bin m holds (m / 15, (m + 1) / 15]."""
    at = np.ceil(confidence.astype(np.float64) * ECE_BINS).astype(np.int64) - 1
    return np.clip(at, 0, ECE_BINS - 1)


def _proper(targets: Ints, probabilities: Floats) -> Doubles:
    """Log loss and Brier score of each row, mean over repeats: (N, 2)."""
    exact = probabilities.astype(np.float64)
    own = exact[:, np.arange(len(targets)), targets]  # (R, N)
    losses = -np.log(np.maximum(own, CLIP))
    squares = (exact**2).sum(axis=-1) - 2 * own + 1
    return np.stack([losses.mean(axis=0), squares.mean(axis=0)], axis=1)


def _reliability(targets: Ints, probabilities: Floats) -> tuple[ReliabilityBin, ...]:
    confidence = probabilities.max(axis=-1).astype(np.float64).ravel()
    right = (probabilities.argmax(axis=-1) == targets).ravel()
    bins = _confidence_bins(confidence)
    rows, sure, correct = (
        np.bincount(bins, weights=weights, minlength=ECE_BINS)
        for weights in (None, confidence, right.astype(np.float64))
    )
    return tuple(
        ReliabilityBin(
            low=at / ECE_BINS,
            high=(at + 1) / ECE_BINS,
            rows=float(rows[at] / len(probabilities)),
            confidence=float(sure[at] / rows[at]),
            accuracy=float(correct[at] / rows[at]),
        )
        for at in np.flatnonzero(rows).tolist()
    )


def _within(estimate: Estimate, name: str) -> Estimate:
    """Keep an interval that was moved inside what the metric can be."""
    if name not in (*_RANKING, "ece", "macro_f1"):
        return estimate
    return Estimate(estimate.value, max(estimate.low, 0.0), min(estimate.high, 1.0))

"""Metrics: scores of guesses, with bootstrap intervals over duplicate groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from pairfuse.features.table import Ints

Counts = NDArray[np.float64]
Interval = tuple[float, float]
#: Memory of one block of bootstrap draws, in numbers.
_BLOCK = 8_000_000


@dataclass(frozen=True)
class Scores:
    """Scores of one set of predictions; per-class F1 in the order of the vocabulary."""

    rows: int
    accuracy: float
    macro_f1: float
    weighted_f1: float
    class_f1: dict[str, float]
    macro_f1_interval: Interval
    accuracy_interval: Interval

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def confusion(targets: Ints, guesses: Ints, num_classes: int) -> Counts:
    """Counts of (target, guess), shape (C, C)."""
    cells = np.bincount(targets * num_classes + guesses, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.float64)


def class_f1(matrices: Counts) -> Counts:
    """F1 of each class, shape (..., C), from confusion matrices (..., C, C).

    A class that neither occurs nor is guessed counts 0, as in scikit-learn.
    """
    both = np.diagonal(matrices, axis1=-2, axis2=-1)
    total = matrices.sum(axis=-1) + matrices.sum(axis=-2)
    return np.asarray(2 * both / np.maximum(total, 1e-12))


def macro_f1(targets: Ints, guesses: Ints, num_classes: int) -> float:
    """Mean F1 over all classes of the vocabulary."""
    return float(class_f1(confusion(targets, guesses, num_classes)).mean())


def score(
    targets: Ints, guesses: Ints, groups: Ints, labels: Sequence[str], *, seed: int
) -> Scores:
    """Score guesses, shape (N,), with 95 % intervals from 2,000 resamples of groups."""
    matrix = confusion(targets, guesses, len(labels))
    per_class = class_f1(matrix)
    support = matrix.sum(axis=1)
    drawn = bootstrap(_cells(targets, guesses, len(labels)), groups, seed=seed)
    drawn = drawn.reshape(len(drawn), len(labels), len(labels))
    return Scores(
        rows=len(targets),
        accuracy=float(np.trace(matrix) / len(targets)),
        macro_f1=float(per_class.mean()),
        weighted_f1=float(per_class @ support / support.sum()),
        class_f1=dict(zip(labels, per_class.tolist(), strict=True)),
        macro_f1_interval=interval(class_f1(drawn).mean(axis=-1)),
        accuracy_interval=interval(np.trace(drawn, axis1=1, axis2=2) / drawn.sum(axis=(1, 2))),
    )


def difference(
    targets: Ints, ours: Ints, theirs: Ints, groups: Ints, num_classes: int, *, seed: int
) -> tuple[float, Interval]:
    """Macro-F1 of `ours` less that of `theirs`, with its paired bootstrap interval."""
    both = np.concatenate(
        [_cells(targets, ours, num_classes), _cells(targets, theirs, num_classes)], axis=1
    )
    drawn = bootstrap(both, groups, seed=seed).reshape(-1, 2, num_classes, num_classes)
    values = class_f1(drawn).mean(axis=-1)
    found = macro_f1(targets, ours, num_classes) - macro_f1(targets, theirs, num_classes)
    return found, interval(values[:, 0] - values[:, 1])


def bootstrap(cells: Counts, groups: Ints, *, seed: int, resamples: int = 2000) -> Counts:
    """Sums of per-row cells over resampled groups (Efron 1979; groups drawn with replacement).

    Args:
        cells: Shape (N, Q).
        groups: Shape (N,).
        seed: Seed of the draws.
        resamples: R.

    Returns:
        Shape (R, Q).
    """
    names, index = np.unique(groups, return_inverse=True)
    summed = np.zeros((len(names), cells.shape[1]))
    np.add.at(summed, index, cells)
    random = np.random.default_rng(seed)
    out, done = np.empty((resamples, cells.shape[1])), 0
    while done < resamples:
        block = min(resamples - done, max(1, _BLOCK // len(names)))
        draws = random.integers(len(names), size=(block, len(names)))
        draws += np.arange(block)[:, None] * len(names)
        times = np.bincount(draws.ravel(), minlength=block * len(names))
        out[done : done + block] = times.reshape(block, -1) @ summed
        done += block
    return out


def interval(values: Counts) -> Interval:
    """The middle 95 %."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _cells(targets: Ints, guesses: Ints, num_classes: int) -> Counts:
    cells: Counts = np.eye(num_classes**2)[targets * num_classes + guesses]
    return cells

"""Selective prediction: how good the most confident predictions are, by the share of rows kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pairfuse.arrays import Doubles, Floats, Ints
from pairfuse.stats.metrics import class_f1, confusion

#: Shares of the rows, the most confident first, at which scores are given.
COVERAGES = tuple(tenth / 10 for tenth in range(1, 11))


@dataclass(frozen=True)
class SelectivePoint:
    """Scores of the most confident share of the rows.

    `macro_f1` is over the classes that occur or are predicted among them.
    """

    coverage: float
    accuracy: float
    macro_f1: float


def selective_curve(probabilities: Floats, targets: Ints) -> list[SelectivePoint]:
    """Accuracy and macro-F1 of the most confident rows (Geifman & El-Yaniv 2017), at `COVERAGES`.

    Args:
        probabilities: Shape (R, N, C); the scores are means over the R repeats.
        targets: Shape (N,).
    """
    classes = probabilities.shape[-1]
    y_pred = probabilities.argmax(axis=-1)  # (R, N)
    order = np.argsort(-probabilities.max(axis=-1), axis=-1)
    out = []
    for coverage in COVERAGES:
        count = max(1, round(coverage * len(targets)))
        found = [
            _scores(confusion(targets[kept[:count]], predicted[kept[:count]], classes))
            for predicted, kept in zip(y_pred, order, strict=True)
        ]
        accuracy, macro = np.mean(found, axis=0).tolist()
        out.append(SelectivePoint(coverage=coverage, accuracy=accuracy, macro_f1=macro))
    return out


def _scores(matrix: Doubles) -> tuple[float, float]:
    """Accuracy, and macro-F1 over the classes that occur or are predicted."""
    occurring = (matrix.sum(axis=0) + matrix.sum(axis=1)) > 0
    return float(np.trace(matrix) / matrix.sum()), float(class_f1(matrix)[occurring].mean())

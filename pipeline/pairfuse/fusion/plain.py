"""Plain models' rows: a fold's rows and classes, the choice on its validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pairfuse.arrays import Floats, Ints
from pairfuse.stats.metrics import macro_f1

#: Probabilities below this count as this in logarithms.
_LEAST = 1e-6


@dataclass(frozen=True)
class Fold:
    """Rows to train on and to choose by, with all rows' targets."""

    targets: Ints  # (N,)
    num_classes: int
    train: Ints
    val: Ints
    seed: int

    @cached_property
    def both(self) -> Ints:
        """Training and validation rows."""
        return np.union1d(self.train, self.val)

    @cached_property
    def classes(self) -> Ints:
        """Classes that these rows have, shape (K,)."""
        return np.unique(self.targets[self.both])

    @property
    def size(self) -> int:
        """K."""
        return len(self.classes)

    def y(self, rows: Ints) -> Ints:
        """Targets of these rows among the K classes."""
        return np.asarray(np.searchsorted(self.classes, self.targets[rows]), dtype=np.int64)


def best_on(candidates: Sequence[Floats], fold: Fold) -> int:
    """Which of the predictions (n, C) of the validation rows is best: macro-F1, then log loss."""
    targets = fold.targets[fold.val]

    def worth(probabilities: Floats) -> tuple[float, float]:
        chosen = np.maximum(probabilities[np.arange(len(targets)), targets], _LEAST)
        f1 = macro_f1(targets, probabilities.argmax(axis=1), fold.num_classes)
        return f1, float(np.log(chosen).mean())

    return max(range(len(candidates)), key=lambda number: worth(candidates[number]))


def spread(probabilities: Floats, classes: Ints, num_classes: int) -> Floats:
    """Columns of K classes, (N, K), to those of all, (N, C); the others are 0."""
    out = np.zeros((len(probabilities), num_classes), dtype=np.float32)
    out[:, classes] = probabilities
    return out

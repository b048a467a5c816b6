"""Predictions of two models alike, of many unequal classes, whose true macro-F1 is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pairfuse.arrays import Doubles, Ints
from pairfuse.stats.metrics import class_f1

#: The largest class is so many times the smallest.
IMBALANCE = 10.0
#: Recall of a class is between these.
RECALL = (0.35, 0.95)


@dataclass(frozen=True)
class Sample:
    """N rows of the classes that occur among them, as a vocabulary is read from its data set.

    `y_pred` has shape (2, N): two models that err alike but for chance. `truth` is the macro-F1
    that both have over these classes on endless rows.
    """

    targets: Ints
    y_pred: Ints
    num_classes: int
    truth: float


def draw_sample(classes: int, rows: int, *, seed: int) -> Sample:
    """Draw what is known of a world, then rows from it."""
    random = np.random.default_rng([seed, classes, rows])
    shares = IMBALANCE ** (-np.arange(classes) / (classes - 1))
    shares /= shares.sum()
    chances = _confusion_rates(shares, random)  # (C, C)
    occurring, targets = np.unique(random.choice(classes, rows, p=shares), return_inverse=True)
    shares = shares[occurring] / shares[occurring].sum()
    chances = chances[np.ix_(occurring, occurring)]
    chances /= chances.sum(axis=1, keepdims=True)
    steps = chances.cumsum(axis=1)[targets]  # (N, C)
    y_pred = np.stack([(random.random((rows, 1)) > steps).sum(axis=1) for _ in range(2)])
    return Sample(
        targets=targets,
        y_pred=y_pred.clip(max=len(occurring) - 1),
        num_classes=len(occurring),
        truth=float(class_f1(shares[:, None] * chances).mean()),
    )


def _confusion_rates(shares: Doubles, random: np.random.Generator) -> Doubles:
    """How often each class is predicted as each other: by its own errors and by the frequent."""
    classes = len(shares)
    errors = 0.5 * random.dirichlet(np.full(classes, 0.3), size=classes) + 0.5 * shares
    np.fill_diagonal(errors, 0)
    recall = random.uniform(*RECALL, size=classes)
    rates = errors / errors.sum(axis=1, keepdims=True) * (1 - recall)[:, None]
    np.fill_diagonal(rates, recall)
    return np.asarray(rates)

"""Mixture: which models join the final ensemble, and with what weight.

Greedy selection with replacement (Caruana et al. 2004, as in AutoGluon): beginning with nothing,
the model whose probabilities raise the metric of the mean most is added, again and again; a model's
weight is how often it was added. Selection looks at out-of-fold probabilities only. What is
reported of a fold comes from weights that were selected on the rows of the other folds, without
twins of its own (published folds may have some), so that no score was selected on the rows that it
is computed from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pairfuse.arrays import Floats, Ints
from pairfuse.fusion.fitting import ScaledRowSet
from pairfuse.study.crossfit import CrossFit, Table, combine
from pairfuse.study.folds import outer_folds
from pairfuse.study.objective import metric_of

#: Models that are added, those added again included.
ADDITIONS = 25


def mixture(
    fits: Sequence[CrossFit], table: Table, prepared: Sequence[ScaledRowSet]
) -> tuple[CrossFit, list[float]]:
    """The mixture of fits on the same rows, and the share of each in it.

    Args:
        fits: K candidates; of equal ones the earlier is preferred.
        table: Labelled rows; its metric is what selection maximises.
        prepared: Row sets of the folds.
    """
    folds = outer_folds(prepared)
    every = np.stack([fit.probabilities for fit in fits])  # (K, R, N, C)
    rows = np.arange(len(table.targets))
    fold_weights = []
    for fold in folds:
        inside = rows[~np.isin(table.groups, table.groups[fold.held_out])]
        fold_weights.append(select(every[:, fold.repeat, inside], table, inside))
    weights = select(every.mean(axis=1), table, rows)
    return combine(fits, weights, fold_weights, folds=folds), weights


def shares_in_words(shares: Mapping[str, float]) -> str:
    """Each model with its share of a mixture, the largest first."""
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:.0%}" for name, share in ordered)


def select(probabilities: Floats, table: Table, rows: Ints) -> list[float]:
    """The share of each candidate, (K,), their sum is 1.

    Args:
        probabilities: Shape (K, n, C), of these rows, which the candidates had not seen.
        table: Labelled rows.
        rows: Shape (n,).
    """
    counts = np.zeros(len(probabilities))
    total = np.zeros(probabilities.shape[1:])
    best, best_counts = -np.inf, counts
    for _ in range(ADDITIONS):
        values = [metric_of(table, rows, total + each) for each in probabilities]
        chosen = int(np.argmax(values))
        counts = counts.copy()
        counts[chosen] += 1
        total += probabilities[chosen]
        if values[chosen] > best:
            best, best_counts = values[chosen], counts
    return [float(share) for share in best_counts / best_counts.sum()]

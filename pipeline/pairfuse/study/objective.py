"""Objective: the metric that a search maximises, as the publishers of a data set score by it.

The evidence that compares arms is of macro-F1 whatever the objective is, so that what is said of
two data sets can be compared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pairfuse.arrays import Doubles, Floats, Ints
from pairfuse.stats.bootstrap import Draws, Estimate, percentile
from pairfuse.stats.metrics import Scores, auroc, macro_f1
from pairfuse.study.crossfit import CrossFit, Table


def objective(table: Table, rows: Ints, fit: CrossFit) -> float:
    """The table's metric of these rows, all of which the fit held out.

    Args:
        table: Labelled rows.
        rows: Shape (n,).
        fit: Its probabilities are of all rows.
    """
    return metric_of(table, rows, fit.mean[rows])


def metric_of(table: Table, rows: Ints, probabilities: NDArray[np.floating]) -> float:
    """The table's metric of these rows.

    Args:
        table: Labelled rows.
        rows: Shape (n,).
        probabilities: Shape (n, C), or such a sum of several models' as ranks the classes alike.
    """
    if table.metric == "auroc":
        return auroc(table.targets[rows], probabilities[None])
    y_pred = probabilities.argmax(axis=1)
    if table.metric == "macro_f1":
        return macro_f1(table.targets[rows], y_pred, len(table.labels))
    return float(_credit(table, y_pred, rows).mean(dtype=np.float64))


def objective_estimate(
    table: Table, probabilities: Floats, scores: Scores, draws: Draws
) -> Estimate:
    """The table's metric of out-of-fold probabilities, with its bootstrap interval.

    Args:
        table: Labelled rows.
        probabilities: Shape (R, N, C).
        scores: Of the same probabilities; they hold every metric but VQA accuracy.
        draws: Bootstrap draws of the table's groups.
    """
    if table.metric != "vqa_accuracy":
        found: Estimate = getattr(scores, table.metric)
        return found
    rows = np.arange(len(table.targets))
    repeats = [_credit(table, y_pred, rows) for y_pred in probabilities.argmax(axis=-1)]
    credit = np.mean(repeats, axis=0)  # (N,)
    # A draw takes whole groups, so the number of its rows varies: a ratio of sums, not a mean.
    sums = draws.sums(np.stack([credit, np.ones_like(credit)], axis=1))  # (draws, 2)
    return percentile(float(credit.mean()), sums[:, 0] / sums[:, 1])


def _credit(table: Table, y_pred: Ints, rows: Ints) -> Floats | Doubles:
    """How right each prediction is, 0 to 1, shape (n,): VQA accuracy gives a part of a point."""
    if table.metric == "vqa_accuracy":
        assert table.soft_labels is not None  # the workspace refuses the metric without them
        return table.soft_labels.rows(rows).accuracy_of(y_pred)
    return np.asarray(y_pred == table.targets[rows], dtype=np.float64)

"""Objective: the measure that a search maximises, as the publishers of a data set score by it.

The evidence that compares arms is of macro-F1 whatever the objective is.
"""

from __future__ import annotations

import numpy as np

from pairfuse.arrays import Floats, Ints
from pairfuse.stats.bootstrap import Draws, Estimate, percentile
from pairfuse.stats.metrics import Scores, auroc, macro_f1
from pairfuse.study.crossfit import CrossFit, Table


def objective(table: Table, rows: Ints, fit: CrossFit) -> float:
    """The table's metric of these rows, all of which the fit held out."""
    if table.metric == "auroc":
        return auroc(table.targets[rows], fit.mean[None, rows])
    y_pred = fit.y_pred[rows]
    if table.metric == "macro_f1":
        return macro_f1(table.targets[rows], y_pred, len(table.labels))
    return float(_right(table, y_pred, rows).mean())


def official(table: Table, probabilities: Floats, scores: Scores, draws: Draws) -> Estimate:
    """The table's metric of out-of-fold probabilities (R, N, C); all but one are in the scores."""
    if table.metric != "vqa_accuracy":
        found: Estimate = getattr(scores, table.metric)
        return found
    every = np.arange(len(table.targets))
    right = np.mean([_right(table, g, every) for g in probabilities.argmax(axis=-1)], axis=0)
    cells = np.stack([right, np.ones_like(right)], axis=1)  # (N, 2)
    sums = draws.sums(cells)
    return percentile(float(right.mean()), sums[:, 0] / sums[:, 1])


def _right(table: Table, y_pred: Ints, rows: Ints) -> Floats:
    """How right each guess is, 0 to 1, shape (n,)."""
    if table.metric == "vqa_accuracy":
        assert table.answers is not None
        return table.answers.rows(rows).accuracy_of(y_pred)
    return np.asarray(y_pred == table.targets[rows], dtype=np.float32)

"""Stacking: a linear model over the probabilities of several heads (Wolpert 1992).

The linear model, scikit-learn's "final estimator", learns from probabilities and not from labels
(Ting & Witten 1999). What that of a fold learns from is out-of-fold inside the training side of the
fold: no head had seen the rows, and nothing of the fold's held-out rows is in it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pairfuse.arrays import Floats
from pairfuse.console import progress
from pairfuse.fusion.ensemble import class_prior, softmax
from pairfuse.fusion.final_estimator import FinalEstimator, fit_final_estimator
from pairfuse.recipe import Recipe
from pairfuse.study.crossfit import CrossFit, FoldedTable, Table, combine, cross_fit


@dataclass(frozen=True)
class Stacking:
    """What stacking gave: the final estimator of each outer fold and the time that all took."""

    probabilities: Floats  # (R, N, C), out-of-fold
    final_estimators: tuple[FinalEstimator, ...]
    seconds: float


def fit_stacking(
    data: FoldedTable,
    recipes: Sequence[Recipe],
    probabilities: Floats,
    *,
    seed: int,
    device: str,
) -> Stacking:
    """Fit a final estimator inside each fold and let it predict the rows that the fold holds out.

    Args:
        data: Labelled rows with their outer and inner folds.
        recipes: The H recipes to stack.
        probabilities: Shape (H, R, N, C), out-of-fold, of each recipe fitted on the outer folds.
        seed: Seed of the models inside.
        device: A torch device's name.

    Returns:
        Rows without any view that a recipe uses get the prior.
    """
    start = time.perf_counter()
    table = data.table
    out: Floats = np.zeros_like(probabilities[0])
    final_estimators = []
    with progress("stacking folds", len(data.inner), unit="folds") as bar:
        for fold in data.inner:
            inside = table.rows(fold.rows)
            first = fold.outer_sets[0]  # as in a nested fit, each fold has seeds of its own
            fits = cross_fit(inside, fold.prepared, recipes, seed=seed + first, device=device)
            final_estimator = _fit_on(fits, recipes, inside)
            outer = data.prepared[first].rows
            held = probabilities[:, outer.repeat, outer.held_out]  # (H, n, C)
            out[outer.repeat, outer.held_out] = softmax(final_estimator.logits(held))
            final_estimators.append(final_estimator)
            bar.update()
    used = {view for recipe in recipes for view in recipe.views or table.views.features}
    is_empty = ~np.any([table.views.present[view] for view in used], axis=0)  # (N,)
    out[:, is_empty] = class_prior(table.targets, len(table.labels))
    return Stacking(
        probabilities=out,
        final_estimators=tuple(final_estimators),
        seconds=time.perf_counter() - start,
    )


def stacked_ensemble(
    data: FoldedTable,
    recipes: Sequence[Recipe],
    fits: Sequence[CrossFit],
    *,
    seed: int,
    device: str,
) -> CrossFit:
    """One ensemble of several recipes' members, as `combine`, but stacked instead of averaged.

    The ensemble's own final estimator, which predicts new pairs, learns from the out-of-fold
    probabilities of all rows; the scores are those of the folds' final estimators.

    Args:
        data: Labelled rows with their outer and inner folds.
        recipes: The H recipes to stack.
        fits: Each recipe fitted on the outer folds, as `cross_fit` gives them.
        seed: Seed of the models inside.
        device: A torch device's name.
    """
    outer = np.stack([fit.probabilities for fit in fits])  # (H, R, N, C)
    stacking = fit_stacking(data, recipes, outer, seed=seed, device=device)
    average = combine(fits)
    final_estimator = _fit_on(fits, recipes, data.table)
    return CrossFit(
        ensemble=replace(average.ensemble, final_estimator=final_estimator),
        probabilities=stacking.probabilities,
        seconds=average.seconds + stacking.seconds,
        final_estimators=stacking.final_estimators,
    )


def _fit_on(fits: Sequence[CrossFit], recipes: Sequence[Recipe], table: Table) -> FinalEstimator:
    """Fit one final estimator; rows are weighted as strongly as the recipes do on average."""
    strength = float(np.mean([r.balance_strength if r.balance != "none" else 0.0 for r in recipes]))
    return fit_final_estimator(
        np.stack([fit.mean for fit in fits]), table.targets, strength=strength
    )

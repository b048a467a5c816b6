"""Stacking: a linear model over the probabilities of several heads (Wolpert 1992).

What the linear model of a fold learns from is out-of-fold inside the training side of that fold: no
head had seen the rows, and nothing of the fold's held-out rows is in it.
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
from pairfuse.fusion.fitting import ScaledRowSet
from pairfuse.recipe import Recipe
from pairfuse.study.crossfit import CrossFit, Table, combine, cross_fit
from pairfuse.study.nested import Inner


@dataclass(frozen=True)
class Stacked:
    """Out-of-fold probabilities, (R, N, C), the final_estimator of each outer fold, the time that it took."""

    probabilities: Floats
    final_estimators: tuple[FinalEstimator, ...]
    seconds: float


def stack(
    table: Table,
    prepared: Sequence[ScaledRowSet],
    inner: Sequence[Inner],
    recipes: Sequence[Recipe],
    outer: Floats,
    *,
    seed: int,
    device: str = "cpu",
) -> Stacked:
    """Fit a final_estimator inside each fold and let it answer for the rows held out.

    Args:
        table: Labelled rows.
        prepared: Row sets of the outer folds.
        inner: The folds inside each outer fold, as `prepare_inner` deals them.
        recipes: The H heads.
        outer: Shape (H, R, N, C), out-of-fold probabilities of each, fitted on all of `prepared`.
        seed: Seed of the models inside.
        device: A torch device's name.

    Returns:
        Rows without any view that a recipe uses get the prior.
    """
    start = time.perf_counter()
    out: Floats = np.zeros_like(outer[0])
    final_estimators = []
    with progress("stacking folds", len(inner), unit="folds") as bar:
        for fold in inner:
            inside = table.rows(fold.inside)
            base = cross_fit(
                inside, fold.prepared, recipes, seed=seed + fold.outer[0], device=device
            )
            final_estimator = _final_estimator_of(base, recipes, inside)
            rows = prepared[fold.outer[0]].rows
            held = outer[:, rows.repeat, rows.held_out]  # (H, n, C)
            out[rows.repeat, rows.held_out] = softmax(final_estimator.logits(held))
            final_estimators.append(final_estimator)
            bar.update()
    used = {view for recipe in recipes for view in recipe.views or table.views.features}
    lost = ~np.any([table.views.present[view] for view in used], axis=0)
    out[:, lost] = class_prior(table.targets, len(table.labels))
    return Stacked(out, tuple(final_estimators), time.perf_counter() - start)


def stacked_fit(
    table: Table,
    prepared: Sequence[ScaledRowSet],
    inner: Sequence[Inner],
    recipes: Sequence[Recipe],
    fits: Sequence[CrossFit],
    *,
    seed: int,
    device: str = "cpu",
) -> CrossFit:
    """One ensemble of several recipes' members, as `combine`, but blended.

    The ensemble's own final_estimator learns from the out-of-fold probabilities of all rows; the scores are
    those of the final_estimators of the folds.

    Args:
        table: Labelled rows.
        prepared: Row sets of the outer folds.
        inner: The folds inside each outer fold.
        recipes: The H heads.
        fits: Each recipe fitted on all of `prepared`, as `cross_fit` gives them.
        seed: Seed of the models inside.
        device: A torch device's name.
    """
    outer = np.stack([fit.probabilities for fit in fits])
    found = stack(table, prepared, inner, recipes, outer, seed=seed, device=device)
    whole = combine(fits)
    return CrossFit(
        replace(whole.ensemble, final_estimator=_final_estimator_of(fits, recipes, table)),
        found.probabilities,
        whole.seconds + found.seconds,
        found.final_estimators,
    )


def _final_estimator_of(
    fits: Sequence[CrossFit], recipes: Sequence[Recipe], table: Table
) -> FinalEstimator:
    """Rows are weighed as far as the recipes do on average."""
    strength = float(np.mean([r.balance_strength if r.balance != "none" else 0.0 for r in recipes]))
    return fit_final_estimator(
        np.stack([fit.mean for fit in fits]), table.targets, strength=strength
    )

"""Nested tuning: the search runs inside each fold, so the rows that give scores never steer it.

A score of the best of many trials is too high on the rows that chose it (Varma & Simon 2006). Here
each outer fold has a search of its own, over inner folds of the rows that it does not hold out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pairfuse.console import progress
from pairfuse.fusion.fitting import ScaledRowSet, prepare_rows
from pairfuse.recipe import Recipe
from pairfuse.study.crossfit import (
    CrossFit,
    FoldedTable,
    InnerFolds,
    Table,
    combine,
    cross_fit,
    join,
)
from pairfuse.study.folds import count_repeats, make_folds, outer_folds
from pairfuse.study.tuning import SearchSpec, tune

#: Folds of the search inside a fold. Three, not five: the search inside needs a ranking of recipes,
#: not a score, and its cost is this number times that of a plain search.
INNER_FOLDS = 3


def prepare_inner(
    table: Table, prepared: Sequence[ScaledRowSet], *, seed: int, keep_rare: bool = False
) -> list[InnerFolds]:
    """Make the folds inside each outer fold and fit their scalings, once for all arms.

    Args:
        table: Labelled rows.
        prepared: Row sets of the outer folds; an inner fold has one model, whatever these have.
        seed: Seed of the inner folds.
        keep_rare: As in `make_folds`.

    Raises:
        DataError: A class has fewer groups inside a fold than there are inner folds.
    """
    out = []
    outer = outer_folds(prepared)
    with progress("scaling inner folds", len(outer), unit="folds") as bar:
        for fold in outer:
            own = prepared[fold.sets[0]].rows
            rows = np.union1d(own.train, own.val)
            part = table.rows(rows)
            inner = make_folds(
                part.targets,
                part.groups,
                part.labels,
                folds=INNER_FOLDS,
                n_models=1,
                seed=seed,
                keep_rare=keep_rare,
            )
            out.append(
                InnerFolds(
                    rows=rows,
                    prepared=tuple(prepare_rows(part.views, inner, seed=seed)),
                    outer_sets=fold.sets,
                )
            )
            bar.update()
    return out


def nested_fit(
    data: FoldedTable, search: SearchSpec, *, name: str
) -> tuple[tuple[Recipe, ...], CrossFit]:
    """Tune inside each outer fold, fit the recipes found there, predict the rows held out.

    Args:
        data: Labelled rows with their outer and inner folds.
        search: What to search in each fold.
        name: Begins the names of the studies.

    Returns:
        The recipes of all folds, and a fit as `cross_fit` and `combine` make it.
    """
    table = data.table
    shape = count_repeats(data.prepared), len(table.targets), len(table.labels)
    probabilities = np.zeros(shape, dtype=np.float32)
    found: list[tuple[Recipe, ...]] = []
    fits: list[list[CrossFit]] = []
    for fold in data.inner:
        best = tune(table.rows(fold.rows), fold.prepared, search, name=f"{name}-nested")
        own = [data.prepared[number] for number in fold.outer_sets]
        # Seeded by the fold's first row set, so that no two folds start from the same weights.
        seed = search.seed + fold.outer_sets[0]
        each = cross_fit(table, own, best.recipes, seed=seed, device=search.device)
        held, repeat = own[0].rows.held_out, own[0].rows.repeat
        probabilities[repeat, held] = combine(each).probabilities[repeat, held]
        found.append(best.recipes)
        fits.append(each)
    # Searches may end with different numbers of recipes; what is kept is as many as all have, so
    # that the ensemble's members lie recipe by recipe, row set by row set.
    fewest = min(len(each) for each in fits)
    ensemble = join([each[number].ensemble for number in range(fewest) for each in fits])
    seconds = sum(fit.seconds for each in fits for fit in each)
    recipes = tuple(dict.fromkeys(recipe for each in found for recipe in each))
    return recipes, CrossFit(ensemble, probabilities, seconds)

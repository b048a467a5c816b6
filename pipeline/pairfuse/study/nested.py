"""Nested tuning: the search runs inside each fold, so the rows that give scores never steer it.

A score of the best of many trials is too high on the rows that chose it (Varma & Simon 2006). Here
each outer fold has a search of its own, over inner folds of the rows that it does not hold out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pairfuse.console import progress
from pairfuse.fusion.ensemble import mix
from pairfuse.fusion.fitting import ScaledRowSet, prepare_rows
from pairfuse.recipe import Recipe
from pairfuse.study.crossfit import CrossFit, FoldedTable, InnerFolds, Table, cross_fit
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
) -> tuple[tuple[Recipe, ...], dict[str, CrossFit]]:
    """Tune inside each outer fold, fit the recipes found there, predict the rows held out.

    Args:
        data: Labelled rows with their outer and inner folds.
        search: What to search in each fold.
        name: Begins the names of the studies.

    Returns:
        The recipes of all folds; and a fit of each fold's best recipe, of each one's second best,
        and so on, as many as all folds have.
    """
    found: list[tuple[Recipe, ...]] = []
    fits: list[list[CrossFit]] = []
    for fold in data.inner:
        inside = data.table.rows(fold.rows)
        best = tune(inside, fold.prepared, search, name=f"{name}-nested")
        own = [data.prepared[number] for number in fold.outer_sets]
        # Seeded by the fold's first row set, so that no two folds start from the same weights.
        seed = search.seed + fold.outer_sets[0]
        fits.append(cross_fit(data.table, own, best.recipes, seed=seed, device=search.device))
        found.append(best.recipes)
    fewest = min(len(each) for each in fits)
    ranked = {
        f"choice {rank + 1}": _joined([each[rank] for each in fits], data) for rank in range(fewest)
    }
    return tuple(dict.fromkeys(recipe for each in found for recipe in each)), ranked


def _joined(fits: Sequence[CrossFit], data: FoldedTable) -> CrossFit:
    """One fit of those of the single folds."""
    shape = count_repeats(data.prepared), len(data.table.targets), len(data.table.labels)
    probabilities = np.zeros(shape, dtype=np.float32)
    for fold, fit in zip(outer_folds(data.prepared), fits, strict=True):
        probabilities[fold.repeat, fold.held_out] = fit.probabilities[fold.repeat, fold.held_out]
    return CrossFit(
        ensemble=mix([fit.ensemble for fit in fits], [1.0] * len(fits)),
        folds=tuple(fit.folds[0] for fit in fits),
        probabilities=probabilities,
        histories=tuple(history for fit in fits for history in fit.histories),
        seconds=sum(fit.seconds for fit in fits),
    )

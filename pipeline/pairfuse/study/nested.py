"""Nested tuning: the search runs inside each fold, so the rows that give scores never steer it.

Varma & Simon 2006: a score that was searched for on the rows that it is computed from is too high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pairfuse.arrays import Ints
from pairfuse.console import progress
from pairfuse.fusion.fitting import ScaledRowSet, prepare_rows
from pairfuse.recipe import Recipe
from pairfuse.study.crossfit import CrossFit, Table, combine, cross_fit, join
from pairfuse.study.folds import make_folds
from pairfuse.study.tuning import SEARCHED, tune

#: Folds of the search inside a fold.
INNER_FOLDS = 3


@dataclass(frozen=True)
class Inner:
    """What the search inside one outer fold may see.

    `inside` are the outer fold's training and validation rows; `outer` the places of its row sets
    among all; `prepared` number the rows of `inside`.
    """

    inside: Ints
    outer: tuple[int, ...]
    prepared: tuple[ScaledRowSet, ...]


def prepare_inner(
    table: Table, prepared: Sequence[ScaledRowSet], *, members: int, seed: int
) -> list[Inner]:
    """Deal the inner folds of each outer fold and fit their scalings, once for all arms.

    Raises:
        DataError: A class has fewer groups inside a fold than there are inner folds.
    """
    out = []
    with progress("scaling inner folds", len(prepared) // members, unit="folds") as bar:
        for first in range(0, len(prepared), members):
            rows = prepared[first].rows
            inside = np.union1d(rows.train, rows.val)
            part = table.rows(inside)
            dealt = make_folds(
                part.targets, part.groups, part.labels, folds=INNER_FOLDS, members=1, seed=seed
            )
            inner = tuple(prepare_rows(part.views, dealt, seed=seed))
            out.append(Inner(inside, tuple(range(first, first + members)), inner))
            bar.update()
    return out


def nested_fit(
    table: Table,
    prepared: Sequence[ScaledRowSet],
    inner: Sequence[Inner],
    base: Recipe,
    *,
    storage: str,
    name: str,
    trials: int,
    seed: int,
    device: str,
    heads: Sequence[str] = SEARCHED,
) -> tuple[tuple[Recipe, ...], CrossFit]:
    """Tune inside each outer fold, fit what was found there, predict the rows held out.

    Returns:
        The recipes of all folds, and a fit as `cross_fit` and `combine` make it.
    """
    probabilities = np.zeros(
        (1 + max(part.rows.repeat for part in prepared), len(table.targets), len(table.labels)),
        dtype=np.float32,
    )
    found: list[tuple[Recipe, ...]] = []
    fits: list[list[CrossFit]] = []
    for fold in inner:
        best = tune(
            table.rows(fold.inside),
            fold.prepared,
            base,
            storage=storage,
            name=f"{name}-nested",
            trials=trials,
            seed=seed,
            heads=heads,
            device=device,
        )
        own = [prepared[place] for place in fold.outer]
        each = cross_fit(table, own, best.recipes, seed=seed + fold.outer[0], device=device)
        held, repeat = own[0].rows.held_out, own[0].rows.repeat
        probabilities[repeat, held] = combine(each).probabilities[repeat, held]
        found.append(best.recipes)
        fits.append(each)
    together = min(len(each) for each in fits)  # so that members lie recipe by recipe
    ensemble = join([each[number].ensemble for number in range(together) for each in fits])
    seconds = sum(fit.seconds for each in fits for fit in each)
    recipes = tuple(dict.fromkeys(recipe for each in found for recipe in each))
    return recipes, CrossFit(ensemble, probabilities, seconds)

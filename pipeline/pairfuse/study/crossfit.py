"""Cross-fitting: models of every fold and the out-of-fold probabilities that they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pairfuse.features.table import Ints, Views
from pairfuse.fusion.ensemble import (
    Ensemble,
    Member,
    Prepared,
    RecipeWatch,
    class_prior,
    fit_members,
    softmax,
)
from pairfuse.recipe import Recipe

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Table:
    """The labelled pairs of a data set as arrays, aligned row by row."""

    views: Views
    targets: Ints  # (N,)
    groups: Ints  # (N,)
    guids: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class CrossFit:
    """All members, fold by fold, and the probabilities of rows that none of their makers saw."""

    ensemble: Ensemble
    probabilities: Floats  # (N, C), out-of-fold

    @property
    def guesses(self) -> Ints:
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)


def cross_fit(
    table: Table,
    prepared: Sequence[Prepared],
    recipes: Sequence[Recipe],
    *,
    seed: int,
    device: str = "cpu",
    watch: RecipeWatch | None = None,
) -> list[CrossFit]:
    """Train each recipe on every prepared row set and predict the rows that each holds out."""
    fitted = fit_members(
        table.views,
        table.targets,
        prepared,
        recipes,
        num_classes=len(table.labels),
        seed=seed,
        device=device,
        watch=watch,
    )
    prior = class_prior(table.targets, len(table.labels))
    out = []
    for recipe, members in zip(recipes, fitted, strict=True):
        chosen = table.views.only(sorted(recipe.views or table.views.features))
        ensemble = Ensemble(tuple(members), table.labels, prior, dict(chosen.modality), chosen.dims)
        out.append(CrossFit(ensemble, _out_of_fold(chosen, members, prepared, ensemble)))
    return out


def combine(fits: Sequence[CrossFit]) -> CrossFit:
    """One ensemble of several recipes' members; each recipe has the same say."""
    ensembles = [fit.ensemble for fit in fits]
    ensemble = replace(
        ensembles[0],
        members=tuple(member for each in ensembles for member in each.members),
        modality={view: kind for each in ensembles for view, kind in each.modality.items()},
        dims={view: dim for each in ensembles for view, dim in each.dims.items()},
    )
    mean = np.mean([fit.probabilities for fit in fits], axis=0)
    return CrossFit(ensemble, np.asarray(mean, dtype=np.float32))


def _out_of_fold(
    views: Views, members: Sequence[Member], prepared: Sequence[Prepared], ensemble: Ensemble
) -> Floats:
    """Mean over the members that held a row out; the prior where every view is missing."""
    total = np.zeros((len(views), len(ensemble.labels)))
    for member, part in zip(members, prepared, strict=True):
        if member.model.held is not None:
            total[part.rows.held] += softmax(member.model.held)
    lost = ~np.any(list(views.present.values()), axis=0)
    total[lost] = ensemble.prior
    return np.asarray(total / total.sum(axis=1, keepdims=True), dtype=np.float32)

"""Cross-fitting: models of every fold and the out-of-fold probabilities that they give.

Out-of-fold means that a row's probabilities come only from models that did not see the row
(Stone 1974); every score and interval of a study is computed from such probabilities.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pairfuse.arrays import Floats, Ints
from pairfuse.data.soft_labels import SoftLabels
from pairfuse.features.views import Views
from pairfuse.fusion.ensemble import Ensemble, class_prior, softmax
from pairfuse.fusion.final_estimator import FinalEstimator
from pairfuse.fusion.fitting import RecipeCallback, ScaledRowSet, fit_members
from pairfuse.recipe import Recipe
from pairfuse.study.folds import count_repeats


@dataclass(frozen=True)
class Table:
    """The labelled pairs of a data set as arrays, aligned row by row.

    `metric` is what a search maximises. `soft_labels` are there where several annotators labelled
    each pair; models are then trained towards them.
    """

    views: Views
    targets: Ints  # (N,)
    groups: Ints  # (N,)
    guids: tuple[str, ...]
    labels: tuple[str, ...]
    metric: str = "macro_f1"
    soft_labels: SoftLabels | None = None

    def rows(self, index: Ints) -> Table:
        """The chosen rows."""
        return Table(
            views=self.views.rows(index),
            targets=self.targets[index],
            groups=self.groups[index],
            guids=tuple(self.guids[row] for row in index),
            labels=self.labels,
            metric=self.metric,
            soft_labels=self.soft_labels.rows(index) if self.soft_labels else None,
        )


@dataclass(frozen=True)
class InnerFolds:
    """The folds inside one outer fold, made of the rows that it does not hold out.

    `rows` are those rows, among all; `prepared` are the inner row sets, whose row numbers count
    within `rows`; `outer_sets` are the numbers of the outer fold's own row sets.
    """

    rows: Ints
    prepared: tuple[ScaledRowSet, ...]
    outer_sets: tuple[int, ...]


@dataclass(frozen=True)
class FoldedTable:
    """A table with its folds: what every arm, search and model of a study shares.

    `prepared` are the row sets with the scalings fitted on their training rows; `inner` the folds
    inside each fold, empty where nothing is nested or stacked.
    """

    table: Table
    prepared: Sequence[ScaledRowSet]
    inner: Sequence[InnerFolds] = ()

    def only(self, views: Sequence[str]) -> FoldedTable:
        """The same rows and folds with these views alone."""
        return FoldedTable(
            table=replace(self.table, views=self.table.views.only(views)),
            prepared=_only_scalings(self.prepared, views),
            inner=[
                replace(fold, prepared=tuple(_only_scalings(fold.prepared, views)))
                for fold in self.inner
            ],
        )


@dataclass(frozen=True)
class CrossFit:
    """All members, and the probabilities of rows that none of their makers saw.

    The members of the ensemble lie recipe by recipe, for each recipe row set by row set;
    `seconds` is the time that fitting them took. Where the recipes are stacked, `final_estimators`
    are those that gave the probabilities, one for each fold of each repeat.
    """

    ensemble: Ensemble
    probabilities: Floats  # (R, N, C), out-of-fold, of each repeat of the folds
    seconds: float = 0.0
    final_estimators: tuple[FinalEstimator, ...] = ()

    @property
    def mean(self) -> Floats:
        """Mean over the repeats, shape (N, C)."""
        return np.asarray(self.probabilities.mean(axis=0), dtype=np.float32)

    @property
    def y_pred(self) -> Ints:
        """The most probable class by the mean over the repeats, shape (N,)."""
        return np.asarray(self.mean.argmax(axis=1), dtype=np.int64)


def cross_fit(
    table: Table,
    prepared: Sequence[ScaledRowSet],
    recipes: Sequence[Recipe],
    *,
    seed: int,
    device: str = "cpu",
    on_epoch: RecipeCallback | None = None,
) -> list[CrossFit]:
    """Train each recipe on every row set and predict the rows that each holds out.

    Args:
        table: Labelled rows.
        prepared: Row sets with their scalings.
        recipes: All of them are trained together, which costs less than one after another.
        seed: Seed of the models.
        device: A torch device's name.
        on_epoch: Called after each epoch for each recipe; True stops the recipe's models.

    Returns:
        A fit for each recipe; its `seconds` are an equal share of the time that all took.
    """
    start = time.perf_counter()
    fitted = fit_members(
        table.views,
        table.targets,
        prepared,
        recipes,
        num_classes=len(table.labels),
        seed=seed,
        device=device,
        on_epoch=on_epoch,
        soft_labels=table.soft_labels,
    )
    seconds = (time.perf_counter() - start) / len(recipes)
    prior = class_prior(table.targets, len(table.labels))
    out = []
    for recipe, members in zip(recipes, fitted, strict=True):
        chosen = table.views.only(sorted(recipe.views or table.views.features))
        ensemble = Ensemble(
            members=tuple(members),
            labels=table.labels,
            prior=prior,
            modality=dict(chosen.modality),
            dims=chosen.dims,
        )
        out.append(CrossFit(ensemble, _out_of_fold(chosen, ensemble, prepared), seconds))
    return out


def combine(fits: Sequence[CrossFit]) -> CrossFit:
    """One ensemble of several recipes' members; each recipe has the same weight in the mean."""
    mean = np.mean([fit.probabilities for fit in fits], axis=0)
    return CrossFit(
        ensemble=join([fit.ensemble for fit in fits]),
        probabilities=np.asarray(mean, dtype=np.float32),
        seconds=sum(fit.seconds for fit in fits),
    )


def join(ensembles: Sequence[Ensemble]) -> Ensemble:
    """All members of these ensembles, in order, over all their views."""
    return replace(
        ensembles[0],
        members=tuple(member for each in ensembles for member in each.members),
        modality={view: kind for each in ensembles for view, kind in each.modality.items()},
        dims={view: dim for each in ensembles for view, dim in each.dims.items()},
    )


def _out_of_fold(views: Views, ensemble: Ensemble, prepared: Sequence[ScaledRowSet]) -> Floats:
    """Mean over the members that held a row out, shape (R, N, C), zero where none did.

    Rows without any view get the prior.
    """
    total = np.zeros((count_repeats(prepared), len(views), len(ensemble.labels)))
    for member, part in zip(ensemble.members, prepared, strict=True):
        if member.model.held_out is not None:
            total[part.rows.repeat, part.rows.held_out] += softmax(member.model.held_out)
    is_empty = ~np.any(list(views.present.values()), axis=0)  # (N,)
    total[:, is_empty] = ensemble.prior
    # Dividing by the sum, not by a count, keeps rows that no member held out at zero.
    mean = total / np.maximum(total.sum(axis=2, keepdims=True), 1e-12)
    return np.asarray(mean, dtype=np.float32)


def _only_scalings(prepared: Sequence[ScaledRowSet], views: Sequence[str]) -> list[ScaledRowSet]:
    return [
        replace(part, scaling={view: part.scaling[view] for view in views}) for part in prepared
    ]

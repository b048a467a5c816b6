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
from pairfuse.fusion.baselines import Baseline, fit_baseline
from pairfuse.fusion.ensemble import Ensemble, Member, class_prior, equal_weights, mix, softmax
from pairfuse.fusion.fitting import RecipeCallback, ScaledRowSet, fit_members
from pairfuse.recipe import Recipe
from pairfuse.study.folds import Fold, count_repeats, outer_folds


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
    inside each fold, empty where nothing is nested.
    """

    table: Table
    prepared: Sequence[ScaledRowSet]
    inner: Sequence[InnerFolds] = ()

    def only(self, views: Sequence[str], *, texts: bool = False) -> FoldedTable:
        """The same rows and folds with these views alone, and with the raw texts if asked for."""
        chosen = self.table.views.only(views)
        if not texts:
            chosen = replace(chosen, texts=None)
        return FoldedTable(
            table=replace(self.table, views=chosen),
            prepared=_only_scalings(self.prepared, views),
            inner=[
                replace(fold, prepared=tuple(_only_scalings(fold.prepared, views)))
                for fold in self.inner
            ],
        )


@dataclass(frozen=True)
class CrossFit:
    """Models of all folds, and the probabilities of rows that none of their makers saw.

    Attributes:
        ensemble: Predicts new pairs.
        folds: Of each fold of each repeat the ensemble that held its rows out.
        probabilities: Shape (R, N, C), out-of-fold, of each repeat of the folds.
        histories: Epochs of each head that was trained for it.
        seconds: Time that fitting took.
    """

    ensemble: Ensemble
    folds: tuple[Ensemble, ...]
    probabilities: Floats
    histories: tuple[list[dict[str, float]], ...] = ()
    seconds: float = 0.0

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

        def joined(some: Sequence[Member], views: Views = chosen) -> Ensemble:
            return Ensemble(
                members=tuple(some),
                weights=equal_weights(len(some)),
                labels=table.labels,
                prior=prior,
                modality=dict(views.modality),
                dims=views.dims,
            )

        out.append(
            CrossFit(
                ensemble=joined(members),
                folds=tuple(
                    joined([members[number] for number in fold.sets])
                    for fold in outer_folds(prepared)
                ),
                probabilities=_out_of_fold(chosen, members, prepared, prior),
                histories=tuple(member.model.history for member in members),
                seconds=seconds,
            )
        )
    return out


def cross_fit_baseline(
    baseline: Baseline, table: Table, prepared: Sequence[ScaledRowSet], *, seed: int
) -> CrossFit:
    """Fit a baseline in every fold, and once more on all rows for new pairs.

    Args:
        baseline: A row of `BASELINES`.
        table: Labelled rows; what the baseline reads of them is up to it.
        prepared: Row sets; the first of a fold says which rows choose the settings.
        seed: Of what is drawn.
    """
    start = time.perf_counter()
    classes, views = len(table.labels), table.views
    prior = class_prior(table.targets, classes)

    def fitted(train: Ints, val: Ints) -> Ensemble:
        member = fit_baseline(
            baseline, views, table.targets, classes, train=train, val=val, seed=seed
        )
        return Ensemble(
            members=(member,),
            weights=(1.0,),
            labels=table.labels,
            prior=prior,
            modality={view: views.modality[view] for view in member.views},
            dims={view: views.dims[view] for view in member.views},
        )

    folds, ensembles = outer_folds(prepared), []
    probabilities = np.zeros((count_repeats(prepared), len(views), classes), dtype=np.float32)
    for fold in folds:
        own = prepared[fold.sets[0]].rows
        ensembles.append(fitted(own.train, own.val))
        held = views.rows(fold.held_out)
        probabilities[fold.repeat, fold.held_out] = ensembles[-1].predict_proba(held)
    val = prepared[folds[0].sets[0]].rows.val
    train = np.setdiff1d(np.arange(len(views)), val)
    return CrossFit(
        ensemble=fitted(train, val),
        folds=tuple(ensembles),
        probabilities=probabilities,
        seconds=time.perf_counter() - start,
    )


def combine(
    fits: Sequence[CrossFit],
    weights: Sequence[float] | None = None,
    fold_weights: Sequence[Sequence[float]] | None = None,
    *,
    folds: Sequence[Fold],
) -> CrossFit:
    """One fit of several.

    Args:
        fits: K fits on the same rows and folds.
        weights: Of each in the ensemble for new pairs, (K,); none for equal ones.
        fold_weights: Of each in the ensemble of each fold, (F, K); none for `weights`.
        folds: The F folds of all repeats.
    """
    weights = weights or [1.0] * len(fits)
    fold_weights = fold_weights or [weights] * len(folds)
    probabilities = np.zeros_like(fits[0].probabilities)
    for fold, own in zip(folds, fold_weights, strict=True):
        shares = np.asarray(own) / np.sum(own)
        each = np.stack([fit.probabilities[fold.repeat, fold.held_out] for fit in fits])
        probabilities[fold.repeat, fold.held_out] = np.tensordot(shares, each, axes=1)
    return CrossFit(
        ensemble=mix([fit.ensemble for fit in fits], weights),
        folds=tuple(
            mix([fit.folds[number] for fit in fits], own) for number, own in enumerate(fold_weights)
        ),
        probabilities=probabilities,
        histories=tuple(history for fit in fits for history in fit.histories),
        seconds=sum(fit.seconds for fit in fits),
    )


def _out_of_fold(
    views: Views, members: Sequence[Member], prepared: Sequence[ScaledRowSet], prior: Floats
) -> Floats:
    """Mean over the members that held a row out, shape (R, N, C), zero where none did.

    Rows without any view get the prior.
    """
    total = np.zeros((count_repeats(prepared), len(views), len(prior)))
    for member, part in zip(members, prepared, strict=True):
        if member.model.held_out is not None:
            total[part.rows.repeat, part.rows.held_out] += softmax(member.model.held_out)
    is_empty = ~np.any(list(views.present.values()), axis=0)  # (N,)
    total[:, is_empty] = prior
    # Dividing by the sum, not by a count, keeps rows that no member held out at zero.
    mean = total / np.maximum(total.sum(axis=2, keepdims=True), 1e-12)
    return np.asarray(mean, dtype=np.float32)


def _only_scalings(prepared: Sequence[ScaledRowSet], views: Sequence[str]) -> list[ScaledRowSet]:
    return [
        replace(part, scaling={view: part.scaling[view] for view in views}) for part in prepared
    ]

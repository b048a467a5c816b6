"""Cross-fitting: models of every fold and the out-of-fold probabilities that they give."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pairfuse.arrays import Floats, Ints
from pairfuse.data.soft_labels import SoftLabels
from pairfuse.features.views import Views
from pairfuse.fusion.ensemble import Ensemble, Member, class_prior, softmax
from pairfuse.fusion.final_estimator import FinalEstimator
from pairfuse.fusion.fitting import RecipeCallback, ScaledRowSet, fit_members
from pairfuse.recipe import Recipe


@dataclass(frozen=True)
class Table:
    """The labelled pairs of a data set as arrays, aligned row by row.

    `metric` is what a search maximises; `answers` are there where several annotators gave some,
    and are then what models are trained towards.
    """

    views: Views
    targets: Ints  # (N,)
    groups: Ints  # (N,)
    guids: tuple[str, ...]
    labels: tuple[str, ...]
    metric: str = "macro_f1"
    answers: SoftLabels | None = None

    def rows(self, index: Ints) -> Table:
        """The chosen rows."""
        return Table(
            self.views.rows(index),
            self.targets[index],
            self.groups[index],
            tuple(self.guids[row] for row in index),
            self.labels,
            self.metric,
            self.answers.rows(index) if self.answers else None,
        )


@dataclass(frozen=True)
class CrossFit:
    """All members, and the probabilities of rows that none of their makers saw.

    The members of the ensemble lie recipe by recipe, for each recipe row set by row set;
    `seconds` is the time that fitting them took. Where the recipes are stacked, `final_estimators` are those
    that gave the probabilities, one for each fold of each repeat.
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
    """Train each recipe on every prepared row set and predict the rows that each holds out."""
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
        soft_labels=table.answers,
    )
    seconds = (time.perf_counter() - start) / len(recipes)
    prior = class_prior(table.targets, len(table.labels))
    out = []
    for recipe, members in zip(recipes, fitted, strict=True):
        chosen = table.views.only(sorted(recipe.views or table.views.features))
        ensemble = Ensemble(tuple(members), table.labels, prior, dict(chosen.modality), chosen.dims)
        out.append(CrossFit(ensemble, _out_of_fold(chosen, members, prepared, ensemble), seconds))
    return out


def combine(fits: Sequence[CrossFit]) -> CrossFit:
    """One ensemble of several recipes' members; each recipe has the same say."""
    mean = np.mean([fit.probabilities for fit in fits], axis=0)
    return CrossFit(
        join([fit.ensemble for fit in fits]),
        np.asarray(mean, dtype=np.float32),
        sum(fit.seconds for fit in fits),
    )


def join(ensembles: Sequence[Ensemble]) -> Ensemble:
    """All members of these ensembles, in order, over all their views."""
    return replace(
        ensembles[0],
        members=tuple(member for each in ensembles for member in each.members),
        modality={view: kind for each in ensembles for view, kind in each.modality.items()},
        dims={view: dim for each in ensembles for view, dim in each.dims.items()},
    )


def _out_of_fold(
    views: Views, members: Sequence[Member], prepared: Sequence[ScaledRowSet], ensemble: Ensemble
) -> Floats:
    """Mean over the members that held a row out, zero where none did.

    Rows without any view get the prior.
    """
    repeats = 1 + max(part.rows.repeat for part in prepared)
    total = np.zeros((repeats, len(views), len(ensemble.labels)))
    for member, part in zip(members, prepared, strict=True):
        if member.model.held_out is not None:
            total[part.rows.repeat, part.rows.held_out] += softmax(member.model.held_out)
    lost = ~np.any(list(views.present.values()), axis=0)
    total[:, lost] = ensemble.prior
    return np.asarray(total / np.maximum(total.sum(axis=2, keepdims=True), 1e-12), dtype=np.float32)

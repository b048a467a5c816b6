"""Ablation: arms that differ in their views alone: same folds, same search budget, same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pairfuse.arrays import Floats
from pairfuse.console import progress
from pairfuse.data.pairs import MODALITIES
from pairfuse.errors import ConfigError
from pairfuse.fusion.ensemble import class_prior
from pairfuse.fusion.fitting import ScaledRowSet
from pairfuse.recipe import Recipe
from pairfuse.study.crossfit import CrossFit, Table, combine, cross_fit
from pairfuse.study.nested import Inner, nested_fit
from pairfuse.study.stacking import stacked_fit
from pairfuse.study.tuning import SEARCHED, tune

FUSED, TEXT_ONLY, IMAGE_ONLY = "fused", "text-only", "image-only"
#: Arms that look at no view: scikit-learn's DummyClassifier strategies.
PRIOR, MAJORITY = "prior", "majority"


@dataclass(frozen=True)
class Arm:
    """One row of the ablation table: out-of-fold probabilities and what gave them.

    `probabilities` has shape (R, N, C); `views` are those that the arm may use, none of a baseline.
    """

    name: str
    views: tuple[str, ...]
    probabilities: Floats
    recipes: tuple[Recipe, ...] = ()
    fit: CrossFit | None = None

    @property
    def seconds(self) -> float:
        """Time that fitting all its members took."""
        return self.fit.seconds if self.fit else 0.0


@dataclass(frozen=True)
class Budget:
    """What every arm may spend, the heads it may take, and where its trials are kept."""

    storage: str
    trials: int
    members: int
    seed: int
    device: str
    heads: tuple[str, ...] = SEARCHED


def arm_views(table: Table) -> dict[str, list[str]]:
    """The views that each arm may use: all, each modality's, each single one.

    A joint view saw text and image together: it is in the fused arm and in its own, in no other.

    Raises:
        ConfigError: All views are of one modality, so there is nothing to compare.
    """
    arms = {f"{modality}-only": table.views.of(modality) for modality in MODALITIES}
    lacking = [modality for modality in MODALITIES if not arms[f"{modality}-only"]]
    if lacking:
        raise ConfigError(
            f"no {lacking[0]} encoder among {', '.join(table.views.features)}; an ablation needs "
            'one of each modality, as in --encoders "minilm efficientnet-lite0"'
        )
    single = {view: [view] for views in arms.values() if len(views) > 1 for view in views}
    single |= {view: [view] for view in table.views.of("joint")}
    return {FUSED: list(table.views.features), **arms, **single}


def only_views(
    table: Table, prepared: Sequence[ScaledRowSet], views: Sequence[str]
) -> tuple[Table, list[ScaledRowSet]]:
    """Table and scalings of one arm."""
    return replace(table, views=table.views.only(sorted(views))), _narrowed(prepared, views)


def only_inner(inner: Sequence[Inner], views: Sequence[str]) -> list[Inner]:
    """Scalings of the folds inside each fold, of one arm."""
    return [replace(fold, prepared=tuple(_narrowed(fold.prepared, views))) for fold in inner]


def _narrowed(prepared: Sequence[ScaledRowSet], views: Sequence[str]) -> list[ScaledRowSet]:
    return [
        replace(part, scaling={view: part.scaling[view] for view in views}) for part in prepared
    ]


def run_arm(
    name: str,
    views: Sequence[str],
    table: Table,
    prepared: Sequence[ScaledRowSet],
    base: Recipe,
    budget: Budget,
    *,
    inner: Sequence[Inner] = (),
    stacked: Sequence[Inner] = (),
    known: Mapping[tuple[Recipe, ...], CrossFit],
) -> Arm:
    """Tune one arm, then fit its best recipes on all folds with all members.

    With `inner` folds the search runs inside each fold instead; with `stacked` ones the recipes
    are stacked instead of averaged. What is `known` for these very recipes and rows is not fitted
    again.
    """
    own, scalings = only_views(table, prepared, views)
    if inner:
        recipes, fit = nested_fit(
            own,
            scalings,
            only_inner(inner, views),
            base,
            storage=budget.storage,
            name=name,
            trials=budget.trials,
            seed=budget.seed,
            device=budget.device,
            heads=budget.heads,
        )
        return Arm(name, tuple(views), fit.probabilities, recipes, fit)
    best = tune(
        own,
        scalings,
        base,
        storage=budget.storage,
        name=name,
        trials=budget.trials,
        seed=budget.seed,
        heads=budget.heads,
        members=budget.members,
        device=budget.device,
    )
    fitted = known.get(best.recipes) or fit_recipes(
        *(own, scalings, best.recipes),
        seed=budget.seed,
        device=budget.device,
        stacked=only_inner(stacked, views),
    )
    return Arm(name, tuple(views), fitted.probabilities, best.recipes, fitted)


def fit_recipes(
    table: Table,
    prepared: Sequence[ScaledRowSet],
    recipes: Sequence[Recipe],
    *,
    seed: int,
    device: str,
    stacked: Sequence[Inner] = (),
) -> CrossFit:
    """One ensemble of all recipes, each fitted on every row set; a stack with these inner folds."""
    epochs = sum(recipe.epochs for recipe in recipes)
    with progress("fitting folds", epochs, unit="epochs") as bar:

        def watch(number: int, epoch: int, values: Sequence[float]) -> bool:
            bar.update()
            return False

        fits = cross_fit(table, prepared, recipes, seed=seed, device=device, on_epoch=watch)
    if not stacked:
        return combine(fits)
    return stacked_fit(table, prepared, stacked, recipes, fits, seed=seed, device=device)


def baselines(table: Table, prepared: Sequence[ScaledRowSet]) -> list[Arm]:
    """The class frequencies of each fold's own training side, and their largest alone."""
    classes = len(table.labels)
    repeats = 1 + max(part.rows.repeat for part in prepared)
    prior = np.zeros((repeats, len(table.targets), classes), dtype=np.float32)
    for part in prepared:
        inside = np.concatenate([part.rows.train, part.rows.val])
        prior[part.rows.repeat, part.rows.held_out] = class_prior(table.targets[inside], classes)
    majority = np.eye(classes, dtype=np.float32)[prior.argmax(axis=2)]
    return [Arm(PRIOR, (), prior), Arm(MAJORITY, (), majority)]

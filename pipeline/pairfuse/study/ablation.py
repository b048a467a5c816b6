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
from pairfuse.study.crossfit import CrossFit, FoldedTable, Table, combine, cross_fit
from pairfuse.study.folds import count_repeats
from pairfuse.study.nested import nested_fit
from pairfuse.study.stacking import stacked_ensemble
from pairfuse.study.tuning import SearchSpec, tune

FUSED, TEXT_ONLY, IMAGE_ONLY = "fused", "text-only", "image-only"
#: Arms that look at no view, named by the strategies of scikit-learn's DummyClassifier; "majority"
#: is its "most_frequent".
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
    # With one view of a modality its own arm is the modality's arm already.
    single = {view: [view] for views in arms.values() if len(views) > 1 for view in views}
    single |= {view: [view] for view in table.views.of("joint")}
    return {FUSED: list(table.views.features), **arms, **single}


def run_arms(
    data: FoldedTable,
    search: SearchSpec,
    *,
    nested: bool = False,
    stacking: bool = False,
    known: Mapping[tuple[Recipe, ...], CrossFit] | None = None,
) -> list[Arm]:
    """Every arm of the ablation; only the fused one keeps the views that the base recipe names.

    Args:
        data: The labelled rows with all their views, and their folds.
        search: What each arm may spend.
        nested: Search inside each fold.
        stacking: Stack the best recipes instead of averaging them.
        known: Fits of recipes on all of the data, which the fused arm does not repeat.
    """
    other = replace(search, base=replace(search.base, views=()))
    arms = [
        run_arm(
            name,
            data.only(views),
            search if name == FUSED else other,
            nested=nested,
            stacking=stacking,
            known=known if name == FUSED else None,
        )
        for name, views in arm_views(data.table).items()
    ]
    return arms + baselines(data.table, data.prepared)


def run_arm(
    name: str,
    data: FoldedTable,
    search: SearchSpec,
    *,
    nested: bool = False,
    stacking: bool = False,
    known: Mapping[tuple[Recipe, ...], CrossFit] | None = None,
) -> Arm:
    """Tune one arm, then fit its best recipes on all folds with all models.

    Args:
        name: Of the arm.
        data: Labelled rows with the arm's views alone, as `FoldedTable.only` gives them.
        search: What to search; the same for all arms but for the base recipe's views.
        nested: Search inside each fold instead.
        stacking: Stack the best recipes instead of averaging their probabilities. Either needs
            the table's inner folds.
        known: Fits on these very rows by their recipes, which are not made again.
    """
    views = tuple(data.table.views.features)
    if nested:  # each fold has recipes of its own, so there is nothing to fit or stack after it
        recipes, fit = nested_fit(data, search, name=name)
        return Arm(name, views, fit.probabilities, recipes, fit)
    recipes = tune(data.table, data.prepared, search, name=name).recipes
    fit = (known or {}).get(recipes) or fit_recipes(
        data, recipes, seed=search.seed, device=search.device, stacking=stacking
    )
    return Arm(name, views, fit.probabilities, recipes, fit)


def fit_recipes(
    data: FoldedTable,
    recipes: Sequence[Recipe],
    *,
    seed: int,
    device: str,
    stacking: bool = False,
) -> CrossFit:
    """One ensemble of all recipes, each fitted on every row set; averaged, or stacked."""
    epochs = sum(recipe.epochs for recipe in recipes)
    with progress("fitting folds", epochs, unit="epochs") as bar:

        def watch(number: int, epoch: int, values: Sequence[float]) -> bool:
            bar.update()
            return False

        fits = cross_fit(
            data.table, data.prepared, recipes, seed=seed, device=device, on_epoch=watch
        )
    if not stacking:
        return combine(fits)
    return stacked_ensemble(data, recipes, fits, seed=seed, device=device)


def baselines(table: Table, prepared: Sequence[ScaledRowSet]) -> list[Arm]:
    """The class frequencies of each fold's own training side, and their largest alone.

    What does not beat these has learnt nothing from its views.
    """
    classes = len(table.labels)
    shape = count_repeats(prepared), len(table.targets), classes
    prior = np.zeros(shape, dtype=np.float32)
    for part in prepared:
        inside = np.concatenate([part.rows.train, part.rows.val])
        prior[part.rows.repeat, part.rows.held_out] = class_prior(table.targets[inside], classes)
    majority = np.eye(classes, dtype=np.float32)[prior.argmax(axis=2)]
    return [Arm(PRIOR, (), prior), Arm(MAJORITY, (), majority)]

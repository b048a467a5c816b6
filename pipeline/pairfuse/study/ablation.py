"""Ablation: arms that differ in their views alone: same folds, same search budget, same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pairfuse.arrays import Floats
from pairfuse.config import Ensembling
from pairfuse.console import progress
from pairfuse.data.pairs import MODALITIES
from pairfuse.errors import ConfigError
from pairfuse.fusion.baselines import BASELINES, Baseline, Model
from pairfuse.fusion.ensemble import class_prior
from pairfuse.fusion.fitting import ScaledRowSet
from pairfuse.recipe import Recipe
from pairfuse.study.crossfit import (
    CrossFit,
    FoldedTable,
    Table,
    combine,
    cross_fit,
    cross_fit_baseline,
)
from pairfuse.study.folds import count_repeats, outer_folds
from pairfuse.study.mixture import mixture
from pairfuse.study.nested import nested_fit
from pairfuse.study.tuning import SearchSpec, tune

FUSED, TEXT_ONLY, IMAGE_ONLY = "fused", "text-only", "image-only"
#: Arms that look at no view, named by the strategies of scikit-learn's DummyClassifier; "majority"
#: is its "most_frequent".
PRIOR, MAJORITY = "prior", "majority"
#: Fits of heads by the heads' names.
HeadFits = dict[str, CrossFit]


@dataclass(frozen=True)
class Arm:
    """One row of the ablation table: out-of-fold probabilities and what gave them.

    Attributes:
        views: Those that the arm may use; none of a dummy.
        probabilities: Shape (R, N, C).
        recipes: Of its heads; none of a baseline.
        fit: None of a dummy.
        shares: Of each model in its mixture, by name; the sum is 1.
    """

    name: str
    views: tuple[str, ...]
    probabilities: Floats
    recipes: tuple[Recipe, ...] = ()
    fit: CrossFit | None = None
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Time that fitting all its members took."""
        return self.fit.seconds if self.fit else 0.0


@dataclass(frozen=True)
class KnownFits:
    """What one training fitted on all views: recipes with their heads; baselines, if it mixes."""

    recipes: tuple[Recipe, ...]
    heads: HeadFits
    baselines: tuple[Arm, ...]


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
    ensemble: Ensembling = "mixture",
    known: KnownFits | None = None,
) -> list[Arm]:
    """Every arm of the ablation; only the fused one keeps the views that the base recipe names.

    Args:
        data: The labelled rows with all their views, and their folds.
        search: What each arm may spend.
        nested: Search inside each fold.
        ensemble: "mixture" selects among heads and baselines, "average" joins the heads alone.
        known: What `train` fitted on all of the data, which is not repeated.
    """
    other = replace(search, base=replace(search.base, views=()))
    plain = (known.baselines if known else ()) or baseline_arms(data, seed=search.seed)
    arms = [
        run_arm(
            name,
            data.only(views, texts=name in (FUSED, TEXT_ONLY)),
            search if name == FUSED else other,
            nested=nested,
            candidates=baseline_candidates(name, data, plain, seed=search.seed)
            if ensemble == "mixture"
            else {},
            known=known if name == FUSED else None,
        )
        for name, views in arm_views(data.table).items()
    ]
    return [*arms, *plain, *dummies(data.table, data.prepared)]


def run_arm(
    name: str,
    data: FoldedTable,
    search: SearchSpec,
    *,
    nested: bool = False,
    candidates: Mapping[str, CrossFit] | None = None,
    known: KnownFits | None = None,
) -> Arm:
    """Tune one arm, fit its best recipes on all folds with all models, mix them with baselines.

    Args:
        name: Of the arm.
        data: Labelled rows with the arm's views alone, as `FoldedTable.only` gives them.
        search: What to search; the same for all arms but for the base recipe's views.
        nested: Search inside each fold instead. It needs the table's inner folds.
        candidates: Fits beside the heads that may join the mixture; none leaves the heads' mean.
        known: Heads' fits on these very rows, which are not made again.
    """
    views = tuple(data.table.views.features)
    if nested:  # each fold has recipes of its own
        recipes, heads = nested_fit(data, search, name=name)
    else:
        recipes = tune(data.table, data.prepared, search, name=name).recipes
        if known and known.recipes == recipes:
            heads = known.heads
        else:
            heads = fit_recipes(data, recipes, seed=search.seed, device=search.device)
    fit, shares = mix_heads(data, heads, candidates or {})
    return Arm(name, views, fit.probabilities, recipes, fit, shares)


def fit_recipes(
    data: FoldedTable, recipes: Sequence[Recipe], *, seed: int, device: str
) -> HeadFits:
    """Each recipe fitted on every row set."""
    epochs = sum(recipe.epochs for recipe in recipes)
    with progress("fitting folds", epochs, unit="epochs") as bar:

        def watch(number: int, epoch: int, values: Sequence[float]) -> bool:
            bar.update()
            return False

        fits = cross_fit(
            data.table, data.prepared, recipes, seed=seed, device=device, on_epoch=watch
        )
    heads = [recipe.head for recipe in recipes]
    return {
        head if heads.count(head) == 1 else f"{head} {number + 1}": fit
        for number, (head, fit) in enumerate(zip(heads, fits, strict=True))
    }


def mix_heads(
    data: FoldedTable, heads: HeadFits, candidates: Mapping[str, CrossFit]
) -> tuple[CrossFit, dict[str, float]]:
    """The heads' mean where they stand alone, else the mixture; with the share of each in it."""
    every = {**heads, **candidates}
    if candidates:
        fit, weights = mixture(list(every.values()), data.table, data.prepared)
    else:
        weights = [1 / len(every)] * len(every)
        fit = combine(list(every.values()), folds=outer_folds(data.prepared))
    return fit, {name: share for name, share in zip(every, weights, strict=True) if share}


def baseline_arms(data: FoldedTable, *, seed: int) -> tuple[Arm, ...]:
    """Each row of `BASELINES` as an arm; one that has nothing to read is left out."""
    views = data.table.views
    chosen = {
        name: baseline
        for name, baseline in BASELINES.items()
        if baseline.modality is None or views.of(baseline.modality)
    }
    arms = []
    with progress("fitting baselines", len(chosen), unit="models") as bar:
        for name, baseline in chosen.items():
            fit = cross_fit_baseline(baseline, data.table, data.prepared, seed=seed)
            arms.append(Arm(name, tuple(fit.ensemble.dims), fit.probabilities, fit=fit))
            bar.update()
    return tuple(arms)


def baseline_candidates(
    name: str, data: FoldedTable, arms: Sequence[Arm], *, seed: int
) -> dict[str, CrossFit]:
    """The baselines that may join an arm's mixture: those that read nothing else than it does.

    An arm of a single view has the linear one alone.

    Args:
        name: Of the arm.
        data: Labelled rows with all views.
        arms: What `baseline_arms` gave for them.
        seed: Of what is drawn.
    """
    if name == FUSED:
        return {arm.name: arm.fit for arm in arms if arm.fit}
    part = data.only(arm_views(data.table)[name], texts=name == TEXT_ONLY)
    same = {TEXT_ONLY: "linear-text", IMAGE_ONLY: "linear-image"}.get(name)
    out = {arm.name: arm.fit for arm in arms if arm.name == same and arm.fit}
    models: tuple[Model, ...] = ("neighbours", "boosting") if out else ("linear",)
    for model in models:
        fit = cross_fit_baseline(Baseline(model), part.table, part.prepared, seed=seed)
        out[model] = fit
    return out


def dummies(table: Table, prepared: Sequence[ScaledRowSet]) -> list[Arm]:
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

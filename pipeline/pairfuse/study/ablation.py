"""Ablation: text-only, image-only and fused under the same folds and the same search budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pairfuse.console import progress
from pairfuse.data.pairs import MODALITIES
from pairfuse.errors import ConfigError
from pairfuse.fusion.ensemble import Prepared
from pairfuse.recipe import Recipe
from pairfuse.study.crossfit import CrossFit, Table, combine, cross_fit
from pairfuse.study.metrics import Interval, Scores, difference, score
from pairfuse.study.tuning import tune

FUSED = "fused"


@dataclass(frozen=True)
class Arm:
    """One row of the ablation table, from out-of-fold predictions."""

    name: str
    recipes: tuple[Recipe, ...]
    scores: Scores
    fit: CrossFit


@dataclass(frozen=True)
class Difference:
    """Macro-F1 of the fused arm less that of another one, with its paired 95 % interval."""

    other: str
    value: float
    interval: Interval


def arm_views(table: Table) -> dict[str, list[str]]:
    """The views that each arm may use.

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
    return {**arms, FUSED: list(table.views.features)}


def only_views(
    table: Table, prepared: Sequence[Prepared], views: Sequence[str]
) -> tuple[Table, list[Prepared]]:
    """Table and scalings of one arm."""
    scalings = [
        replace(part, scaling={view: part.scaling[view] for view in views}) for part in prepared
    ]
    return replace(table, views=table.views.only(sorted(views))), scalings


def run_arm(
    name: str,
    table: Table,
    prepared: Sequence[Prepared],
    base: Recipe,
    *,
    storage: str,
    trials: int,
    members: int,
    seed: int,
    device: str,
    known: Mapping[tuple[Recipe, ...], CrossFit],
) -> Arm:
    """Tune one arm, then fit its best recipes on all folds with all members.

    What is `known` for these very recipes and rows is not fitted again.
    """
    best = tune(
        table,
        prepared,
        base,
        storage=storage,
        name=name,
        trials=trials,
        seed=seed,
        members=members,
        device=device,
    )
    fit = known.get(best.recipes) or fit_recipes(
        table, prepared, best.recipes, seed=seed, device=device
    )
    scores = score(table.targets, fit.guesses, table.groups, table.labels, seed=seed)
    return Arm(name, best.recipes, scores, fit)


def fit_recipes(
    table: Table, prepared: Sequence[Prepared], recipes: Sequence[Recipe], *, seed: int, device: str
) -> CrossFit:
    """One ensemble of all recipes, each fitted on every row set."""
    epochs = sum(recipe.epochs for recipe in recipes)
    with progress("fitting folds", epochs, unit="epochs") as bar:

        def watch(number: int, epoch: int, values: Sequence[float]) -> bool:
            bar.update()
            return False

        return combine(cross_fit(table, prepared, recipes, seed=seed, device=device, watch=watch))


def compare_arms(arms: Sequence[Arm], table: Table, *, seed: int) -> list[Difference]:
    """The last arm against each other one."""
    fused = arms[-1]
    return [
        Difference(
            arm.name,
            *difference(
                table.targets,
                fused.fit.guesses,
                arm.fit.guesses,
                table.groups,
                len(table.labels),
                seed=seed,
            ),
        )
        for arm in arms[:-1]
    ]

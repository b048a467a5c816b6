"""Search space: the recipes that a search may try, and how Optuna's values become a recipe.

Ranges hold what fusion heads on frozen features need; what a head should not need to search
(epochs, patience, batch size) stays as the base recipe has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from pairfuse.data.pairs import MODALITIES
from pairfuse.features.views import Views
from pairfuse.fusion.fitting import check_recipe
from pairfuse.fusion.heads import is_token_head
from pairfuse.recipe import BALANCES, Recipe

if TYPE_CHECKING:
    import optuna

#: Heads that are searched unless others are named: the cheap ones. Each head's base point is a
#: trial, so that a search over all of them would leave few trials for the rest of the recipe.
SEARCHED_HEADS = ("concat", "projected", "attention", "gated", "late", "linear")
#: Every subset of four views or fewer is a choice; of more, the largest subsets.
MAX_SUBSETS = 15
RANGES = {
    "dropout": (0.0, 0.7),
    "lr": (5e-4, 1e-2),
    "weight_decay": (1e-3, 1.0),
    "label_smoothing": (0.0, 0.2),
}
#: Learning rate and weight decay act by their order of magnitude.
LOG_SCALE = {"lr", "weight_decay"}
SIZES = {"hidden_dim": (32, 64, 128), "n_components": (32, 64, 128)}


@dataclass(frozen=True)
class SearchSpace:
    """What a search chooses among; `base` holds what it does not touch."""

    base: Recipe
    subsets: tuple[tuple[str, ...], ...]
    heads: tuple[str, ...]


def build_space(views: Views, base: Recipe, heads: Sequence[str]) -> SearchSpace:
    """The choices for these views; the base recipe's own head and views are among them.

    With a head that reads tokens the choice is among views that have some.

    Raises:
        ConfigError: A head is unknown or cannot read these views, or the base names another view.
    """
    every = dict.fromkeys((*heads, base.head))
    for head in every:
        check_recipe(replace(base, head=head), views)
    reads_tokens = any(is_token_head(head) for head in every)
    subsets = view_subsets(views.only(sorted(views.tokens)) if reads_tokens else views)
    if base.views and tuple(sorted(base.views)) not in subsets:
        subsets.append(tuple(sorted(base.views)))
    return SearchSpace(base=base, subsets=tuple(subsets), heads=tuple(every))


def view_subsets(views: Views) -> list[tuple[str, ...]]:
    """Sets of views worth trying, the largest first: those that see each modality that there is.

    A joint view sees both.
    """
    names = sorted(views.features)
    seen = {
        name: set(MODALITIES if modality == "joint" else (modality,))
        for name, modality in views.modality.items()
    }
    modalities = set().union(*seen.values())
    every = [
        subset
        for size in range(len(names), 0, -1)
        for subset in combinations(names, size)
        if set().union(*(seen[name] for name in subset)) == modalities
    ]
    return every[:MAX_SUBSETS]


def suggest(trial: optuna.Trial | optuna.trial.FixedTrial, space: SearchSpace) -> Recipe:
    """Draw one recipe; the names of the drawn values are those of the recipe's fields."""
    base = space.base
    views = trial.suggest_categorical("views", [" ".join(subset) for subset in space.subsets])
    drawn: Any = trial.suggest_categorical("balance", list(BALANCES))
    head = trial.suggest_categorical("head", list(space.heads))
    # SMOTE makes rows that have no tokens.
    balance: Any = "weights" if drawn == "smote" and is_token_head(head) else drawn

    def size(name: str) -> int:
        own: int = getattr(base, name)
        return trial.suggest_categorical(name, sorted({*SIZES[name], own}))

    def value(name: str) -> float:
        low, high = RANGES[name]
        return trial.suggest_float(name, low, high, log=name in LOG_SCALE)

    # In this order: the sampler's draws follow the order in which values are asked for.
    return replace(
        base,
        views=tuple(views.split(" ")),
        head=head,
        hidden_dim=size("hidden_dim"),
        dropout=value("dropout"),
        lr=value("lr"),
        weight_decay=value("weight_decay"),
        label_smoothing=value("label_smoothing"),
        balance=balance,
        balance_strength=trial.suggest_float("balance_strength", 0.0, 1.0)
        if balance != "none"
        else 0.0,
        n_components=size("n_components"),
        whitening=trial.suggest_float("whitening", 0.0, 1.0),
    )


def nearest_params(recipe: Recipe, space: SearchSpace) -> dict[str, Any]:
    """The recipe as values of the search, each moved into its range where it lies outside."""
    values = asdict(recipe)
    names = ("head", "hidden_dim", "balance", "n_components", "whitening")
    params: dict[str, Any] = {name: values[name] for name in names}
    for name, (low, high) in RANGES.items():
        params[name] = min(max(values[name], low), high)
    params["views"] = " ".join(tuple(sorted(recipe.views)) or space.subsets[0])
    if recipe.balance != "none":
        params["balance_strength"] = recipe.balance_strength
    return params

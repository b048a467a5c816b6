"""Fitting: recipes to trained members, each on its own rows, with its own scaling and balance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from pairfuse.arrays import Ints
from pairfuse.data.soft_labels import SoftLabels
from pairfuse.errors import ConfigError
from pairfuse.features.views import Views
from pairfuse.fusion.balance import smote
from pairfuse.fusion.ensemble import Member
from pairfuse.fusion.heads import check_head, is_token_head
from pairfuse.fusion.scaling import (
    ViewScaling,
    fit_scaling,
    fit_token_scaling,
    narrow,
    scale,
    scale_tokens,
)
from pairfuse.fusion.training import FittedModel, TrainingSpec, train_stack
from pairfuse.recipe import Recipe

#: An epoch has at least so many steps, but for batches of `LEAST_BATCH`: few rows in large batches
#: are trained on too little.
STEPS, LEAST_BATCH = 5, 32


@dataclass(frozen=True)
class RowSet:
    """Row numbers of one model: trained on, watched for early stopping, held out for scores.

    The held-out rows of one repeat's folds are all rows, each once.
    """

    train: Ints
    val: Ints
    held_out: Ints
    repeat: int = 0


@dataclass(frozen=True)
class ScaledRowSet:
    """One model's rows with the scaling fitted on its training rows (all axes, not narrowed).

    `projected` are all rows on these axes, kept where many recipes will ask for them.
    """

    rows: RowSet
    scaling: Mapping[str, ViewScaling]
    projected: Views | None = None
    #: For heads that read tokens: the training rows, whose tokens are looked at when one asks.
    train: Views | None = None
    seed: int = 0

    @cached_property
    def token_scaling(self) -> Mapping[str, ViewScaling]:
        """Fitted when a head first asks for it, since tokens are read from disk."""
        return fit_token_scaling(self.train, seed=self.seed) if self.train else {}

    def inputs(self, views: Views, recipe: Recipe) -> Views:
        """All rows of these views as the recipe's models take them."""
        if is_token_head(recipe.head):
            return scale_tokens(views, self._narrowed(views, recipe))
        if self.projected is None:
            return scale(views, self._narrowed(views, recipe))
        features = {}
        for view in views.features:
            gains = self.scaling[view].gains(recipe.n_components, recipe.whitening)
            features[view] = self.projected.features[view][:, : len(gains)] * gains
        return replace(views, features=features)

    def member(self, model: FittedModel, views: Views) -> Member:
        """The trained model with its scaling."""
        return Member(model, self._narrowed(views, model.recipe))

    def _narrowed(self, views: Views, recipe: Recipe) -> dict[str, ViewScaling]:
        every = self.token_scaling if is_token_head(recipe.head) else self.scaling
        own = {view: every[view] for view in views.features}
        return narrow(own, recipe.n_components, recipe.whitening)


def prepare_rows(views: Views, rows: Sequence[RowSet], *, seed: int) -> list[ScaledRowSet]:
    """Fit the scaling of every model, on its own training rows; done once for many recipes."""
    out = []
    for part in rows:
        train = views.rows(part.train)
        out.append(
            ScaledRowSet(
                part,
                fit_scaling(train, seed=seed),
                train=train if views.tokens else None,
                seed=seed,
            )
        )
    return out


def project(views: Views, prepared: Sequence[ScaledRowSet]) -> list[ScaledRowSet]:
    """Bring all rows to the axes of each row set, once for many recipes."""
    return [replace(part, projected=scale(views, part.scaling)) for part in prepared]


#: Recipe's number, epoch and its models' best values so far; True stops its models.
RecipeCallback = Callable[[int, int, Sequence[float]], bool]


def fit_members(
    views: Views,
    targets: Ints,
    prepared: Sequence[ScaledRowSet],
    recipes: Sequence[Recipe],
    *,
    num_classes: int,
    seed: int,
    device: str = "cpu",
    on_epoch: RecipeCallback | None = None,
    soft_labels: SoftLabels | None = None,
) -> list[list[Member]]:
    """Train each recipe on each set of rows, the models of a recipe at once.

    Args:
        views: All rows of all views; a recipe may use some of the views only.
        targets: Shape (N,).
        prepared: Rows and scaling of the models of each recipe.
        recipes: Trained one after the other.
        num_classes: C.
        seed: A recipe's model m is seeded by `seed + 1000 * m`.
        device: A torch device's name.
        on_epoch: Called after each epoch for each recipe.
        soft_labels: Of all rows; training is towards these in place of the targets.

    Returns:
        For each recipe a member for each row set.

    Raises:
        ConfigError: A recipe names an unknown head or view.
    """
    for recipe in recipes:
        check_recipe(recipe, views)
    fewest = min(len(part.rows.train) for part in prepared)
    recipes = [_for_rows(recipe, fewest) for recipe in recipes]
    out = []
    for number, recipe in enumerate(recipes):
        specs = [
            _training_spec(
                views,
                targets,
                part,
                recipe,
                num_classes=num_classes,
                seed=seed + 1000 * place,
                soft_labels=soft_labels,
            )
            for place, part in enumerate(prepared)
        ]
        watch = partial(on_epoch, number) if on_epoch else None
        models = train_stack(specs, device=device, on_epoch=watch)
        chosen = _chosen(views, recipe)
        out.append(
            [part.member(model, chosen) for part, model in zip(prepared, models, strict=True)]
        )
    return out


def _for_rows(recipe: Recipe, rows: int) -> Recipe:
    """The recipe with batches small enough that an epoch has `STEPS` of them."""
    most = max(LEAST_BATCH, rows // STEPS)
    return replace(recipe, batch_size=min(recipe.batch_size, most))


def _training_spec(
    views: Views,
    targets: Ints,
    part: ScaledRowSet,
    recipe: Recipe,
    *,
    num_classes: int,
    seed: int,
    soft_labels: SoftLabels | None,
) -> TrainingSpec:
    """Scale all rows by the training rows, then balance the training rows alone.

    Rows that SMOTE makes have no soft labels, but the label that they were made for.
    """
    inputs = part.inputs(_chosen(views, recipe), recipe)
    train, train_targets = inputs.rows(part.rows.train), targets[part.rows.train]
    soft = soft_labels.rows(part.rows.train) if soft_labels else None
    if recipe.balance == "smote":
        train, train_targets = smote(
            train, train_targets, strength=recipe.balance_strength, seed=seed
        )
        soft = soft.with_labels(train_targets[len(part.rows.train) :]) if soft else None
    return TrainingSpec(
        recipe=recipe,
        train=train,
        targets=train_targets,
        val=inputs.rows(part.rows.val),
        val_targets=targets[part.rows.val],
        num_classes=num_classes,
        seed=seed,
        held_out=inputs.rows(part.rows.held_out),
        soft_labels=soft,
    )


def _chosen(views: Views, recipe: Recipe) -> Views:
    return views.only(sorted(recipe.views or views.features))


def check_recipe(recipe: Recipe, views: Views) -> None:
    """Refuse a recipe whose head is unknown or whose views are not there.

    Raises:
        ConfigError: Says which.
    """
    if not is_token_head(recipe.head) or not views.tokens:
        check_head(recipe.head)
    elif lacking := sorted(set(recipe.views or views.features) - set(views.tokens)):
        raise ConfigError(
            f"head {recipe.head!r} reads tokens, and view {lacking[0]!r} has none; leave its "
            "encoder out, or name the others with --set recipe.views"
        )
    elif recipe.balance == "smote":
        raise ConfigError(
            f"balance 'smote' makes rows that have no tokens, which head {recipe.head!r} reads; "
            "use --set recipe.balance=weights"
        )
    absent = set(recipe.views) - set(views.features)
    if absent:
        raise ConfigError(
            f"the recipe uses view {min(absent)!r}, there are {', '.join(views.features)}; "
            "name its encoder with --encoders, or leave recipe.views empty"
        )

"""Ensemble: trained models with their scalings and the label vocabulary, and how they vote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pairfuse.arrays import Floats, Ints
from pairfuse.data.pairs import Modality
from pairfuse.data.soft_labels import SoftLabels
from pairfuse.errors import CheckpointError, ConfigError
from pairfuse.features.views import Views
from pairfuse.fusion.balance import smote
from pairfuse.fusion.final_estimator import FinalEstimator
from pairfuse.fusion.heads import check_head
from pairfuse.fusion.scaling import (
    ViewScaling,
    fit_scaling,
    fit_token_scaling,
    narrow,
    scale,
    scale_tokens,
)
from pairfuse.fusion.token_heads import TOKEN_HEADS
from pairfuse.fusion.training import FittedModel, TrainingSpec, Watch, predict_logits, train_stack
from pairfuse.recipe import Recipe

#: Rows that are scaled and classified at a time.
_CHUNK = 16_384
#: Rows of the models that are trained at once take at most about so much memory.
STACK_BYTES = 2**30
#: An epoch has at least so many steps, but for batches of `LEAST_BATCH`: few rows in large batches
#: are trained on too little.
STEPS, LEAST_BATCH = 5, 32
#: Models up to this width, and wider ones, are trained in stacks of their own.
WIDE = 64


@dataclass(frozen=True)
class Member:
    """One trained model and the scaling that was fitted on its training rows."""

    model: FittedModel
    scaling: Mapping[str, ViewScaling]

    def predict_proba(self, views: Views) -> Floats:
        """Class probabilities, shape (N, C); other views than its own are not looked at."""
        own = views.only(list(self.scaling))
        bring = scale_tokens if self.model.recipe.head in TOKEN_HEADS else scale
        chunks = [
            softmax(predict_logits(self.model, bring(own.rows(rows), self.scaling)))
            for rows in np.split(np.arange(len(views)), range(_CHUNK, len(views), _CHUNK))
        ]
        return np.concatenate(chunks)


@dataclass(frozen=True)
class Ensemble:
    """Members that vote by mean probability, or by a final_estimator; `prior` answers where no view is.

    Those that a final_estimator answers for lie recipe by recipe, as many for each.
    """

    members: tuple[Member, ...]
    labels: tuple[str, ...]
    prior: Floats  # (C,), class frequencies in training
    modality: Mapping[str, Modality]
    dims: Mapping[str, int]
    final_estimator: FinalEstimator | None = None

    def predict_proba(self, views: Views) -> Floats:
        """Class probabilities, shape (N, C).

        Raises:
            CheckpointError: A view is missing, or of another width than in training.
        """
        found = {view: views.dims.get(view) for view in self.dims}
        if found != dict(self.dims):
            raise CheckpointError(
                f"the model was trained on views {dict(self.dims)}, found {views.dims}; "
                "name the same encoders as in training"
            )
        chosen = views.only(list(self.dims))
        chances = vote(self.members, chosen, prior=self.prior, final_estimator=self.final_estimator)
        lost = ~np.any(list(chosen.present.values()), axis=0)
        chances[lost] = self.prior
        return chances


def vote(
    members: Sequence[Member],
    views: Views,
    *,
    prior: Floats,
    final_estimator: FinalEstimator | None,
) -> Floats:
    """The mean of the members' probabilities, or what the final_estimator makes of them, shape (N, C).

    To the final_estimator a member that sees nothing of a row says the prior, as where the final_estimator was fitted.
    """
    each = np.stack([member.predict_proba(views) for member in members])  # (M, N, C)
    if final_estimator is None:
        return np.asarray(each.mean(axis=0), dtype=np.float32)
    for member, chances in zip(members, each, strict=True):
        chances[~np.any([views.present[view] for view in member.scaling], axis=0)] = prior
    return softmax(final_estimator.logits(each))


@dataclass(frozen=True)
class Rows:
    """Row numbers of one model: trained on, watched for early stopping, held out for scores.

    The held-out rows of one repeat's folds are all rows, each once.
    """

    train: Ints
    val: Ints
    held: Ints
    repeat: int = 0


@dataclass(frozen=True)
class Prepared:
    """One model's rows with the scaling fitted on its training rows (all axes, not narrowed).

    `projected` are all rows on these axes, kept where many recipes will ask for them.
    """

    rows: Rows
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
        if recipe.head in TOKEN_HEADS:
            return scale_tokens(views, self._narrowed(views, recipe))
        if self.projected is None:
            return scale(views, self._narrowed(views, recipe))
        features = {}
        for view in views.features:
            gains = self.scaling[view].gains(recipe.n_components, recipe.whitening)
            features[view] = self.projected.features[view][:, : len(gains)] * gains
        return Views(features, views.present, views.modality, views.tokens)

    def member(self, model: FittedModel, views: Views) -> Member:
        """The trained model with its scaling."""
        return Member(model, self._narrowed(views, model.recipe))

    def _narrowed(self, views: Views, recipe: Recipe) -> dict[str, ViewScaling]:
        every = self.token_scaling if recipe.head in TOKEN_HEADS else self.scaling
        own = {view: every[view] for view in views.features}
        return narrow(own, recipe.n_components, recipe.whitening)


def prepare_rows(views: Views, rows: Sequence[Rows], *, seed: int) -> list[Prepared]:
    """Fit the scaling of every model, on its own training rows; done once for many recipes."""
    out = []
    for part in rows:
        train = views.rows(part.train)
        out.append(
            Prepared(
                part,
                fit_scaling(train, seed=seed),
                train=train if views.tokens else None,
                seed=seed,
            )
        )
    return out


def project(views: Views, prepared: Sequence[Prepared]) -> list[Prepared]:
    """Bring all rows to the axes of each row set, once for many recipes."""
    return [replace(part, projected=scale(views, part.scaling)) for part in prepared]


#: Recipe's number, epoch and its models' best values so far; True stops its models.
RecipeWatch = Callable[[int, int, Sequence[float]], bool]


def fit_members(
    views: Views,
    targets: Ints,
    prepared: Sequence[Prepared],
    recipes: Sequence[Recipe],
    *,
    num_classes: int,
    seed: int,
    device: str = "cpu",
    watch: RecipeWatch | None = None,
    answers: SoftLabels | None = None,
) -> list[list[Member]]:
    """Train each recipe on each set of rows, as many models at once as fit together.

    Args:
        views: All rows of all views; a recipe may use some of the views only.
        targets: Shape (N,).
        prepared: Rows and scaling of the models of each recipe.
        recipes: Models whose head and batch agree are trained in one stack.
        num_classes: C.
        seed: A recipe's model m is seeded by `seed + 1000 * m`.
        device: A torch device's name.
        watch: Called after each epoch for each recipe.
        answers: Of all rows; training is towards these in place of the targets.

    Returns:
        For each recipe a member for each row set.

    Raises:
        ConfigError: A recipe names an unknown head or view.
    """
    for recipe in recipes:
        check_recipe(recipe, views)
    fewest = min(len(part.rows.train) for part in prepared)
    recipes = [_for_rows(recipe, fewest) for recipe in recipes]
    models: dict[tuple[int, int], FittedModel] = {}
    for chunk in _chunks(recipes, views, prepared):
        keys = [(number, part) for number in chunk for part in range(len(prepared))]
        tasks = [
            _task(
                *(views, targets, prepared[part], recipes[number], num_classes),
                *(seed + 1000 * part, answers),
            )
            for number, part in keys
        ]
        stack = train_stack(tasks, device=device, watch=_by_recipe(keys, watch))
        models |= dict(zip(keys, stack, strict=True))
    return [
        [
            part.member(models[number, place], _chosen(views, recipe))
            for place, part in enumerate(prepared)
        ]
        for number, recipe in enumerate(recipes)
    ]


def _for_rows(recipe: Recipe, rows: int) -> Recipe:
    """The recipe with batches small enough that an epoch has `STEPS` of them."""
    most = max(LEAST_BATCH, rows // STEPS)
    return replace(recipe, batch_size=min(recipe.batch_size, most))


def _task(
    views: Views,
    targets: Ints,
    part: Prepared,
    recipe: Recipe,
    num_classes: int,
    seed: int,
    answers: SoftLabels | None,
) -> TrainingSpec:
    """Scale all rows by the training rows, then balance the training rows alone.

    Rows that SMOTE makes have no answers, but the label that they were made for.
    """
    inputs = part.inputs(_chosen(views, recipe), recipe)
    train, train_targets = inputs.rows(part.rows.train), targets[part.rows.train]
    soft = answers.rows(part.rows.train) if answers else None
    if recipe.balance == "smote":
        train, train_targets = smote(
            train, train_targets, strength=recipe.balance_strength, seed=seed
        )
        soft = soft.with_labels(train_targets[len(part.rows.train) :]) if soft else None
    val, held = inputs.rows(part.rows.val), inputs.rows(part.rows.held)
    val_targets = targets[part.rows.val]
    return TrainingSpec(
        recipe, train, train_targets, val, val_targets, num_classes, seed, held, soft
    )


def _chunks(
    recipes: Sequence[Recipe], views: Views, prepared: Sequence[Prepared]
) -> list[list[int]]:
    """Numbers of recipes that are trained in one stack, which fits into `STACK_BYTES`."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, recipe in enumerate(recipes):
        kinds = tuple(sorted(set(_chosen(views, recipe).modality.values())))
        is_wide = (
            max(recipe.hidden_dim, recipe.n_components) > WIDE
        )  # padding the narrow to it would cost
        key = (recipe.head, kinds, recipe.batch_size, recipe.grad_accumulation_steps, is_wide)
        groups.setdefault(key, []).append(number)
    out: list[list[int]] = []
    for numbers in groups.values():
        if recipes[numbers[0]].head in TOKEN_HEADS:  # a batch of each model is in memory
            out += [[number] for number in numbers]
            continue
        widest = max(recipes[number].n_components for number in numbers)
        row_bytes = 4 * sum(min(widest, dim) for dim in views.dims.values())
        recipe_bytes = max(1, len(views) * len(prepared) * row_bytes)
        together = max(1, STACK_BYTES // recipe_bytes)
        out += [numbers[at : at + together] for at in range(0, len(numbers), together)]
    return out


def _by_recipe(keys: Sequence[tuple[int, int]], watch: RecipeWatch | None) -> Watch | None:
    """From best values by task to best values by recipe, and back to the tasks that stop."""
    if watch is None:
        return None
    stopped: set[int] = set()

    def watch_stack(epoch: int, values: Sequence[float]) -> list[int]:
        for number in dict.fromkeys(number for number, _ in keys):
            own = [value for (n, _), value in zip(keys, values, strict=True) if n == number]
            if number not in stopped and watch(number, epoch, own):
                stopped.add(number)
        return [task for task, (number, _) in enumerate(keys) if number in stopped]

    return watch_stack


def _chosen(views: Views, recipe: Recipe) -> Views:
    return views.only(sorted(recipe.views or views.features))


def check_recipe(recipe: Recipe, views: Views) -> None:
    """Refuse a recipe whose head is unknown or whose views are not there.

    Raises:
        ConfigError: Says which.
    """
    if recipe.head not in TOKEN_HEADS or not views.tokens:
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


def class_prior(targets: Ints, num_classes: int) -> Floats:
    """Frequency of each class, shape (C,)."""
    counts = np.bincount(targets, minlength=num_classes)
    return np.asarray(counts / max(1, counts.sum()), dtype=np.float32)


def softmax(logits: Floats) -> Floats:
    """Probabilities, shape (N, C)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32)

"""Ensemble: trained models with their scalings and the label vocabulary; probabilities averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pairfuse.data.pairs import Modality
from pairfuse.errors import CheckpointError, ConfigError
from pairfuse.features.table import Ints, Views
from pairfuse.fusion.balance import smote
from pairfuse.fusion.heads import HEADS
from pairfuse.fusion.scaling import ViewScaling, fit_scaling, narrow, scale
from pairfuse.fusion.training import Task, Trained, Watch, predict_logits, train_stack
from pairfuse.recipe import Recipe

Floats = NDArray[np.float32]
#: Rows that are scaled and classified at a time.
_CHUNK = 16_384


@dataclass(frozen=True)
class Member:
    """One trained model and the scaling that was fitted on its training rows."""

    model: Trained
    scaling: Mapping[str, ViewScaling]

    def predict_proba(self, views: Views) -> Floats:
        """Class probabilities, shape (N, C); other views than its own are not looked at."""
        own = views.only(list(self.scaling))
        chunks = [
            _softmax(predict_logits(self.model, scale(own.rows(rows), self.scaling)))
            for rows in np.split(np.arange(len(views)), range(_CHUNK, len(views), _CHUNK))
        ]
        return np.concatenate(chunks)


@dataclass(frozen=True)
class Ensemble:
    """Members that vote by mean probability; `prior` answers for rows without any view."""

    members: tuple[Member, ...]
    labels: tuple[str, ...]
    prior: Floats  # (C,), class frequencies in training
    modality: Mapping[str, Modality]
    dims: Mapping[str, int]

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
        mean = np.mean([member.predict_proba(chosen) for member in self.members], axis=0)
        lost = ~np.any(list(chosen.present.values()), axis=0)
        mean[lost] = self.prior
        return np.asarray(mean, dtype=np.float32)


@dataclass(frozen=True)
class Rows:
    """Row numbers of one model: trained on, watched for early stopping, held out for scores."""

    train: Ints
    val: Ints
    held: Ints


@dataclass(frozen=True)
class Prepared:
    """One model's rows with the scaling fitted on its training rows (all axes, not narrowed)."""

    rows: Rows
    scaling: Mapping[str, ViewScaling]


def prepare_rows(views: Views, rows: Sequence[Rows], *, seed: int) -> list[Prepared]:
    """Fit the scaling of every model, on its own training rows; done once for many recipes."""
    return [Prepared(part, fit_scaling(views.rows(part.train), seed=seed)) for part in rows]


def fit_members(
    views: Views,
    targets: Ints,
    prepared: Sequence[Prepared],
    recipe: Recipe,
    *,
    num_classes: int,
    seed: int,
    device: str = "cpu",
    watch: Watch | None = None,
) -> list[Member]:
    """Train one model for each set of rows, all in one stack.

    Args:
        views: All rows of all views; the recipe may use some of the views only.
        targets: Shape (N,).
        prepared: Rows and scaling of each model.
        recipe: Shared by the models.
        num_classes: C.
        seed: Model m is seeded by `seed + 1000 * m`.
        device: A torch device's name.
        watch: See `train_stack`.

    Raises:
        ConfigError: The recipe names an unknown head or view.
    """
    check_recipe(recipe, views)
    chosen = views.only(sorted(recipe.views or views.features))
    tasks, scalings = [], []
    for number, part in enumerate(prepared):
        scaling = narrow(
            {view: part.scaling[view] for view in chosen.features}, recipe.reduce, recipe.whitening
        )
        train, train_targets = (
            scale(chosen.rows(part.rows.train), scaling),
            targets[part.rows.train],
        )
        model_seed = seed + 1000 * number
        if recipe.balance == "smote":
            train, train_targets = smote(
                train, train_targets, strength=recipe.strength, seed=model_seed
            )
        val = scale(chosen.rows(part.rows.val), scaling)
        tasks.append(
            Task(recipe, train, train_targets, val, targets[part.rows.val], num_classes, model_seed)
        )
        scalings.append(scaling)
    models = _trained_together(tasks, device, watch)
    return [Member(model, scaling) for model, scaling in zip(models, scalings, strict=True)]


def check_recipe(recipe: Recipe, views: Views) -> None:
    """Refuse a recipe whose head is unknown or whose views are not there.

    Raises:
        ConfigError: Says which.
    """
    if recipe.head not in HEADS:
        raise ConfigError(f"no head {recipe.head!r}; choose one of {', '.join(HEADS)}")
    absent = set(recipe.views) - set(views.features)
    if absent:
        raise ConfigError(
            f"the recipe uses view {min(absent)!r}, there are {', '.join(views.features)}; "
            "name its encoder with --encoders, or leave recipe.views empty"
        )


def _trained_together(tasks: Sequence[Task], device: str, watch: Watch | None) -> list[Trained]:
    """One stack for all tasks of equal widths; a fold with few rows may have fewer axes."""
    widths: dict[tuple[tuple[str, int], ...], list[int]] = {}
    for number, task in enumerate(tasks):
        widths.setdefault(tuple(task.train.dims.items()), []).append(number)
    if len(widths) == 1:
        return train_stack(tasks, device=device, watch=watch)
    out: dict[int, Trained] = {}
    for numbers in widths.values():
        stack = train_stack([tasks[n] for n in numbers], device=device)
        out |= dict(zip(numbers, stack, strict=True))
    return [out[number] for number in range(len(tasks))]


def class_prior(targets: Ints, num_classes: int) -> Floats:
    """Frequency of each class, shape (C,)."""
    counts = np.bincount(targets, minlength=num_classes)
    return np.asarray(counts / max(1, counts.sum()), dtype=np.float32)


def with_views(recipe: Recipe, views: Sequence[str]) -> Recipe:
    """The recipe for these views alone."""
    return replace(recipe, views=tuple(views))


def _softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32)

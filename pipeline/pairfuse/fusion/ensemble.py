"""Ensemble: models with their weights and the label vocabulary, and what they predict together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pairfuse.arrays import Bools, Floats, Ints
from pairfuse.data.pairs import Modality
from pairfuse.errors import CheckpointError
from pairfuse.features.views import Views
from pairfuse.fusion.heads import is_token_head
from pairfuse.fusion.scaling import ViewScaling, scale, scale_tokens
from pairfuse.fusion.training import FittedModel, predict_logits

#: Rows that are scaled and classified at a time.
_CHUNK = 16_384


@dataclass(frozen=True)
class Member:
    """One trained model and the scaling that was fitted on its training rows."""

    model: FittedModel
    scaling: Mapping[str, ViewScaling]

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views that it reads."""
        return tuple(self.scaling)

    @property
    def reads_texts(self) -> bool:
        """No head reads raw texts."""
        return False

    @property
    def size(self) -> int:
        """Number of its parameters."""
        return sum(values.size for values in self.model.parameters.values())

    def predict_proba(self, views: Views) -> Floats:
        """Class probabilities, shape (N, C); other views than its own are not looked at."""
        own = views.only(list(self.scaling))
        scaled = scale_tokens if is_token_head(self.model.recipe.head) else scale
        chunks = [
            softmax(predict_logits(self.model, scaled(own.rows(rows), self.scaling)))
            for rows in np.split(np.arange(len(views)), range(_CHUNK, len(views), _CHUNK))
        ]
        return np.concatenate(chunks)


class Predictor(Protocol):
    """What an ensemble is made of: a trained head with its scaling, or a fitted baseline."""

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views that it reads."""

    @property
    def reads_texts(self) -> bool:
        """Whether it reads the raw texts beside the views."""

    @property
    def size(self) -> int:
        """Number of fitted numbers."""

    def predict_proba(self, rows: Views, /) -> Floats:
        """Class probabilities, shape (N, C)."""


@dataclass(frozen=True)
class Ensemble:
    """Members and their weights; its probabilities are the weighted mean of theirs.

    For a row without anything that a member reads, the member says the `prior`.
    """

    members: tuple[Predictor, ...]
    weights: tuple[float, ...]  # M, their sum is 1
    labels: tuple[str, ...]
    prior: Floats  # (C,), class frequencies in training
    modality: Mapping[str, Modality]
    dims: Mapping[str, int]

    @property
    def heads(self) -> list[Member]:
        """The members that are trained heads."""
        return [member for member in self.members if isinstance(member, Member)]

    @property
    def reads_texts(self) -> bool:
        """Whether a member reads the raw texts."""
        return any(member.reads_texts for member in self.members)

    @property
    def size(self) -> int:
        """Fitted numbers of all members."""
        return sum(member.size for member in self.members)

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
        total = np.zeros((len(views), len(self.labels)))
        for member, weight in zip(self.members, self.weights, strict=True):
            probabilities = member.predict_proba(views)
            probabilities[nothing_to_read(member, views)] = self.prior
            total += weight * probabilities
        return np.asarray(total, dtype=np.float32)


def nothing_to_read(member: Predictor, views: Views) -> Bools:
    """Rows without anything that the member reads, shape (N,)."""
    there = [views.present[view] for view in member.views]
    if member.reads_texts and views.texts is not None:
        there.append(views.texts.present)
    return np.asarray(~np.any(there, axis=0) if there else np.ones(len(views), dtype=bool))


def mix(ensembles: Sequence[Ensemble], weights: Sequence[float]) -> Ensemble:
    """One ensemble of several, each with its weight; those of weight 0 are left out.

    Args:
        ensembles: At least one has a weight above 0.
        weights: As many; only their proportions matter.
    """
    total, both = sum(weights), zip(ensembles, weights, strict=True)
    kept = [(each, weight / total) for each, weight in both if weight]
    return Ensemble(
        members=tuple(member for each, _ in kept for member in each.members),
        weights=tuple(weight * own for each, weight in kept for own in each.weights),
        labels=ensembles[0].labels,
        prior=ensembles[0].prior,
        modality={view: kind for each, _ in kept for view, kind in each.modality.items()},
        dims={view: dim for each, _ in kept for view, dim in each.dims.items()},
    )


def equal_weights(members: int) -> tuple[float, ...]:
    """Weights of members that count alike."""
    return (1 / members,) * members


def class_prior(targets: Ints, num_classes: int) -> Floats:
    """Frequency of each class, shape (C,)."""
    counts = np.bincount(targets, minlength=num_classes)
    return np.asarray(counts / max(1, counts.sum()), dtype=np.float32)


def softmax(logits: Floats) -> Floats:
    """Probabilities, shape (N, C)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32)

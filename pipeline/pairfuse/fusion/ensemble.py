"""Ensemble: trained models with their scalings and the label vocabulary, and what they predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pairfuse.arrays import Floats, Ints
from pairfuse.data.pairs import Modality
from pairfuse.errors import CheckpointError
from pairfuse.features.views import Views
from pairfuse.fusion.final_estimator import FinalEstimator
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

    def predict_proba(self, views: Views) -> Floats:
        """Class probabilities, shape (N, C); other views than its own are not looked at."""
        own = views.only(list(self.scaling))
        scaled = scale_tokens if is_token_head(self.model.recipe.head) else scale
        chunks = [
            softmax(predict_logits(self.model, scaled(own.rows(rows), self.scaling)))
            for rows in np.split(np.arange(len(views)), range(_CHUNK, len(views), _CHUNK))
        ]
        return np.concatenate(chunks)


@dataclass(frozen=True)
class Ensemble:
    """Trained members: the mean of their probabilities, or a final estimator over them.

    A row without any view gets the `prior`. With a final estimator the members lie recipe by
    recipe, as many for each.
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
        probabilities = ensemble_proba(
            self.members, chosen, prior=self.prior, final_estimator=self.final_estimator
        )
        lost = ~np.any(list(chosen.present.values()), axis=0)
        probabilities[lost] = self.prior
        return probabilities


def ensemble_proba(
    members: Sequence[Member],
    views: Views,
    *,
    prior: Floats,
    final_estimator: FinalEstimator | None,
) -> Floats:
    """Mean of the members' probabilities, or the final estimator's of them, shape (N, C).

    A member that sees no view of a row gives the final estimator the prior, as when that was
    fitted.
    """
    each = np.stack([member.predict_proba(views) for member in members])  # (M, N, C)
    if final_estimator is None:
        return np.asarray(each.mean(axis=0), dtype=np.float32)
    for member, probabilities in zip(members, each, strict=True):
        probabilities[~np.any([views.present[view] for view in member.scaling], axis=0)] = prior
    return softmax(final_estimator.logits(each))


def class_prior(targets: Ints, num_classes: int) -> Floats:
    """Frequency of each class, shape (C,)."""
    counts = np.bincount(targets, minlength=num_classes)
    return np.asarray(counts / max(1, counts.sum()), dtype=np.float32)


def softmax(logits: Floats) -> Floats:
    """Probabilities, shape (N, C)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32)

"""EMAP: what the fused model would say if text and image only added up, never worked together.

Source: Hessel & Lee 2020, "Does my multimodal model learn cross-modal interactions? It's harder to
tell than you might think!". Every row is projected with members that held it out, among the rows
that were held out with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from pairfuse.arrays import Floats, Ints
from pairfuse.errors import ConfigError
from pairfuse.features.views import Views
from pairfuse.fusion.ensemble import Ensemble, Member, ensemble_proba, softmax
from pairfuse.fusion.final_estimator import FinalEstimator
from pairfuse.fusion.fitting import ScaledRowSet
from pairfuse.fusion.heads import FusionNetwork, is_token_head
from pairfuse.fusion.scaling import scale
from pairfuse.fusion.training import build_network
from pairfuse.stats.bootstrap import Draws, Estimate, over_repeats
from pairfuse.stats.metrics import drawn_macro_f1, macro_f1, macro_f1_estimate
from pairfuse.study.folds import fold_members, outer_folds

#: Rows that lend their text or image to the others of a fold; all of them where there are fewer.
PARTNERS = 100
#: Pairs that are classified at a time.
_CHUNK = 8192
#: Probabilities below this count as this in logarithms.
_LEAST = 1e-12

#: `{view: (D,)}` and `{view: ()}` of a text and of an image, to the logarithms of (C,).
_Pair = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Projection:
    """Out-of-fold probabilities of the fused model and of its best additive stand-in."""

    fused: Floats  # (R, N, C)
    additive: Floats  # (R, N, C)


@dataclass(frozen=True)
class Interaction:
    """Macro-F1 of the fused model, of its additive projection, and the first less the second."""

    fused: Estimate
    additive: Estimate
    interaction: Estimate

    @property
    def is_there(self) -> bool:
        """Whether the model gains by text and image together, beyond what each adds."""
        return self.interaction.low > 0

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def emap(
    views: Views,
    ensemble: Ensemble,
    prepared: Sequence[ScaledRowSet],
    *,
    partners: int = PARTNERS,
    final_estimators: Sequence[FinalEstimator] = (),
    seed: int,
) -> Projection:
    """Project every fold of every repeat.

    Args:
        views: All rows, not scaled.
        ensemble: Member k was trained on row set `k % len(prepared)`.
        prepared: Row sets; those of one fold hold the same rows out.
        partners: See `additive_logits`.
        final_estimators: Of each fold, where the recipes are stacked; else members are averaged.
        seed: Fold number f draws its partners with `seed + f`.

    Returns:
        Rows without any view have the ensemble's prior in both.

    Raises:
        ConfigError: A view of the ensemble is joint: it is known for the pairs that there are, not
            for the text of one with the image of another.
    """
    if joint := joint_views(ensemble):
        raise ConfigError(
            f"the interaction of text and image cannot be told from {joint[0]}, which saw both "
            "together; leave it out of --encoders"
        )
    if reads_tokens(ensemble):
        raise ConfigError(
            "the interaction of text and image is told of heads that read pooled views, and one "
            "of these reads tokens; choose another recipe.head"
        )
    folds = outer_folds(prepared)
    shape = (1 + max(fold.repeat for fold in folds), len(views), len(ensemble.labels))
    fused, additive = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    for number, fold in enumerate(folds):
        members = fold_members(ensemble, fold, len(prepared))
        final_estimator = final_estimators[number] if final_estimators else ensemble.final_estimator
        fused[fold.repeat, fold.held_out] = ensemble_proba(
            members,
            views.rows(fold.held_out),
            prior=ensemble.prior,
            final_estimator=final_estimator,
        )
        logits = additive_logits(
            *(views, members, fold.held_out),
            partners=partners,
            final_estimator=final_estimator,
            seed=seed + number,
        )
        additive[fold.repeat, fold.held_out] = softmax(logits)
    lost = ~np.any([views.present[view] for view in ensemble.dims], axis=0)
    fused[:, lost] = additive[:, lost] = ensemble.prior
    return Projection(fused, additive)


def joint_views(ensemble: Ensemble) -> list[str]:
    """Views of an ensemble that saw text and image together."""
    return [view for view in ensemble.dims if ensemble.modality[view] == "joint"]


def reads_tokens(ensemble: Ensemble) -> bool:
    """Whether a member reads tokens, of which there are too many to cross each row with others."""
    return any(is_token_head(member.model.recipe.head) for member in ensemble.members)


def interaction(projection: Projection, targets: Ints, draws: Draws) -> Interaction:
    """Compare the fused model with its additive projection, on the same draws of rows."""
    classes = projection.fused.shape[-1]
    fused, additive = projection.fused.argmax(axis=-1), projection.additive.argmax(axis=-1)
    found = [
        macro_f1(targets, ours, classes) - macro_f1(targets, theirs, classes)
        for ours, theirs in zip(fused, additive, strict=True)
    ]
    drawn = drawn_macro_f1(targets, fused, classes, draws)
    drawn = drawn - drawn_macro_f1(targets, additive, classes, draws)
    difference, _ = over_repeats(np.array(found), drawn)
    return Interaction(
        macro_f1_estimate(targets, fused, classes, draws),
        macro_f1_estimate(targets, additive, classes, draws),
        difference,
    )


def additive_logits(
    views: Views,
    members: Sequence[Member],
    rows: Ints,
    *,
    partners: int = PARTNERS,
    final_estimator: FinalEstimator | None = None,
    seed: int,
) -> Floats:
    """The best additive stand-in for what the members say together, for these rows.

    f(i, j) is the log of the members' joint probability for the text of row i with the image of row
    j. Row i gets the mean of f(i, .) over images plus the mean of f(., i) over texts, less the mean
    of f over both. What a row lacks is lacking in its pairs too.

    Args:
        views: All rows, not scaled.
        members: Models that were not trained on these rows.
        rows: Shape (n,), rows of one fold.
        partners: Rows that are drawn to average over; exact where n is not larger.
        final_estimator: What makes one probability of the members'; none for their mean.
        seed: Seed of that draw.

    Returns:
        Shape (n, C), in the order of `rows`.
    """
    drawn = np.random.default_rng(seed).permutation(len(rows))[:partners]
    fold = views.rows(rows)
    crossings = [_Crossing.of(member, fold) for member in members]
    everyone, partner = torch.arange(len(rows)), torch.from_numpy(np.sort(drawn))
    over_images = _log_votes(crossings, final_estimator, everyone, partner)  # (n, P, C)
    if len(partner) == len(rows):
        over_texts = over_images.transpose(0, 1)
    else:
        over_texts = _log_votes(crossings, final_estimator, partner, everyone).transpose(0, 1)
    overall = over_images[partner].mean(dim=(0, 1))
    out: Floats = (over_images.mean(dim=1) + over_texts.mean(dim=1) - overall).numpy()
    return out


@dataclass(frozen=True)
class _Crossing:
    """One member's network with the scaled rows of a fold, texts and images apart."""

    network: FusionNetwork
    texts: Mapping[str, tuple[Tensor, Tensor]]  # {view: (n, D), (n,)}
    images: Mapping[str, tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, member: Member, fold: Views) -> _Crossing:
        scaled = scale(fold.only(list(member.scaling)), member.scaling)
        both = {
            view: (torch.from_numpy(values), torch.from_numpy(scaled.present[view]))
            for view, values in scaled.features.items()
        }
        texts = {view: both[view] for view in scaled.of("text")}
        images = {view: both[view] for view in scaled.of("image")}
        return cls(build_network(member.model), texts, images)

    def probabilities(self, texts: Tensor, images: Tensor) -> Tensor:
        """Of each of these rows' texts with each of these rows' images, (T, I, C).

        Nested vmaps compute what depends on the text alone once for each text, and what depends on
        the image alone once for each image. The places of the rows are given too, since a member
        may have no view of a modality.
        """

        def pair(text: Any, image: Any) -> Tensor:
            own = {**text[1], **image[1]}
            features = {view: values[None] for view, (values, _) in own.items()}  # (1, D)
            present = {view: there[None] for view, (_, there) in own.items()}  # (1,)
            return torch.softmax(self.network(features, present)[0], dim=-1)

        with torch.inference_mode():
            crossed: Tensor = vmap(vmap(pair, in_dims=(None, 0)), in_dims=(0, None))(
                (texts, _taken(self.texts, texts)), (images, _taken(self.images, images))
            )
        return crossed


def _taken(
    views: Mapping[str, tuple[Tensor, Tensor]], rows: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    return {view: (values[rows], present[rows]) for view, (values, present) in views.items()}


def _log_votes(
    crossings: Sequence[_Crossing],
    final_estimator: FinalEstimator | None,
    texts: Tensor,
    images: Tensor,
) -> Tensor:
    """Log of the members' joint probability of each text with each image, (T, I, C)."""
    parts = []
    for block in torch.split(texts, max(1, _CHUNK // len(images))):
        each = torch.stack([member.probabilities(block, images) for member in crossings])
        found = each.mean(dim=0) if final_estimator is None else _blended(each, final_estimator)
        parts.append(found.clamp_min(_LEAST).log())
    return torch.cat(parts)


def _blended(chances: Tensor, final_estimator: FinalEstimator) -> Tensor:
    """From all members' probabilities, (M, T, I, C), to (T, I, C)."""
    found = softmax(final_estimator.logits(chances.flatten(1, 2).numpy()))
    return torch.from_numpy(found).reshape(chances.shape[1:])

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
from pairfuse.fusion.baselines import FittedBaseline
from pairfuse.fusion.ensemble import Ensemble, Member, Predictor, nothing_to_read, softmax
from pairfuse.fusion.fitting import ScaledRowSet
from pairfuse.fusion.heads import FusionNetwork, is_token_head
from pairfuse.fusion.scaling import scale
from pairfuse.fusion.training import build_network
from pairfuse.stats.bootstrap import Draws, Estimate, over_repeats
from pairfuse.stats.metrics import drawn_macro_f1, macro_f1, macro_f1_estimate
from pairfuse.study.folds import outer_folds

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
    ensembles: Sequence[Ensemble],
    prepared: Sequence[ScaledRowSet],
    *,
    partners: int = PARTNERS,
    seed: int,
) -> Projection:
    """Project every fold of every repeat.

    Args:
        views: All rows, not scaled.
        ensembles: Of each fold the models that held its rows out.
        prepared: Row sets; those of one fold hold the same rows out.
        partners: See `additive_logits`.
        seed: Fold number f draws its partners with `seed + f`.

    Returns:
        Rows without anything to read have the prior in both.

    Raises:
        ConfigError: A view of an ensemble is joint: it is known for the pairs that there are, not
            for the text of one with the image of another.
    """
    if joint := joint_views(ensembles):
        raise ConfigError(
            f"the interaction of text and image cannot be told from {joint[0]}, which saw both "
            "together; leave it out of --encoders"
        )
    if reads_tokens(ensembles):
        raise ConfigError(
            "the interaction of text and image is told of heads that read pooled views, and one "
            "of these reads tokens; choose another recipe.head"
        )
    folds = outer_folds(prepared)
    shape = (1 + max(fold.repeat for fold in folds), len(views), len(ensembles[0].labels))
    fused, additive = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    for number, (fold, ensemble) in enumerate(zip(folds, ensembles, strict=True)):
        held = views.rows(fold.held_out)
        fused[fold.repeat, fold.held_out] = ensemble.predict_proba(held)
        logits = additive_logits(held, ensemble, partners=partners, seed=seed + number)
        lost = np.all([nothing_to_read(member, held) for member in ensemble.members], axis=0)
        additive[fold.repeat, fold.held_out] = softmax(logits)
        additive[fold.repeat, fold.held_out[lost]] = ensemble.prior
    return Projection(fused, additive)


def joint_views(ensembles: Sequence[Ensemble]) -> list[str]:
    """Views of these ensembles that saw text and image together."""
    return [view for each in ensembles for view in each.dims if each.modality[view] == "joint"]


def reads_tokens(ensembles: Sequence[Ensemble]) -> bool:
    """Whether a member reads tokens, of which there are too many to cross each row with others."""
    return any(
        is_token_head(member.model.recipe.head) for each in ensembles for member in each.heads
    )


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
    rows: Views, ensemble: Ensemble, *, partners: int = PARTNERS, seed: int
) -> Floats:
    """The best additive stand-in for what an ensemble says, for these rows.

    f(i, j) is the log of the ensemble's probability for the text of row i with the image of row j.
    Row i gets the mean of f(i, .) over images plus the mean of f(., i) over texts, less the mean
    of f over both. What a row lacks is lacking in its pairs too.

    Args:
        rows: The n rows of one fold, not scaled; the ensemble was not trained on them.
        ensemble: Its members' probabilities are averaged by their weights.
        partners: Rows that are drawn to average over; exact where n is not larger.
        seed: Seed of that draw.

    Returns:
        Shape (n, C).
    """
    drawn = np.random.default_rng(seed).permutation(len(rows))[:partners]
    crossings = [_crossing(member, rows) for member in ensemble.members]
    everyone, partner = torch.arange(len(rows)), torch.from_numpy(np.sort(drawn))

    def log_votes(texts: Tensor, images: Tensor) -> Tensor:  # (T, I, C)
        parts = []
        for block in torch.split(texts, max(1, _CHUNK // len(images))):
            each = zip(crossings, ensemble.weights, strict=True)
            total = sum(weight * crossing(block, images) for crossing, weight in each)
            parts.append(torch.as_tensor(total).clamp_min(_LEAST).log())
        return torch.cat(parts)

    over_images = log_votes(everyone, partner)  # (n, P, C)
    if len(partner) == len(rows):
        over_texts = over_images.transpose(0, 1)
    else:
        over_texts = log_votes(partner, everyone).transpose(0, 1)
    overall = over_images[partner].mean(dim=(0, 1))
    out: Floats = (over_images.mean(dim=1) + over_texts.mean(dim=1) - overall).float().numpy()
    return out


def _crossing(member: Predictor, rows: Views) -> Callable[[Tensor, Tensor], Tensor]:
    """What gives the probabilities (T, I, C) of the texts of some rows with images of others."""
    if isinstance(member, Member):
        return _Crossing.of(member, rows).probabilities
    assert isinstance(member, FittedBaseline)
    baseline = member

    def probabilities(texts: Tensor, images: Tensor) -> Tensor:
        crossed = baseline.crossed(rows.rows(texts.numpy()), rows.rows(images.numpy()))
        return torch.from_numpy(crossed)

    return probabilities


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

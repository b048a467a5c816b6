"""Heads: small trainable networks over views; HEADS is the table of them.

A head maps `{view: (M, B, D)}`, `{view: (M, B) bool}` to logits (M, B, C) for M models at once
(one model is a stack of one). It is built from widths alone and refuses other views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pairfuse.data.pairs import Modality
from pairfuse.errors import CheckpointError, ConfigError
from pairfuse.fusion.layers import Missing, StackedLinear, no_dropout

Drop = Callable[[Tensor], Tensor]
Stack = Mapping[str, Tensor]


@dataclass(frozen=True)
class HeadShape:
    """All that a head is built from: widths of its views, their modality, classes, hidden width."""

    dims: Mapping[str, int]
    modality: Mapping[str, Modality]
    num_classes: int
    width: int


class ConcatHead(nn.Module):
    """Features joined, one multilayer perceptron."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.hidden = StackedLinear(sum(shape.dims.values()), shape.width, seeds)
        self.classify = StackedLinear(shape.width, shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, drop: Drop) -> Tensor:
        joined = drop(torch.cat(list(views.values()), dim=-1))  # (M, B, sum D)
        logits: Tensor = self.classify(drop(functional.gelu(self.hidden(joined))))
        return logits


class LinearHead(nn.Module):
    """Features joined, one affine map: multinomial logistic regression."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.classify = StackedLinear(sum(shape.dims.values()), shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, drop: Drop) -> Tensor:
        logits: Tensor = self.classify(drop(torch.cat(list(views.values()), dim=-1)))
        return logits


class Projections(nn.Module):
    """Each view through its own layer to one shared width: (M, B, V, W)."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            StackedLinear(dim, shape.width, seeds) for dim in shape.dims.values()
        )

    def forward(self, views: Stack, drop: Drop) -> Tensor:
        projected = [
            functional.gelu(layer(drop(view)))
            for layer, view in zip(self.layers, views.values(), strict=True)
        ]
        return torch.stack(projected, dim=2)  # (M, B, V, W)


class ProjectedHead(nn.Module):
    """Each view to the shared width, then joined and classified by a perceptron."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.project = Projections(shape, seeds)
        self.hidden = StackedLinear(len(shape.dims) * shape.width, shape.width, seeds)
        self.classify = StackedLinear(shape.width, shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, drop: Drop) -> Tensor:
        joined = drop(self.project(views, drop).flatten(2))  # (M, B, V * W)
        logits: Tensor = self.classify(drop(functional.gelu(self.hidden(joined))))
        return logits


class AttentionHead(nn.Module):
    """Projected views, weighed by additive attention (Bahdanau et al. 2015), summed, classified.

    A missing view is weighed too, by its learnt stand-in: that it is missing can matter.
    """

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.project = Projections(shape, seeds)
        self.key = StackedLinear(shape.width, shape.width, seeds)
        self.score = StackedLinear(shape.width, 1, seeds)
        # The softmax over views cancels it; AdamW would make steps of its rounding errors.
        self.score.bias.requires_grad_(False)
        self.classify = StackedLinear(shape.width, shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, drop: Drop) -> Tensor:
        tokens = self.project(views, drop)  # (M, B, V, W)
        flat = tokens.flatten(1, 2)  # (M, B * V, W)
        scores = self.score(torch.tanh(self.key(flat))).reshape(tokens.shape[:3])
        weights = torch.softmax(scores, dim=-1)  # (M, B, V)
        pooled = (weights[..., None] * tokens).sum(dim=2)  # (M, B, W)
        logits: Tensor = self.classify(drop(pooled))
        return logits


class GatedHead(nn.Module):
    """Gated multimodal unit (Arevalo et al. 2017): all views together decide how far each opens."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            StackedLinear(dim, shape.width, seeds) for dim in shape.dims.values()
        )
        self.gates = StackedLinear(sum(shape.dims.values()), len(shape.dims) * shape.width, seeds)
        self.classify = StackedLinear(shape.width, shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, drop: Drop) -> Tensor:
        inputs = [drop(view) for view in views.values()]
        hidden = torch.stack(
            [torch.tanh(layer(x)) for layer, x in zip(self.layers, inputs, strict=True)], dim=2
        )  # (M, B, V, W)
        gates = torch.sigmoid(self.gates(torch.cat(inputs, dim=-1))).reshape(hidden.shape)
        logits: Tensor = self.classify(drop((gates * hidden).sum(dim=2)))
        return logits


class LateHead(nn.Module):
    """One classifier a modality; their probabilities are mixed by learnt weights.

    A modality of which every view is missing has no vote. No interaction between the modalities
    can be learnt, by construction.
    """

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.members = _by_modality(shape)
        parts = [
            HeadShape(
                {view: shape.dims[view] for view in views},
                shape.modality,
                shape.num_classes,
                shape.width,
            )
            for views in self.members.values()
        ]
        self.classifiers = nn.ModuleList(ConcatHead(part, seeds) for part in parts)
        self.votes = nn.Parameter(torch.zeros(len(seeds), 1, len(parts)))

    def forward(self, views: Stack, present: Stack, drop: Drop) -> Tensor:
        logs, there = [], []
        for views_of, classifier in zip(self.members.values(), self.classifiers, strict=True):
            part = {view: views[view] for view in views_of}
            logs.append(functional.log_softmax(classifier(part, present, drop), dim=-1))
            there.append(torch.stack([present[view] for view in views_of]).any(dim=0))
        heard = torch.stack(there, dim=-1)  # (M, B, modalities)
        heard = heard | ~heard.any(dim=-1, keepdim=True)
        votes = self.votes.expand_as(heard).masked_fill(~heard, -1e9)
        weights = functional.log_softmax(votes, dim=-1)  # (M, B, modalities)
        return torch.logsumexp(torch.stack(logs, dim=-1) + weights[..., None, :], dim=-1)


HEADS: Mapping[str, type[nn.Module]] = {
    "concat": ConcatHead,
    "projected": ProjectedHead,
    "attention": AttentionHead,
    "gated": GatedHead,
    "late": LateHead,
    "linear": LinearHead,
}


class FusionNetwork(nn.Module):
    """A head with a learnt vector for each missing view in front of it."""

    def __init__(self, name: str, shape: HeadShape, seeds: Sequence[int]) -> None:
        super().__init__()
        if name not in HEADS:
            raise ConfigError(f"no head {name!r}; choose one of {', '.join(HEADS)}")
        self.shape = shape
        self.missing = nn.ModuleDict(
            {_safe(view): Missing(dim, len(seeds)) for view, dim in shape.dims.items()}
        )
        self.head = HEADS[name](shape, [torch.Generator().manual_seed(seed) for seed in seeds])

    def forward(self, views: Stack, present: Stack, drop: Drop = no_dropout) -> Tensor:
        """Logits (M, B, C).

        Raises:
            CheckpointError: These are not the views that the head was built for.
        """
        found = {view: values.shape[-1] for view, values in views.items()}
        if found != dict(self.shape.dims):
            raise CheckpointError(
                f"the head was built for views {dict(self.shape.dims)}, found {found}; "
                "name the same encoders as in training"
            )
        filled = {
            view: self.missing[_safe(view)](views[view], present[view]) for view in self.shape.dims
        }
        logits: Tensor = self.head(filled, present, drop)
        return logits


def _by_modality(shape: HeadShape) -> dict[Modality, list[str]]:
    members: dict[Modality, list[str]] = {}
    for view in shape.dims:
        members.setdefault(shape.modality[view], []).append(view)
    return members


def _safe(view: str) -> str:
    """A module's name may hold no dot."""
    return view.replace(".", "·")

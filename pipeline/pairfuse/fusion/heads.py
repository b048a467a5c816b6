"""Heads: small trainable networks over views; HEADS is the table of them.

A head maps `{view: (M, B, D)}`, `{view: (M, B) bool}` to logits (M, B, C) for M models at once
(one model is a stack of one). It is built from widths alone and refuses other views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from pairfuse.data.pairs import Modality
from pairfuse.errors import CheckpointError, ConfigError
from pairfuse.fusion.layers import JoinedLinear, Missing, StackedLinear, no_dropout, safe

#: A layer's values and its name, to the values with some of them dropped.
Drop = Callable[[Tensor, str], Tensor]
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
        self.hidden = JoinedLinear(shape.dims, shape.width, seeds)
        self.classify = StackedLinear(shape.width, shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, drop: Drop) -> Tensor:
        dropped = {view: drop(values, view) for view, values in views.items()}
        logits: Tensor = self.classify(drop(functional.gelu(self.hidden(dropped)), "hidden"))
        return logits


class LinearHead(nn.Module):
    """Features joined, one affine map: multinomial logistic regression."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.classify = JoinedLinear(shape.dims, shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, drop: Drop) -> Tensor:
        logits: Tensor = self.classify({view: drop(values, view) for view, values in views.items()})
        return logits


class Projections(nn.Module):
    """Each view through its own layer to one shared width, {view: (M, B, W)}."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {safe(view): StackedLinear(dim, shape.width, seeds) for view, dim in shape.dims.items()}
        )

    def forward(self, views: Stack, drop: Drop) -> dict[str, Tensor]:
        return {
            view: functional.gelu(self.layers[safe(view)](drop(values, view)))
            for view, values in views.items()
        }


class ProjectedHead(nn.Module):
    """Each view to the shared width, then joined and classified by a perceptron."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.project = Projections(shape, seeds)
        self.hidden = JoinedLinear(dict.fromkeys(shape.dims, shape.width), shape.width, seeds)
        self.classify = StackedLinear(shape.width, shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, drop: Drop) -> Tensor:
        projected = self.project(views, drop)
        tokens = {view: drop(token, f"{view} projected") for view, token in projected.items()}
        logits: Tensor = self.classify(drop(functional.gelu(self.hidden(tokens)), "hidden"))
        return logits


class AttentionHead(nn.Module):
    """Projected views, weighed by additive attention (Bahdanau et al. 2015), summed, classified.

    A missing view is weighed too, by its learnt stand-in: that it is missing can matter.
    """

    unused: Tensor

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.project = Projections(shape, seeds)
        self.key = StackedLinear(shape.width, shape.width, seeds)
        self.score = StackedLinear(shape.width, 1, seeds)
        # The softmax over views cancels it; AdamW would make steps of its rounding errors.
        self.score.bias.requires_grad_(False)
        self.classify = StackedLinear(shape.width, shape.num_classes, seeds)
        self.register_buffer("unused", _all_used(shape, seeds), persistent=False)

    def forward(self, views: Stack, present: Stack, drop: Drop) -> Tensor:
        tokens = torch.stack(list(self.project(views, drop).values()), dim=2)  # (M, B, V, W)
        flat = tokens.flatten(1, 2)  # (M, B * V, W)
        scores = self.score(_tanh(self.key(flat))).reshape(tokens.shape[:3])
        weights = torch.softmax(scores + self.unused, dim=-1)  # (M, B, V)
        pooled = (weights[..., None] * tokens).sum(dim=2)  # (M, B, W)
        logits: Tensor = self.classify(drop(pooled, "hidden"))
        return logits


class GatedHead(nn.Module):
    """Gated multimodal unit (Arevalo et al. 2017): all views together decide how far each opens."""

    unused: Tensor

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {safe(view): StackedLinear(dim, shape.width, seeds) for view, dim in shape.dims.items()}
        )
        self.gates = nn.ModuleDict(
            {safe(view): JoinedLinear(shape.dims, shape.width, seeds) for view in shape.dims}
        )
        self.classify = StackedLinear(shape.width, shape.num_classes, seeds)
        self.register_buffer("unused", _all_used(shape, seeds), persistent=False)

    def forward(self, views: Stack, present: Stack, drop: Drop) -> Tensor:
        inputs = {view: drop(values, view) for view, values in views.items()}
        opened = [
            torch.sigmoid(self.gates[safe(view)](inputs) + self.unused[..., number, None])
            * _tanh(self.layers[safe(view)](values))
            for number, (view, values) in enumerate(inputs.items())
        ]
        logits: Tensor = self.classify(drop(torch.stack(opened).sum(dim=0), "hidden"))
        return logits


class LateHead(nn.Module):
    """One classifier a modality; their probabilities are mixed by learnt weights.

    A modality of which every view is missing has no vote. No interaction between the modalities
    can be learnt, by construction; joint views, which bring their own, have a vote together.
    """

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.members = _by_modality(shape)
        self.classifiers = nn.ModuleDict(
            {
                modality: ConcatHead(
                    replace(shape, dims={view: shape.dims[view] for view in views}), seeds
                )
                for modality, views in self.members.items()
            }
        )
        self.votes = nn.Parameter(torch.zeros(len(seeds), 1, len(self.members)))

    def forward(self, views: Stack, present: Stack, drop: Drop) -> Tensor:
        logs, there = [], []
        for modality, views_of in self.members.items():
            part = {view: views[view] for view in views_of}
            logits = self.classifiers[modality](part, present, drop)
            logs.append(functional.log_softmax(logits, dim=-1))
            seen = [present[view].expand(logits.shape[:2]) for view in views_of]
            there.append(torch.stack(seen).any(dim=0))
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
            {safe(view): Missing(dim, len(seeds)) for view, dim in shape.dims.items()}
        )
        self.head = HEADS[name](shape, [torch.Generator().manual_seed(seed) for seed in seeds])

    def forward(self, views: Stack, present: Stack, drop: Drop = no_dropout) -> Tensor:
        """Logits (M, B, C); each of `present` is (M, B), or one True for all rows.

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
            view: self.missing[safe(view)](views[view], present[view]) for view in self.shape.dims
        }
        logits: Tensor = self.head(filled, present, drop)
        return logits


def _tanh(values: Tensor) -> Tensor:
    """As torch.tanh, which takes five times as long on a CPU."""
    return 2 * torch.sigmoid(2 * values) - 1


def _all_used(shape: HeadShape, seeds: Sequence[torch.Generator]) -> Tensor:
    """Zeros (M, 1, V); a stack sets minus infinity for a view that a model does not use."""
    return torch.zeros(len(seeds), 1, len(shape.dims))


def _by_modality(shape: HeadShape) -> dict[Modality, list[str]]:
    members: dict[Modality, list[str]] = {}
    for view in shape.dims:
        members.setdefault(shape.modality[view], []).append(view)
    return dict(sorted(members.items()))

"""Token heads: networks over the sequences that encoders give.

A token head maps `{view: (M, B, T, D)}`, `{view: (M, B, T) bool}` to logits (M, B, C); the second
says which tokens are there. A view without any token in a row is missing there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pairfuse.fusion.blocks import (
    Attention,
    Corner,
    Drop,
    FeedForward,
    HeadShape,
    Norm,
    Stack,
)
from pairfuse.fusion.layers import JoinedLinear, StackedLinear, safe
from pairfuse.fusion.tokenpool import AttentionPooling


class CrossAttentionHead(nn.Module):
    """Each modality's tokens ask the other's (as in ViLBERT, Lu et al. 2019), both ways.

    Pre-norm attention with a residual, then a perceptron on each token; the mean over the tokens
    of each modality is classified. A modality alone asks itself.
    """

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.members, models = shape.members, len(seeds)
        self.own = Corner(shape, models)
        self.layers = nn.ModuleDict(
            {
                safe(view): StackedLinear(dim, shape.hidden_dim, seeds)
                for view, dim in shape.dims.items()
            }
        )
        self.norms, self.last = (
            nn.ModuleDict({modality: Norm(shape, models) for modality in self.members})
            for _ in range(2)
        )
        self.attend = nn.ModuleDict({m: Attention(shape, seeds) for m in self.members})
        self.think = nn.ModuleDict({m: FeedForward(shape, seeds) for m in self.members})
        self.classify = JoinedLinear(
            dict.fromkeys(self.members, shape.hidden_dim), shape.num_classes, seeds
        )

    def forward(self, views: Stack, there: Stack, drop: Drop) -> Tensor:
        tokens, masks = {}, {}
        for modality, views_of in self.members.items():
            tokens[modality] = torch.cat([self._project(v, views[v]) for v in views_of], dim=2)
            masks[modality] = torch.cat([self._used(v, there[v]) for v in views_of], dim=2)
        normal = {m: _by_row(self.norms[m], values) for m, values in tokens.items()}
        pooled = {}
        for modality, asking in tokens.items():
            others = [m for m in tokens if m != modality] or [modality]
            asked = torch.cat([normal[m] for m in others], dim=2)
            there_too = torch.cat([masks[m] for m in others], dim=2)
            closed = torch.zeros_like(there_too, dtype=asking.dtype)
            closed = closed.masked_fill(~there_too, -torch.inf)
            asking = asking + self.attend[modality](normal[modality], asked, closed)
            asking = _by_row(self.last[modality], _by_row(self.think[modality], asking))
            weights = masks[modality].to(asking.dtype)[..., None]  # (M, B, T, 1)
            mean = (asking * weights).sum(dim=2) / weights.sum(dim=2)
            pooled[modality] = drop(mean, f"{modality} pooled")
        logits: Tensor = self.classify(pooled)
        return logits

    def _project(self, view: str, values: Tensor) -> Tensor:
        return functional.gelu(_by_row(self.layers[safe(view)], values))  # (M, B, T, W)

    def _used(self, view: str, there: Tensor) -> Tensor:
        """The mask, without the padding that stands for a view that a model does not use."""
        place = self.own.names.index(view)
        return there & (self.own.unused[:, :, place, None] == 0)


class PooledHead(nn.Module):
    """Learnt attention makes one vector of each view's tokens; then as the head `concat`."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.pool = nn.ModuleDict(
            {
                safe(view): AttentionPooling(dim, shape.hidden_dim, seeds)
                for view, dim in shape.dims.items()
            }
        )
        self.join = JoinedLinear(shape.dims, shape.hidden_dim, seeds)
        self.classify = StackedLinear(shape.hidden_dim, shape.num_classes, seeds)

    def forward(self, views: Stack, there: Stack, drop: Drop) -> Tensor:
        pooled = {
            view: drop(self.pool[safe(view)](values, there[view]), f"{view} pooled")
            for view, values in views.items()
        }
        joined = drop(functional.gelu(self.join(pooled)), "joined")
        logits: Tensor = self.classify(joined)
        return logits


def _by_row(layer: nn.Module, tokens: Tensor) -> Tensor:
    """A layer for rows (M, R, W) on tokens (M, B, T, W)."""
    rows: Tensor = layer(tokens.flatten(1, 2))
    return rows.reshape(*tokens.shape[:3], rows.shape[-1])

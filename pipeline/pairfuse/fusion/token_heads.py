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
    DropoutFn,
    FeedForward,
    HeadShape,
    Norm,
    Stack,
)
from pairfuse.fusion.layers import JoinedLinear, StackedLinear, safe
from pairfuse.fusion.tokenpool import AttentionPooling


class CrossAttentionHead(nn.Module):
    """Each modality's tokens attend to the other's (as in ViLBERT, Lu et al. 2019), both ways.

    Pre-norm attention with a residual, then a perceptron on each token; the mean over the tokens
    of each modality is classified. A modality alone attends to itself.
    """

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.members, models = shape.members, len(seeds)
        self.layers = nn.ModuleDict(
            {
                safe(view): StackedLinear(dim, shape.hidden_dim, seeds)
                for view, dim in shape.dims.items()
            }
        )
        self.norms, self.final_norm = (
            nn.ModuleDict({modality: Norm(shape, models) for modality in self.members})
            for _ in range(2)
        )
        self.attn = nn.ModuleDict({m: Attention(shape, seeds) for m in self.members})
        self.ffn = nn.ModuleDict({m: FeedForward(shape, seeds) for m in self.members})
        self.classify = JoinedLinear(
            dict.fromkeys(self.members, shape.hidden_dim), shape.num_classes, seeds
        )

    def forward(self, views: Stack, attention_mask: Stack, dropout: DropoutFn) -> Tensor:
        tokens, masks = {}, {}
        for modality, views_of in self.members.items():
            tokens[modality] = torch.cat([self._project(v, views[v]) for v in views_of], dim=2)
            masks[modality] = torch.cat([attention_mask[v] for v in views_of], dim=2)
        normal = {m: _by_row(self.norms[m], values) for m, values in tokens.items()}
        pooled = {}
        for modality, query in tokens.items():
            others = [m for m in tokens if m != modality] or [modality]
            key = torch.cat([normal[m] for m in others], dim=2)
            key_mask = torch.cat([masks[m] for m in others], dim=2)
            attn_mask = torch.zeros_like(key_mask, dtype=query.dtype)
            attn_mask = attn_mask.masked_fill(~key_mask, -torch.inf)
            query = query + self.attn[modality](normal[modality], key, attn_mask)
            query = _by_row(self.final_norm[modality], _by_row(self.ffn[modality], query))
            weights = masks[modality].to(query.dtype)[..., None]  # (M, B, T, 1)
            mean = (query * weights).sum(dim=2) / weights.sum(dim=2)
            pooled[modality] = dropout(mean, f"{modality} pooled")
        logits: Tensor = self.classify(pooled)
        return logits

    def _project(self, view: str, values: Tensor) -> Tensor:
        return functional.gelu(_by_row(self.layers[safe(view)], values))  # (M, B, T, W)


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

    def forward(self, views: Stack, attention_mask: Stack, dropout: DropoutFn) -> Tensor:
        pooled = {
            view: dropout(self.pool[safe(view)](values, attention_mask[view]), f"{view} pooled")
            for view, values in views.items()
        }
        joined = dropout(functional.gelu(self.join(pooled)), "joined")
        logits: Tensor = self.classify(joined)
        return logits


def _by_row(layer: nn.Module, tokens: Tensor) -> Tensor:
    """A layer for rows (M, R, W) on tokens (M, B, T, W)."""
    rows: Tensor = layer(tokens.flatten(1, 2))
    return rows.reshape(*tokens.shape[:3], rows.shape[-1])

"""Token heads: networks over the sequences that encoders give.

A token head maps `{view: (B, T, D)}`, `{view: (B, T) bool}` to logits (B, C); the second says
which tokens are there, in each row at least one of each view.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pairfuse.fusion.blocks import (
    Attention,
    AttentionPooling,
    ByView,
    Dropout,
    FeedForward,
    HeadShape,
    Projections,
    safe,
)


class CrossAttentionHead(nn.Module):
    """Each modality's tokens attend to the other's (as in ViLBERT, Lu et al. 2019), both ways.

    Pre-norm attention with a residual, then a perceptron on each token; the mean over the tokens
    of each modality is classified. A modality alone attends to itself.
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.views_by_modality, width = shape.views_by_modality, shape.hidden_dim
        self.project = Projections(shape)
        modalities = list(self.views_by_modality)
        self.norm = nn.ModuleDict({m: nn.LayerNorm(width) for m in modalities})
        self.attn = nn.ModuleDict({m: Attention(width) for m in modalities})
        self.ffn = nn.ModuleDict({m: FeedForward(width) for m in modalities})
        self.final_norm = nn.ModuleDict({m: nn.LayerNorm(width) for m in modalities})
        self.dropout = Dropout(shape.dropout)
        self.classify = nn.Linear(len(modalities) * width, shape.num_classes)

    def forward(self, views: ByView, attention_mask: ByView) -> Tensor:
        projected = self.project(views)
        tokens = {
            modality: torch.cat([projected[view] for view in names], dim=1)  # (B, T, W)
            for modality, names in self.views_by_modality.items()
        }
        masks = {
            modality: torch.cat([attention_mask[view] for view in names], dim=1)  # (B, T)
            for modality, names in self.views_by_modality.items()
        }
        normal = {modality: self.norm[modality](values) for modality, values in tokens.items()}
        pooled = []
        for modality, query in tokens.items():
            others = [m for m in tokens if m != modality] or [modality]
            key = torch.cat([normal[m] for m in others], dim=1)
            key_mask = torch.cat([masks[m] for m in others], dim=1)
            attn_mask = torch.zeros_like(key_mask, dtype=query.dtype)
            attn_mask = attn_mask.masked_fill(~key_mask, -torch.inf)
            query = query + self.attn[modality](normal[modality], key, attn_mask)
            query = self.final_norm[modality](self.ffn[modality](query))
            weights = masks[modality].to(query.dtype)[..., None]  # (B, T, 1)
            pooled.append((query * weights).sum(dim=1) / weights.sum(dim=1))
        logits: Tensor = self.classify(self.dropout(torch.cat(pooled, dim=-1)))
        return logits


class PooledHead(nn.Module):
    """Learnt attention makes one vector of each view's tokens; then as the head `concat`."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        width = shape.hidden_dim
        self.pool = nn.ModuleDict(
            {safe(view): AttentionPooling(dim, width) for view, dim in shape.dims.items()}
        )
        self.dropout = Dropout(shape.dropout)
        self.hidden = nn.Linear(sum(shape.dims.values()), width)
        self.classify = nn.Linear(width, shape.num_classes)

    def forward(self, views: ByView, attention_mask: ByView) -> Tensor:
        pooled = [
            self.pool[safe(view)](values, attention_mask[view]) for view, values in views.items()
        ]
        joined = self.dropout(torch.cat(pooled, dim=-1))
        logits: Tensor = self.classify(self.dropout(functional.gelu(self.hidden(joined))))
        return logits

"""Token pooling that is learnt: for M models side by side, from sequences to one vector a row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pairfuse.fusion.layers import StackedLinear


class AttentionPooling(nn.Module):
    """Tokens weighed by additive attention (Bahdanau et al. 2015) and summed.

    Padding has no weight; a row without any token becomes zeros, for `Missing` to fill.
    """

    def __init__(self, dim: int, width: int, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.key = StackedLinear(dim, width, seeds)
        self.score = StackedLinear(width, 1, seeds)
        # The softmax over tokens cancels it; AdamW would make steps of its rounding errors.
        self.score.bias.requires_grad_(False)

    def forward(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Tokens (M, B, T, D) to (M, B, D); `attention_mask` (M, B, T) is true for real ones."""
        flat = tokens.flatten(1, 2)  # (M, B * T, D)
        scores = self.score(torch.tanh(self.key(flat))).reshape(attention_mask.shape)
        scores = scores.masked_fill(
            ~attention_mask, torch.finfo(scores.dtype).min
        )  # not all of them -inf
        weights = torch.softmax(scores, dim=-1) * attention_mask  # (M, B, T)
        return torch.einsum("mbt,mbtd->mbd", weights, tokens)

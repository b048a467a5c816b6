"""Parts of heads: what a head is built for, projections, attention, stand-ins for missing views."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pairfuse.data.pairs import Modality
from pairfuse.errors import CheckpointError

#: One tensor for each view.
ByView = Mapping[str, Tensor]
#: Attention looks in so many ways at once.
ATTENTION_HEADS = 4


@dataclass(frozen=True)
class HeadShape:
    """All that a head is built from: widths and modalities of its views, classes, hidden width."""

    dims: Mapping[str, int]
    modality: Mapping[str, Modality]
    num_classes: int
    hidden_dim: int
    dropout: float = 0.0

    @property
    def views_by_modality(self) -> dict[str, list[str]]:
        """The views of each modality that there is."""
        found: dict[str, list[str]] = {}
        for view in self.dims:
            found.setdefault(self.modality[view], []).append(view)
        return dict(sorted(found.items()))


class Dropout(nn.Module):
    """As `nn.Dropout`, whose Bernoulli numbers take three times as long to draw on a CPU.

    That is a sixth of a search. A head with `nn.Dropout` trains as well.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return values
        kept = torch.rand(values.shape, device=values.device) >= self.rate
        return values * (kept.to(values.dtype) / (1 - self.rate))


class Projections(nn.Module):
    """Each view through its own layer to one shared width, {view: (..., W)}."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {safe(view): nn.Linear(dim, shape.hidden_dim) for view, dim in shape.dims.items()}
        )

    def forward(self, views: ByView) -> dict[str, Tensor]:
        return {
            view: functional.gelu(self.layers[safe(view)](values)) for view, values in views.items()
        }


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017).

    Any width will do: inside it is rounded up to a multiple of the heads, which
    `nn.MultiheadAttention` does not do.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = ATTENTION_HEADS * math.ceil(width / ATTENTION_HEADS)
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(width, inner, bias=False)  # the softmax over keys would cancel it
        self.value = nn.Linear(width, inner)
        self.out = nn.Linear(inner, width)

    def forward(self, query: Tensor, key: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Attend from each query token (B, T, W) to the key tokens (B, S, W): (B, T, W).

        `attn_mask`, (B, S), is added to the scores: 0, or minus infinity for a token that is not
        there. At least one is there.
        """
        queries = _split_heads(self.query(query))  # (B, H, T, D)
        scores = queries @ _split_heads(self.key(key)).transpose(-1, -2)  # (B, H, T, S)
        scores = scores / math.sqrt(queries.shape[-1])
        if attn_mask is not None:
            scores = scores + attn_mask[:, None, None]
        values = torch.softmax(scores, dim=-1) @ _split_heads(self.value(key))  # (B, H, T, D)
        out: Tensor = self.out(values.transpose(1, 2).flatten(2))
        return out


def _split_heads(tokens: Tensor) -> Tensor:
    """(B, T, H * D) to (B, H, T, D)."""
    depth = tokens.shape[-1] // ATTENTION_HEADS
    return tokens.reshape(*tokens.shape[:2], ATTENTION_HEADS, depth).transpose(1, 2)


class FeedForward(nn.Module):
    """Two layers on each token by itself, twice as wide between, added to it: (B, T, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        added: Tensor = self.narrow(functional.gelu(self.wide(self.norm(tokens))))
        return tokens + added


class AttentionPooling(nn.Module):
    """Tokens weighed by additive attention (Bahdanau et al. 2015) and summed.

    Padding has no weight; a row without any token becomes zeros.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.key = nn.Linear(dim, width)
        self.score = nn.Linear(width, 1, bias=False)  # the softmax over tokens would cancel it

    def forward(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Tokens (B, T, D) to (B, D); `attention_mask` (B, T) is true for real ones."""
        scores = self.score(torch.tanh(self.key(tokens)))[..., 0]  # (B, T)
        # The least number in place of minus infinity: a softmax over that alone is not a number.
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1) * attention_mask
        return (weights[..., None] * tokens).sum(dim=1)


def fill_missing(values: Tensor, present: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
    """Let a learnt vector stand in where a view is missing.

    Args:
        values: Pooled vectors (B, D), or tokens (B, T, D).
        present: Of pooled vectors (B,), of tokens (B, T).
        vector: Shape (D,); the first token of a row that has none.

    Returns:
        Values without gaps; `present`, of tokens with at least one a row.
    """
    if values.dim() == 2:
        return torch.where(present[:, None], values, vector), present
    is_first = torch.arange(values.shape[1], device=values.device) == 0
    stands_in = ~present.any(dim=1, keepdim=True) & is_first  # (B, T)
    tokens = torch.where(present[..., None], values, 0)
    return torch.where(stands_in[..., None], vector, tokens), present | stands_in


def check_views(views: ByView, shape: HeadShape) -> None:
    """Refuse views, each (B, ..., D), that the head was not built for.

    Raises:
        CheckpointError: Says which there are and which were wanted.
    """
    found = {view: values.shape[-1] for view, values in views.items()}
    if found != dict(shape.dims):
        raise CheckpointError(
            f"the head was built for views {dict(shape.dims)}, found {found}; "
            "name the same encoders as in training"
        )


def safe(name: str) -> str:
    """A module's name may hold no dot."""
    return name.replace(".", "·")

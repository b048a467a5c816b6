"""Parts of heads: what a head is built for, projections, normalisation, attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pairfuse.data.pairs import Modality
from pairfuse.errors import CheckpointError
from pairfuse.fusion.layers import StackedLinear, safe

#: A layer's values and its name, to the values with some of them dropped.
DropoutFn = Callable[[Tensor, str], Tensor]
Stack = Mapping[str, Tensor]
#: Attention looks in so many ways at once.
ATTENTION_HEADS = 4
_EPSILON = 1e-5


@dataclass(frozen=True)
class HeadShape:
    """All that a head is built from: widths of its views, their modality, classes, hidden width."""

    dims: Mapping[str, int]
    modality: Mapping[str, Modality]
    num_classes: int
    hidden_dim: int

    @property
    def members(self) -> dict[str, list[str]]:
        """The views of each modality that there is."""
        found: dict[str, list[str]] = {}
        for view in self.dims:
            found.setdefault(self.modality[view], []).append(view)
        return dict(sorted(found.items()))


class Projections(nn.Module):
    """Each view through its own layer to one shared width, {view: (M, ..., W)}."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                safe(view): StackedLinear(dim, shape.hidden_dim, seeds)
                for view, dim in shape.dims.items()
            }
        )

    def forward(self, views: Stack, dropout: DropoutFn) -> dict[str, Tensor]:
        return {
            view: functional.gelu(self.layers[safe(view)](dropout(values, view)))
            for view, values in views.items()
        }


class Norm(nn.Module):
    """Layer normalisation (Ba et al. 2016), (M, R, W)."""

    def __init__(self, shape: HeadShape, models: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(models, 1, shape.hidden_dim))
        self.bias = nn.Parameter(torch.zeros(models, 1, shape.hidden_dim))

    def forward(self, inputs: Tensor) -> Tensor:
        normal = functional.layer_norm(inputs, inputs.shape[-1:], eps=_EPSILON)
        return torch.addcmul(self.bias, normal, self.gain)


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017), for M models.

    Any width will do: inside it is rounded up to a multiple of the heads. Column
    d * heads + h is the d-th of head h.
    """

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        inner = ATTENTION_HEADS * math.ceil(shape.hidden_dim / ATTENTION_HEADS)
        self.query = StackedLinear(shape.hidden_dim, inner, seeds)
        self.key = StackedLinear(shape.hidden_dim, inner, seeds)
        # The softmax over keys cancels it; AdamW would make steps of its rounding errors.
        self.key.bias.requires_grad_(False)
        self.value = StackedLinear(shape.hidden_dim, inner, seeds)
        self.out = StackedLinear(inner, shape.hidden_dim, seeds)

    def forward(self, query: Tensor, key: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Attend from each query token (M, B, T, W) to the key tokens (M, B, S, W): (M, B, T, W).

        `attn_mask`, (M, B, S), is added to the scores: 0, or minus infinity for a token that is
        not there. At least one is there.
        """
        queries = self._heads(self.query, query)  # (M, B, H, T, D)
        scores = queries @ self._heads(self.key, key).transpose(-1, -2)  # (M, B, H, T, S)
        scores = scores / math.sqrt(queries.shape[-1])
        if attn_mask is not None:
            scores = scores + attn_mask[:, :, None, None]
        values = torch.softmax(scores, dim=-1) @ self._heads(self.value, key)  # (M, B, H, T, D)
        out: Tensor = self.out(values.permute(0, 1, 3, 4, 2).flatten(3).flatten(1, 2))
        return out.reshape(query.shape)

    @staticmethod
    def _heads(layer: nn.Module, tokens: Tensor) -> Tensor:
        """(M, B, T, W) to (M, B, H, T, D)."""
        inner: Tensor = layer(tokens.flatten(1, 2))
        depth = inner.shape[-1] // ATTENTION_HEADS
        return inner.reshape(*tokens.shape[:3], depth, ATTENTION_HEADS).permute(0, 1, 4, 2, 3)


class FeedForward(nn.Module):
    """Two layers on each token by itself, twice as wide between, added to it: (M, R, W)."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.norm = Norm(shape, len(seeds))
        self.wide = StackedLinear(shape.hidden_dim, 2 * shape.hidden_dim, seeds)
        self.narrow = StackedLinear(2 * shape.hidden_dim, shape.hidden_dim, seeds)

    def forward(self, tokens: Tensor) -> Tensor:
        added: Tensor = self.narrow(functional.gelu(self.wide(self.norm(tokens))))
        return tokens + added


def check_views(views: Stack, shape: HeadShape) -> None:
    """Refuse views, each (M, B, ..., D), that the head was not built for.

    Raises:
        CheckpointError: Says which there are and which were wanted.
    """
    found = {view: values.shape[-1] for view, values in views.items()}
    if found != dict(shape.dims):
        raise CheckpointError(
            f"the head was built for views {dict(shape.dims)}, found {found}; "
            "name the same encoders as in training"
        )

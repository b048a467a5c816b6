"""Heads: small trainable networks over views; HEADS is the table of them.

A head is a plain module: it maps `{view: (B, D)}`, `{view: (B,) bool}` to logits (B, C), where the
second says which rows have the view. It is built from a `HeadShape`. That many of them train side
by side is the business of `training.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pairfuse.errors import ConfigError
from pairfuse.fusion.blocks import (
    Attention,
    ByView,
    Dropout,
    FeedForward,
    HeadShape,
    Projections,
    check_views,
    fill_missing,
    safe,
)
from pairfuse.fusion.token_heads import CrossAttentionHead, PooledHead

#: Rank of the interaction that `bilinear` learns for each unit.
RANK = 4


class ConcatHead(nn.Module):
    """Features joined, one multilayer perceptron."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.dropout = Dropout(shape.dropout)
        self.hidden = nn.Linear(sum(shape.dims.values()), shape.hidden_dim)
        self.classify = nn.Linear(shape.hidden_dim, shape.num_classes)

    def forward(self, views: ByView, present: ByView) -> Tensor:
        joined = self.dropout(_joined(views))
        logits: Tensor = self.classify(self.dropout(functional.gelu(self.hidden(joined))))
        return logits


class LinearHead(nn.Module):
    """Features joined, one affine map: multinomial logistic regression."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.dropout = Dropout(shape.dropout)
        self.classify = nn.Linear(sum(shape.dims.values()), shape.num_classes)

    def forward(self, views: ByView, present: ByView) -> Tensor:
        logits: Tensor = self.classify(self.dropout(_joined(views)))
        return logits


class ProjectedHead(nn.Module):
    """Each view to the shared width, then joined and classified by a perceptron."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.dropout = Dropout(shape.dropout)
        self.project = Projections(shape)
        self.hidden = nn.Linear(len(shape.dims) * shape.hidden_dim, shape.hidden_dim)
        self.classify = nn.Linear(shape.hidden_dim, shape.num_classes)

    def forward(self, views: ByView, present: ByView) -> Tensor:
        projected = self.project(_dropped(views, self.dropout))
        joined = self.dropout(_joined(projected))
        logits: Tensor = self.classify(self.dropout(functional.gelu(self.hidden(joined))))
        return logits


class AttentionHead(nn.Module):
    """Projected views, weighed by additive attention (Bahdanau et al. 2015), summed, classified.

    A missing view is weighed too, by its learnt stand-in: that it is missing can matter.
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.dropout = Dropout(shape.dropout)
        self.project = Projections(shape)
        self.key = nn.Linear(shape.hidden_dim, shape.hidden_dim)
        # Without a bias, which the softmax over views would cancel.
        self.score = nn.Linear(shape.hidden_dim, 1, bias=False)
        self.classify = nn.Linear(shape.hidden_dim, shape.num_classes)

    def forward(self, views: ByView, present: ByView) -> Tensor:
        tokens = _as_tokens(self.project(_dropped(views, self.dropout)))  # (B, V, W)
        weights = torch.softmax(self.score(torch.tanh(self.key(tokens))), dim=1)  # (B, V, 1)
        pooled = (weights * tokens).sum(dim=1)  # (B, W)
        logits: Tensor = self.classify(self.dropout(pooled))
        return logits


class GatedHead(nn.Module):
    """Gated multimodal unit (Arevalo et al. 2017): all views together decide how far each opens."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        dims, width = shape.dims, shape.hidden_dim
        self.dropout = Dropout(shape.dropout)
        self.layers = nn.ModuleDict({safe(v): nn.Linear(dim, width) for v, dim in dims.items()})
        self.gates = nn.ModuleDict({safe(v): nn.Linear(sum(dims.values()), width) for v in dims})
        self.classify = nn.Linear(width, shape.num_classes)

    def forward(self, views: ByView, present: ByView) -> Tensor:
        inputs = _dropped(views, self.dropout)
        joined = _joined(inputs)
        opened = [
            torch.sigmoid(self.gates[safe(view)](joined))
            * torch.tanh(self.layers[safe(view)](values))
            for view, values in inputs.items()
        ]
        logits: Tensor = self.classify(self.dropout(torch.stack(opened).sum(dim=0)))
        return logits


class LateHead(nn.Module):
    """One classifier a modality; their probabilities are mixed by learnt weights.

    A modality of which every view is missing has no vote. No interaction between the modalities
    can be learnt, by construction; joint views, which bring their own, have a vote together.
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.views_by_modality = shape.views_by_modality
        self.classifiers = nn.ModuleDict(
            {
                modality: ConcatHead(
                    replace(shape, dims={view: shape.dims[view] for view in names})
                )
                for modality, names in self.views_by_modality.items()
            }
        )
        self.votes = nn.Parameter(torch.zeros(len(self.views_by_modality)))

    def forward(self, views: ByView, present: ByView) -> Tensor:
        logs, seen = [], []
        for modality, names in self.views_by_modality.items():
            logits = self.classifiers[modality]({view: views[view] for view in names}, present)
            logs.append(functional.log_softmax(logits, dim=-1))
            seen.append(torch.stack([present[view] for view in names]).any(dim=0))
        heard = torch.stack(seen, dim=-1)  # (B, modalities)
        heard = heard | ~heard.any(dim=-1, keepdim=True)
        votes = torch.where(heard, self.votes, -1e9)
        weights = functional.log_softmax(votes, dim=-1)  # (B, modalities)
        return torch.logsumexp(torch.stack(logs, dim=-1) + weights[:, None], dim=-1)


class BilinearHead(nn.Module):
    """Low-rank multimodal fusion (Liu et al. 2018) of projected views.

    Each unit is a sum over `RANK` products, of one affine map for each modality.
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.views_by_modality, width = shape.views_by_modality, shape.hidden_dim
        self.dropout = Dropout(shape.dropout)
        self.project = Projections(shape)
        factors = {
            modality: nn.Linear(len(names) * width, width * RANK)
            for modality, names in self.views_by_modality.items()
        }
        with torch.no_grad():  # around one the product begins nearly additive, around zero flat
            for factor in factors.values():
                factor.bias.add_(1)
        self.factors = nn.ModuleDict(factors)
        self.classify = nn.Linear(width, shape.num_classes)

    def forward(self, views: ByView, present: ByView) -> Tensor:
        projected = self.project(_dropped(views, self.dropout))
        tokens = _dropped(projected, self.dropout)
        maps = [
            self.factors[modality](torch.cat([tokens[view] for view in names], dim=-1))
            for modality, names in self.views_by_modality.items()
        ]  # each (B, W * RANK), a unit's ranks side by side
        product = reduce(torch.mul, maps)
        fused = product.reshape(len(product), product.shape[1] // RANK, RANK).mean(dim=-1)  # (B, W)
        logits: Tensor = self.classify(self.dropout(fused))
        return logits


class FilmHead(nn.Module):
    """Feature-wise linear modulation (Perez et al. 2018), both ways.

    Each modality's features are scaled and shifted as the other's tell; both are classified.
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.views_by_modality, width = shape.views_by_modality, shape.hidden_dim
        self.dropout = Dropout(shape.dropout)
        self.project = nn.ModuleDict(
            {
                modality: nn.Linear(sum(shape.dims[view] for view in names), width)
                for modality, names in self.views_by_modality.items()
            }
        )
        others = (len(self.views_by_modality) - 1) * width
        modulated = self.views_by_modality if others else ()  # nothing tells one modality alone
        self.gains = nn.ModuleDict({modality: nn.Linear(others, width) for modality in modulated})
        self.shifts = nn.ModuleDict({modality: nn.Linear(others, width) for modality in modulated})
        self.classify = nn.Linear(len(self.views_by_modality) * width, shape.num_classes)

    def forward(self, views: ByView, present: ByView) -> Tensor:
        inputs = _dropped(views, self.dropout)
        hidden = {
            modality: functional.gelu(
                self.project[modality](torch.cat([inputs[view] for view in names], dim=-1))
            )
            for modality, names in self.views_by_modality.items()
        }
        told = _dropped(hidden, self.dropout)
        modulated = {modality: self._modulate(modality, told) for modality in told}
        logits: Tensor = self.classify(self.dropout(_joined(modulated)))
        return logits

    def _modulate(self, modality: str, hidden: ByView) -> Tensor:
        if modality not in self.gains:
            return hidden[modality]
        others = _joined({other: x for other, x in hidden.items() if other != modality})
        gain = 1 + self.gains[modality](others)
        return functional.gelu(gain * hidden[modality] + self.shifts[modality](others))


class DeepsetHead(nn.Module):
    """Deep set (Zaheer et al. 2017): the mean of the projected views, then a perceptron."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.dropout = Dropout(shape.dropout)
        self.project = Projections(shape)
        self.hidden = nn.Linear(shape.hidden_dim, shape.hidden_dim)
        self.classify = nn.Linear(shape.hidden_dim, shape.num_classes)

    def forward(self, views: ByView, present: ByView) -> Tensor:
        dropped = {view: self.dropout(values) for view, values in views.items()}
        pooled = torch.stack(list(self.project(dropped).values())).mean(dim=0)  # (B, W)
        hidden = functional.gelu(self.hidden(self.dropout(pooled)))
        logits: Tensor = self.classify(self.dropout(hidden))
        return logits


class TransformerHead(nn.Module):
    """Views as tokens of a transformer encoder (Vaswani et al. 2017), one pre-norm layer.

    A view's embedding is the bias of its own projection. The mean over views is classified.
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.dropout = Dropout(shape.dropout)
        self.project = Projections(shape)
        self.norm = nn.LayerNorm(shape.hidden_dim)
        self.attn = Attention(shape.hidden_dim)
        self.ffn = FeedForward(shape.hidden_dim)
        self.final_norm = nn.LayerNorm(shape.hidden_dim)
        self.classify = nn.Linear(shape.hidden_dim, shape.num_classes)

    def forward(self, views: ByView, present: ByView) -> Tensor:
        projected = self.project(_dropped(views, self.dropout))
        tokens = self.dropout(_as_tokens(projected))  # (B, V, W)
        normal = self.norm(tokens)
        tokens = self.ffn(tokens + self.attn(normal, normal))
        pooled = self.final_norm(tokens).mean(dim=1)
        logits: Tensor = self.classify(self.dropout(pooled))
        return logits


def _joined(views: ByView) -> Tensor:
    return torch.cat(list(views.values()), dim=-1)  # (B, sum D)


def _as_tokens(views: ByView) -> Tensor:
    return torch.stack(list(views.values()), dim=1)  # (B, V, W)


def _dropped(views: ByView, dropout: nn.Module) -> dict[str, Tensor]:
    return {view: dropout(values) for view, values in views.items()}


@dataclass(frozen=True)
class HeadSpec:
    """A head's class, and what it reads of each view: one pooled vector a row, or its tokens."""

    cls: type[nn.Module]
    reads: Literal["pooled", "tokens"] = "pooled"


HEADS: Mapping[str, HeadSpec] = {
    "concat": HeadSpec(ConcatHead),
    "projected": HeadSpec(ProjectedHead),
    "attention": HeadSpec(AttentionHead),
    "gated": HeadSpec(GatedHead),
    "late": HeadSpec(LateHead),
    "linear": HeadSpec(LinearHead),
    "bilinear": HeadSpec(BilinearHead),
    "film": HeadSpec(FilmHead),
    "deepset": HeadSpec(DeepsetHead),
    "transformer": HeadSpec(TransformerHead),
    "cross_attention": HeadSpec(CrossAttentionHead, reads="tokens"),
    "attention_pooling": HeadSpec(PooledHead, reads="tokens"),
}


def is_token_head(name: str) -> bool:
    """Whether there is a head of this name that reads tokens."""
    return name in HEADS and HEADS[name].reads == "tokens"


def check_head(name: str, *, has_tokens: bool = False) -> None:
    """Refuse a head that is not there, or that reads tokens where views have none.

    Raises:
        ConfigError: Says which, and what to choose.
    """
    if name not in HEADS:
        usable = [head for head in HEADS if has_tokens or not is_token_head(head)]
        raise ConfigError(f"no head {name!r}; choose one of {', '.join(usable)}")
    if is_token_head(name) and not has_tokens:
        raise ConfigError(
            f"head {name!r} attends to tokens, and a pooled view is one: attention over one key "
            "is the identity; choose bilinear, or keep token-level features with --tokens"
        )


class FusionNetwork(nn.Module):
    """A head with a learnt stand-in for each missing view in front of it.

    A stand-in starts at zero, which is the training mean.
    """

    def __init__(self, name: str, shape: HeadShape, *, seed: int = 0) -> None:
        super().__init__()
        check_head(name, has_tokens=True)
        self.shape = shape
        self.missing = nn.ParameterDict(
            {safe(view): nn.Parameter(torch.zeros(dim)) for view, dim in shape.dims.items()}
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # on the CPU, whatever the device
            self.head = HEADS[name].cls(shape)

    def forward(self, views: ByView, present: ByView) -> Tensor:
        """Logits (B, C).

        Args:
            views: Pooled vectors (B, D), or tokens (B, T, D).
            present: Which rows have the view, (B,), or which tokens are there, (B, T).

        Raises:
            CheckpointError: These are not the views that the head was built for.
        """
        check_views(views, self.shape)
        filled, masks = {}, {}
        for view in self.shape.dims:
            filled[view], masks[view] = fill_missing(
                views[view], present[view], self.missing[safe(view)]
            )
        logits: Tensor = self.head(filled, masks)
        return logits

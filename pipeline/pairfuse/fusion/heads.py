"""Heads: small trainable networks over views; HEADS is the table of them.

A head maps `{view: (M, B, D)}`, `{view: (M, B) bool}` to logits (M, B, C) for M models at once
(one model is a stack of one). It is built from widths alone and refuses other views.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pairfuse.errors import ConfigError
from pairfuse.fusion.blocks import (
    Attention,
    DropoutFn,
    FeedForward,
    HeadShape,
    Norm,
    Projections,
    Stack,
    check_views,
)
from pairfuse.fusion.layers import (
    JoinedLinear,
    Missing,
    MissingTokens,
    StackedLinear,
    no_dropout,
    safe,
)
from pairfuse.fusion.token_heads import CrossAttentionHead, PooledHead

#: Rank of the interaction that `bilinear` learns for each unit.
RANK = 4


class ConcatHead(nn.Module):
    """Features joined, one multilayer perceptron."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.hidden = JoinedLinear(shape.dims, shape.hidden_dim, seeds)
        self.classify = StackedLinear(shape.hidden_dim, shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, dropout: DropoutFn) -> Tensor:
        dropped = {view: dropout(values, view) for view, values in views.items()}
        logits: Tensor = self.classify(dropout(functional.gelu(self.hidden(dropped)), "hidden"))
        return logits


class LinearHead(nn.Module):
    """Features joined, one affine map: multinomial logistic regression."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.classify = JoinedLinear(shape.dims, shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, dropout: DropoutFn) -> Tensor:
        logits: Tensor = self.classify(
            {view: dropout(values, view) for view, values in views.items()}
        )
        return logits


class ProjectedHead(nn.Module):
    """Each view to the shared width, then joined and classified by a perceptron."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.project = Projections(shape, seeds)
        self.hidden = JoinedLinear(
            dict.fromkeys(shape.dims, shape.hidden_dim), shape.hidden_dim, seeds
        )
        self.classify = StackedLinear(shape.hidden_dim, shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, dropout: DropoutFn) -> Tensor:
        projected = self.project(views, dropout)
        tokens = {view: dropout(token, f"{view} projected") for view, token in projected.items()}
        logits: Tensor = self.classify(dropout(functional.gelu(self.hidden(tokens)), "hidden"))
        return logits


class AttentionHead(nn.Module):
    """Projected views, weighed by additive attention (Bahdanau et al. 2015), summed, classified.

    A missing view is weighed too, by its learnt stand-in: that it is missing can matter.
    """

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.project = Projections(shape, seeds)
        self.key = StackedLinear(shape.hidden_dim, shape.hidden_dim, seeds)
        self.score = StackedLinear(shape.hidden_dim, 1, seeds)
        # The softmax over views cancels it; AdamW would make steps of its rounding errors.
        self.score.bias.requires_grad_(False)
        self.classify = StackedLinear(shape.hidden_dim, shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, dropout: DropoutFn) -> Tensor:
        tokens = torch.stack(list(self.project(views, dropout).values()), dim=2)  # (M, B, V, W)
        flat = tokens.flatten(1, 2)  # (M, B * V, W)
        scores = self.score(_tanh(self.key(flat))).reshape(tokens.shape[:3])
        weights = torch.softmax(scores, dim=-1)  # (M, B, V)
        pooled = (weights[..., None] * tokens).sum(dim=2)  # (M, B, W)
        logits: Tensor = self.classify(dropout(pooled, "hidden"))
        return logits


class GatedHead(nn.Module):
    """Gated multimodal unit (Arevalo et al. 2017): all views together decide how far each opens."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                safe(view): StackedLinear(dim, shape.hidden_dim, seeds)
                for view, dim in shape.dims.items()
            }
        )
        self.gates = nn.ModuleDict(
            {safe(view): JoinedLinear(shape.dims, shape.hidden_dim, seeds) for view in shape.dims}
        )
        self.classify = StackedLinear(shape.hidden_dim, shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, dropout: DropoutFn) -> Tensor:
        inputs = {view: dropout(values, view) for view, values in views.items()}
        opened = [
            torch.sigmoid(self.gates[safe(view)](inputs)) * _tanh(self.layers[safe(view)](values))
            for view, values in inputs.items()
        ]
        logits: Tensor = self.classify(dropout(torch.stack(opened).sum(dim=0), "hidden"))
        return logits


class LateHead(nn.Module):
    """One classifier a modality; their probabilities are mixed by learnt weights.

    A modality of which every view is missing has no vote. No interaction between the modalities
    can be learnt, by construction; joint views, which bring their own, have a vote together.
    """

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.members = shape.members
        self.classifiers = nn.ModuleDict(
            {
                modality: ConcatHead(
                    replace(shape, dims={view: shape.dims[view] for view in views}), seeds
                )
                for modality, views in self.members.items()
            }
        )
        self.votes = nn.Parameter(torch.zeros(len(seeds), 1, len(self.members)))

    def forward(self, views: Stack, present: Stack, dropout: DropoutFn) -> Tensor:
        logs, seen = [], []
        for modality, views_of in self.members.items():
            part = {view: views[view] for view in views_of}
            logits = self.classifiers[modality](part, present, dropout)
            logs.append(functional.log_softmax(logits, dim=-1))
            own = [present[view].expand(logits.shape[:2]) for view in views_of]
            seen.append(torch.stack(own).any(dim=0))
        heard = torch.stack(seen, dim=-1)  # (M, B, modalities)
        heard = heard | ~heard.any(dim=-1, keepdim=True)
        votes = self.votes.expand_as(heard).masked_fill(~heard, -1e9)
        weights = functional.log_softmax(votes, dim=-1)  # (M, B, modalities)
        return torch.logsumexp(torch.stack(logs, dim=-1) + weights[..., None, :], dim=-1)


class BilinearHead(nn.Module):
    """Low-rank multimodal fusion (Liu et al. 2018) of projected views.

    Each unit is a sum over `RANK` products, of one affine map for each modality.
    """

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.members = shape.members
        self.project = Projections(shape, seeds)
        factors = {
            modality: JoinedLinear(
                dict.fromkeys(views, shape.hidden_dim), shape.hidden_dim * RANK, seeds
            )
            for modality, views in self.members.items()
        }
        with torch.no_grad():  # around one the product begins nearly additive, around zero flat
            for factor in factors.values():
                factor.bias.add_(1)
        self.factors = nn.ModuleDict(factors)
        self.classify = StackedLinear(shape.hidden_dim, shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, dropout: DropoutFn) -> Tensor:
        projected = self.project(views, dropout)
        tokens = {view: dropout(token, f"{view} projected") for view, token in projected.items()}
        maps = [
            self.factors[modality]({view: tokens[view] for view in views_of})
            for modality, views_of in self.members.items()
        ]  # each (M, B, W * RANK), a unit's ranks side by side
        product = reduce(torch.mul, maps)
        models, rows, wide = product.shape
        fused = product.reshape(models, rows, wide // RANK, RANK).mean(dim=-1)  # (M, B, W)
        logits: Tensor = self.classify(dropout(fused, "hidden"))
        return logits


class FilmHead(nn.Module):
    """Feature-wise linear modulation (Perez et al. 2018), both ways.

    Each modality's features are scaled and shifted as the other's tell; both are classified.
    """

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.members = shape.members
        self.project = nn.ModuleDict(
            {
                modality: JoinedLinear({v: shape.dims[v] for v in views}, shape.hidden_dim, seeds)
                for modality, views in self.members.items()
            }
        )
        others = {
            modality: {other: shape.hidden_dim for other in self.members if other != modality}
            for modality in self.members
        }
        self.gains, self.shifts = (
            nn.ModuleDict(
                {
                    m: JoinedLinear(told, shape.hidden_dim, seeds)
                    for m, told in others.items()
                    if told
                }
            )
            for _ in range(2)
        )
        self.classify = JoinedLinear(
            dict.fromkeys(self.members, shape.hidden_dim), shape.num_classes, seeds
        )

    def forward(self, views: Stack, present: Stack, dropout: DropoutFn) -> Tensor:
        inputs = {view: dropout(values, view) for view, values in views.items()}
        hidden = {
            modality: functional.gelu(
                self.project[modality]({view: inputs[view] for view in views_of})
            )
            for modality, views_of in self.members.items()
        }
        told = {
            modality: dropout(values, f"{modality} hidden") for modality, values in hidden.items()
        }
        modulated = {modality: self._modulate(modality, told) for modality in told}
        logits: Tensor = self.classify(
            {
                modality: dropout(values, f"{modality} told")
                for modality, values in modulated.items()
            }
        )
        return logits

    def _modulate(self, modality: str, hidden: Stack) -> Tensor:
        if modality not in self.gains:
            return hidden[modality]
        others = {other: values for other, values in hidden.items() if other != modality}
        gain = 1 + self.gains[modality](others)
        return functional.gelu(gain * hidden[modality] + self.shifts[modality](others))


class DeepsetHead(nn.Module):
    """Deep set (Zaheer et al. 2017): the mean of the projected views, then a perceptron."""

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.project = Projections(shape, seeds)
        self.hidden = StackedLinear(shape.hidden_dim, shape.hidden_dim, seeds)
        self.classify = StackedLinear(shape.hidden_dim, shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, dropout: DropoutFn) -> Tensor:
        pooled = torch.stack(list(self.project(views, dropout).values())).mean(dim=0)
        hidden = functional.gelu(self.hidden(dropout(pooled, "pooled")))
        logits: Tensor = self.classify(dropout(hidden, "hidden"))
        return logits


class TransformerHead(nn.Module):
    """Views as tokens of a transformer encoder (Vaswani et al. 2017), one pre-norm layer.

    A view's embedding is the bias of its own projection. The mean over views is classified.
    """

    def __init__(self, shape: HeadShape, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.project = Projections(shape, seeds)
        self.norm = Norm(shape, len(seeds))
        self.attn = Attention(shape, seeds)
        self.ffn = FeedForward(shape, seeds)
        self.final_norm = Norm(shape, len(seeds))
        self.classify = StackedLinear(shape.hidden_dim, shape.num_classes, seeds)

    def forward(self, views: Stack, present: Stack, dropout: DropoutFn) -> Tensor:
        projected = self.project(views, dropout)
        dropped = [dropout(token, f"{view} projected") for view, token in projected.items()]
        tokens = torch.stack(dropped, dim=2)  # (M, B, V, W)
        normal = self.norm(tokens.flatten(1, 2)).reshape(tokens.shape)
        tokens = tokens + self.attn(normal, normal)
        rows = self.final_norm(self.ffn(tokens.flatten(1, 2)))  # (M, B * V, W)
        pooled = rows.reshape(tokens.shape).mean(dim=2)
        logits: Tensor = self.classify(dropout(pooled, "hidden"))
        return logits


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
    if name == "stacking":
        raise ConfigError(
            "stacking joins other heads: name it beside two of them in `pairfuse matrix`, or use "
            "--set study.ensemble=stacking"
        )
    if name not in HEADS:
        usable = [head for head in HEADS if has_tokens or not is_token_head(head)]
        raise ConfigError(f"no head {name!r}; choose one of {', '.join(usable)}")
    if is_token_head(name) and not has_tokens:
        raise ConfigError(
            f"head {name!r} attends to tokens, and a pooled view is one: attention over one key "
            "is the identity; choose bilinear, or keep token-level features with --tokens"
        )


class FusionNetwork(nn.Module):
    """A head with a learnt stand-in for each missing view in front of it."""

    def __init__(self, name: str, shape: HeadShape, seeds: Sequence[int]) -> None:
        super().__init__()
        check_head(name, has_tokens=True)
        spec = HEADS[name]
        missing = MissingTokens if spec.reads == "tokens" else Missing
        self.shape = shape
        self.missing = nn.ModuleDict(
            {safe(view): missing(dim, len(seeds)) for view, dim in shape.dims.items()}
        )
        self.head = spec.cls(shape, [torch.Generator().manual_seed(seed) for seed in seeds])

    def forward(self, views: Stack, present: Stack, dropout: DropoutFn = no_dropout) -> Tensor:
        """Logits (M, B, C).

        Args:
            views: Pooled vectors (M, B, D), or tokens (M, B, T, D).
            present: Of pooled vectors (M, B), or one True for all rows; of tokens (M, B, T).
            dropout: The dropout of this training step.

        Raises:
            CheckpointError: These are not the views that the head was built for.
        """
        check_views(views, self.shape)
        filled, masks = {}, {}
        for view in self.shape.dims:
            filled[view], masks[view] = self.missing[safe(view)](views[view], present[view])
        logits: Tensor = self.head(filled, masks, dropout)
        return logits


def _tanh(values: Tensor) -> Tensor:
    """As torch.tanh, which takes five times as long on a CPU."""
    return 2 * torch.sigmoid(2 * values) - 1

"""Layers for M models side by side: every parameter and every activation has a leading M.

A model's numbers depend on its own seed alone, so that it comes out the same trained alone or in
a stack.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from zlib import crc32

import torch
from torch import Tensor, nn


class StackedLinear(nn.Module):
    """M affine maps, (M, B, D) to (M, B, W); each is drawn from its own generator."""

    def __init__(self, dim: int, width: int, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        both = _draw(dim + 1, width, seeds, bound=1 / math.sqrt(dim))  # as torch.nn.Linear
        self.weight = nn.Parameter(both[:, :-1].contiguous())  # (M, D, W)
        self.bias = nn.Parameter(both[:, -1:].contiguous())  # (M, 1, W)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, inputs, self.weight)  # (M, B, W)


class JoinedLinear(nn.Module):
    """M affine maps of several inputs joined, kept as one block of the matrix for each input."""

    def __init__(
        self, dims: Mapping[str, int], width: int, seeds: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(sum(dims.values()))
        self.blocks = nn.ParameterDict(
            {safe(name): _draw(dim, width, seeds, bound=bound) for name, dim in dims.items()}
        )
        self.bias = nn.Parameter(_draw(1, width, seeds, bound=bound))

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        out: Tensor = self.bias
        for name, values in inputs.items():
            out = torch.baddbmm(out, values, self.blocks[safe(name)])
        return out  # (M, B, W)


class Missing(nn.Module):
    """A learnt vector stands in where a view is missing; it starts at the training mean, zero."""

    def __init__(self, dim: int, models: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(models, 1, dim))

    def forward(self, inputs: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (M, B, D) without gaps; `present`, (M, B) or one True for all rows, as it was."""
        if present.dim() == 0:
            return inputs, present
        return torch.where(present[..., None], inputs, self.vector), present


class MissingTokens(nn.Module):
    """A learnt token stands in where a view has none; it starts at the training mean, zero."""

    def __init__(self, dim: int, models: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(models, 1, dim))

    def forward(self, tokens: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (M, B, T, D) and mask (M, B, T), in each row at least one that is there."""
        missing = ~attention_mask.any(dim=2)  # (M, B)
        first = torch.zeros_like(attention_mask)
        first[:, :, 0] = missing
        tokens = torch.where(attention_mask[..., None], tokens, 0)
        tokens = torch.where(first[..., None], self.vector[:, :, None], tokens)
        return tokens, attention_mask | first


class Dropout:
    """Inverted dropout with a rate for each of the M models.

    Which units fall follows from the epoch, the step and the place in the network, not from the
    model: all models of a stack share one draw, which makes it cheap and leaves each of them the
    same in any company. Rows come to each model in another order.
    """

    #: Random numbers drawn once; a mask is a window of them, its rows `_STRIDE` numbers apart.
    _SPAN, _STRIDE = 2**20, 1031

    def __init__(self, rates: Tensor, batch: int) -> None:
        self.rates = rates.reshape(-1, 1, 1)  # (M, 1, 1)
        size = self._SPAN + (batch + 8) * self._STRIDE
        noise = torch.rand(size, generator=torch.Generator().manual_seed(0))
        self.noise = noise.to(rates.device)
        self.moment = 0

    def begin(self, epoch: int, step: int) -> None:
        """Called before each step."""
        self.moment = epoch * 1_000_003 + step * 7_919

    def __call__(self, inputs: Tensor, place: str) -> Tensor:
        """`place` names the layer (M, B, W) in the network."""
        start = (self.moment + crc32(place.encode())) * 2_654_435_761 % self._SPAN
        _, rows, width = inputs.shape
        noise = self.noise.as_strided((rows, width), (self._STRIDE, 1), start)
        kept = torch.ge(noise, self.rates, out=torch.empty_like(inputs, requires_grad=False))
        return inputs * kept.mul_(1 / (1 - self.rates))

    def select(self, models: Tensor) -> None:
        """Go on with the named models only."""
        self.rates = self.rates[models]


class ModalityDropout:
    """Rows of a training step lose a modality by chance, never the only one that they have.

    As in `Dropout`, which rows lose which follows from the epoch and the step alone.
    """

    def __init__(
        self, rates: Tensor, views: Sequence[Collection[str]], modality: Mapping[str, str]
    ) -> None:
        """`views` are those that each of the M models uses; `modality` is that of all of them."""
        self.rates = rates[:, None]  # (M, 1)
        self.is_on = bool(rates.any())
        self.members: dict[str, list[str]] = {}
        for view, kind in sorted(modality.items()):
            self.members.setdefault(kind, []).append(view)
        self.used = {
            view: torch.tensor([[view in own] for own in views], device=rates.device)  # (M, 1)
            for view in modality
        }
        self.begin(0, 0)

    def begin(self, epoch: int, step: int) -> None:
        """Called before each step."""
        self.moment = epoch * 1_000_003 + step

    def draw(self, batch: int) -> Tensor:
        """Two numbers in [0, 1) for each row of this step's batch, (B, 2)."""
        generator = torch.Generator().manual_seed(self.moment)
        return torch.rand(batch, 2, generator=generator).to(self.rates.device)

    def __call__(self, present: Mapping[str, Tensor], drawn: Tensor) -> Mapping[str, Tensor]:
        """What is left of views that are `present`, (M, B) or one True for all rows."""
        if not self.is_on:
            return present
        rows = (len(self.rates), len(drawn))
        seen = [
            torch.stack([(present[v] & self.used[v]).expand(rows) for v in views]).any(dim=0)
            for views in self.members.values()
        ]  # each (M, B)
        loses = (drawn[:, 0] < self.rates) & (torch.stack(seen).sum(dim=0) > 1)
        chosen = (drawn[:, 1] * len(seen)).long()  # the number of a modality, (B,)
        return {
            view: present[view] & ~(loses & (chosen == number))
            for number, views in enumerate(self.members.values())
            for view in views
        }

    def select(self, models: Tensor) -> None:
        """Go on with the named models only."""
        self.rates = self.rates[models]
        self.used = {view: used[models] for view, used in self.used.items()}


def no_dropout(inputs: Tensor, place: str) -> Tensor:
    """Prediction: everything is kept."""
    return inputs


def safe(name: str) -> str:
    """A module's name may hold no dot."""
    return name.replace(".", "·")


def _draw(rows: int, width: int, seeds: Sequence[torch.Generator], *, bound: float) -> Tensor:
    """Uniform in [-bound, bound], (M, rows, W)."""
    drawn = [torch.rand(rows, width, generator=seed) * 2 - 1 for seed in seeds]
    return torch.stack(drawn) * bound

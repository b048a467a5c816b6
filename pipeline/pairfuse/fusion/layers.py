"""Layers for M models side by side: every parameter and every activation has a leading M.

A model's numbers depend on its own seed alone, so that it comes out the same trained alone or in
a stack.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class StackedLinear(nn.Module):
    """M affine maps, (M, B, D) to (M, B, W); each is drawn from its own generator."""

    def __init__(self, dim: int, width: int, seeds: Sequence[torch.Generator]) -> None:
        super().__init__()
        bound = 1 / math.sqrt(dim)  # as torch.nn.Linear
        draw = [torch.rand(dim + 1, width, generator=seed) * 2 - 1 for seed in seeds]
        both = torch.stack(draw) * bound  # (M, D + 1, W)
        self.weight = nn.Parameter(both[:, :-1].contiguous())
        self.bias = nn.Parameter(both[:, -1:].contiguous())

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, inputs, self.weight)  # (M, B, W)


class Missing(nn.Module):
    """A learnt vector stands in where a view is missing; it starts at the training mean, zero."""

    def __init__(self, dim: int, models: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(models, 1, dim))

    def forward(self, inputs: Tensor, present: Tensor) -> Tensor:
        return torch.where(present[..., None], inputs, self.vector)  # (M, B, D)


class Dropout:
    """Inverted dropout with a rate and a generator for each of the M models.

    Models that are not `active` draw nothing: one that waits for longer epochs of others goes on
    where it was.
    """

    def __init__(self, rates: Tensor, generators: Sequence[torch.Generator]) -> None:
        self.keep = (1 - rates).reshape(-1, 1, 1)  # (M, 1, 1)
        self.generators = list(generators)
        self.active = [True] * len(self.generators)

    def __call__(self, inputs: Tensor) -> Tensor:
        shape = inputs.shape[1:]
        noise = torch.stack(
            [
                torch.rand(shape, generator=generator) if active else torch.zeros(shape)
                for generator, active in zip(self.generators, self.active, strict=True)
            ]
        )
        kept = noise.to(inputs.device) < self.keep.to(inputs.device)
        return inputs * kept / self.keep.to(inputs.device)

    def select(self, models: Sequence[int]) -> None:
        """Go on with the named models only."""
        self.keep = self.keep[list(models)]
        self.generators = [self.generators[model] for model in models]
        self.active = [True] * len(self.generators)


def no_dropout(inputs: Tensor) -> Tensor:
    """Prediction: everything is kept."""
    return inputs

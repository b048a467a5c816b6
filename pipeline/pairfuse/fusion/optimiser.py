"""Optimiser: AdamW for M models at once, with a rate, a decay and a clipping norm for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class StackedAdamW:
    """AdamW (Loshchilov and Hutter 2019) over parameters with a leading M.

    The gradient norm is clipped for each model by itself. Only weights decay: a parameter with
    one row (a bias, a stand-in vector) does not.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        decay: Sequence[float],
        clip: Sequence[float],
    ) -> None:
        self.parameters = dict(parameters)
        device = next(iter(self.parameters.values())).device
        self.decay = torch.tensor(decay, device=device)
        self.clip = torch.tensor(clip, device=device)
        self.steps = torch.zeros(len(decay), device=device)
        self.first = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.second = {name: torch.zeros_like(p) for name, p in self.parameters.items()}

    @torch.no_grad()
    def step(self, rates: Tensor, active: Tensor) -> None:
        """Update the active models, shape (M,) each; the others stay as they are."""
        self.steps += active
        shrink = self._shrink()
        first_debias = 1 - _BETAS[0] ** self.steps.clamp(min=1)
        second_debias = 1 - _BETAS[1] ** self.steps.clamp(min=1)
        everyone = bool(active.all())
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            shape = (-1,) + (1,) * (parameter.dim() - 1)
            grad = parameter.grad * shrink.reshape(shape)
            on = None if everyone else active.reshape(shape)
            _blend(self.first[name], grad, _BETAS[0], on)
            _blend(self.second[name], grad * grad, _BETAS[1], on)
            spread = (self.second[name] / second_debias.reshape(shape)).sqrt_().add_(_EPSILON)
            update = self.first[name] / first_debias.reshape(shape) / spread
            if parameter.dim() > 2 and parameter.shape[1] > 1:
                update += self.decay.reshape(shape) * parameter
            update *= (rates * active).reshape(shape)
            parameter.sub_(update)

    def select(self, models: Tensor) -> None:
        """Go on with the named models only."""
        self.decay, self.clip = self.decay[models], self.clip[models]
        self.steps = self.steps[models]
        self.first = {name: values[models].contiguous() for name, values in self.first.items()}
        self.second = {name: values[models].contiguous() for name, values in self.second.items()}

    def _shrink(self) -> Tensor:
        """Factor for each model that brings its gradient's norm to at most `clip`, shape (M,)."""
        squares = torch.zeros_like(self.clip)
        for parameter in self.parameters.values():
            if parameter.grad is not None:
                squares += parameter.grad.pow(2).flatten(1).sum(dim=1)
        return (self.clip / squares.sqrt().clamp(min=1e-12)).clamp(max=1)


def _blend(average: Tensor, new: Tensor, beta: float, active: Tensor | None) -> None:
    if active is None:
        average.lerp_(new, 1 - beta)
    else:
        average.copy_(torch.where(active, torch.lerp(average, new, 1 - beta), average))

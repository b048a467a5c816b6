"""Optimiser: AdamW for M models at once, with a rate, a decay and a clipping norm for each.

All parameters lie in one array, a row for each model; the network's parameters are windows into
it, so that an update is a few passes over memory, however many layers there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class StackedAdamW:
    """AdamW (Loshchilov and Hutter 2019) over parameters with a leading M.

    The gradient norm is clipped for each model by itself. Only weights decay: biases, gains,
    stand-in vectors and votes do not.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        decay: Sequence[float],
        clip: Sequence[float],
    ) -> None:
        ordered = sorted(parameters.items(), key=lambda item: not _decays(item[0]))
        self.parameters = dict(ordered)
        self.shapes = {name: p.shape[1:] for name, p in ordered}
        self.decaying = sum(p[0].numel() for name, p in ordered if _decays(name))
        self.values = torch.cat([p.detach().flatten(1) for _, p in ordered], dim=1)  # (M, n)
        device = self.values.device
        self.decay = torch.tensor(decay, device=device)
        self.clip = torch.tensor(clip, device=device)
        self.steps = torch.zeros(len(decay), device=device)
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(self.values), torch.zeros_like(self.values)
        self.grad = torch.zeros_like(self.values)
        self.bind(self.values)

    def windows(self, rows: Tensor) -> dict[str, Tensor]:
        """The parameters by name, as windows into rows (M, n) laid out as `values`."""
        out, start = {}, 0
        for name, shape in self.shapes.items():
            stop = start + shape.numel()
            out[name] = rows[:, start:stop].view(len(rows), *shape)
            start = stop
        return out

    def bind(self, values: Tensor) -> None:
        """Let the network compute with these parameters (M, n) from now on."""
        self.values = values
        for name, window in self.windows(values).items():
            self.parameters[name].data = window

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a scalar loss, the sum over models, to those gathered so far."""
        found = torch.autograd.grad(loss, list(self.parameters.values()), allow_unused=True)
        for window, grad in zip(self.windows(self.grad).values(), found, strict=True):
            if grad is not None:
                window.add_(grad)

    @torch.no_grad()
    def step(self, rates: Tensor, active: Tensor) -> None:
        """Update the active models, shape (M,) each, and clear the gradients."""
        self.steps += active
        on = active[:, None].float()
        norm = torch.linalg.vector_norm(self.grad, dim=1).clamp(min=1e-12)
        self.grad.mul_((self.clip / norm).clamp(max=1)[:, None])
        self.exp_avg.lerp_(self.grad, (1 - _BETAS[0]) * on)
        self.exp_avg_sq.lerp_(self.grad.square_(), (1 - _BETAS[1]) * on)
        taken = self.steps.clamp(min=1)[:, None]
        spread = (1 - _BETAS[1] ** taken).sqrt()  # (M, 1)
        size = -rates[:, None] * on * spread / (1 - _BETAS[0] ** taken)
        update = torch.sqrt(self.exp_avg_sq).add_(_EPSILON * spread)
        torch.div(self.exp_avg, update, out=update)
        self.values[:, : self.decaying].mul_(1 - rates[:, None] * on * self.decay[:, None])
        self.values.add_(update.mul_(size))
        self.grad.zero_()

    def select(self, models: Tensor) -> None:
        """Go on with the named models only."""
        self.decay, self.clip = self.decay[models], self.clip[models]
        self.steps = self.steps[models]
        self.exp_avg, self.exp_avg_sq = self.exp_avg[models], self.exp_avg_sq[models]
        self.grad = self.grad[models]
        self.bind(self.values[models])


def _decays(name: str) -> bool:
    return name.rpartition(".")[2] not in ("bias", "gain", "vector", "votes")

"""Optimiser: AdamW for M models at once, the gradient norm of each clipped by itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class StackedAdamW:
    """AdamW (Loshchilov and Hutter 2019) over parameters with a leading M.

    Only matrices decay: biases, gains, stand-ins and votes do not. `torch.optim.AdamW` makes the
    same steps, but it cannot let go of a model, and its first use takes 1.2 s: it imports torch's
    compiler.
    """

    def __init__(
        self, parameters: Sequence[Tensor], *, weight_decay: float, max_grad_norm: float
    ) -> None:
        self.parameters = list(parameters)
        self.weight_decay, self.max_grad_norm = weight_decay, max_grad_norm
        self.steps = 0
        self.exp_avg = [torch.zeros_like(values) for values in self.parameters]
        self.exp_avg_sq = [torch.zeros_like(values) for values in self.parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], lr: float) -> None:
        """Update all models."""
        self.steps += 1
        norms = [torch.linalg.vector_norm(grad.flatten(1), dim=1) for grad in gradients]
        norm = torch.linalg.vector_norm(torch.stack(norms), dim=0).clamp(min=1e-12)  # (M,)
        scale = (self.max_grad_norm / norm).clamp(max=1)
        correction = (1 - _BETAS[1] ** self.steps) ** 0.5
        size = lr * correction / (1 - _BETAS[0] ** self.steps)
        for values, grad, mean, square in zip(
            self.parameters, gradients, self.exp_avg, self.exp_avg_sq, strict=True
        ):
            clipped = grad * scale.reshape(-1, *[1] * (grad.dim() - 1))
            mean.mul_(_BETAS[0]).add_(clipped, alpha=1 - _BETAS[0])
            square.mul_(_BETAS[1]).addcmul_(clipped, clipped, value=1 - _BETAS[1])
            if values.dim() > 2:  # (M, W, D)
                values.mul_(1 - lr * self.weight_decay)
            values.addcdiv_(mean, square.sqrt().add_(_EPSILON * correction), value=-size)

    def select(self, models: Tensor) -> None:
        """Go on with these models only, whose parameters have been selected."""
        self.exp_avg = [values[models] for values in self.exp_avg]
        self.exp_avg_sq = [values[models] for values in self.exp_avg_sq]

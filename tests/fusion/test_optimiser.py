"""StackedAdamW is torch's AdamW for each model by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pairfuse.fusion.optimiser import StackedAdamW

LR, DECAY, FREE = 0.03, 0.5, 1e9


def _parameters() -> list[Tensor]:
    """A matrix and a bias for each of three models."""
    random = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, 2, generator=random), torch.randn(3, 2, generator=random)]


def _gradients(step: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(100 + step)
    return [5 * torch.randn(values.shape, generator=random) for values in _parameters()]


def _torch_steps(model: int, steps: int, *, clip: float) -> list[Tensor]:
    """What torch makes of one model of the stack, decaying the matrix only."""
    weight, bias = (nn.Parameter(values[model].clone()) for values in _parameters())
    adam = torch.optim.AdamW(
        [
            {"params": [weight], "weight_decay": DECAY},
            {"params": [bias], "weight_decay": 0.0},
        ],
        lr=LR,
    )
    for step in range(steps):
        weight.grad, bias.grad = (grad[model].clone() for grad in _gradients(step))
        nn.utils.clip_grad_norm_([weight, bias], clip)
        adam.step()
    return [weight.detach(), bias.detach()]


def _check(found: list[Tensor], wanted: list[Tensor]) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 20])
@pytest.mark.parametrize("clip", [FREE, 3.0])
def test_steps_equal_those_of_torch(steps: int, clip: float) -> None:
    """The gradient norm of each model is clipped by itself."""
    parameters = _parameters()
    adam = StackedAdamW(parameters, weight_decay=DECAY, max_grad_norm=clip)
    for step in range(steps):
        adam.step(_gradients(step), LR)
    for model in range(3):
        _check([values[model] for values in parameters], _torch_steps(model, steps, clip=clip))


def test_models_that_stay_keep_their_momentum() -> None:
    parameters, chosen = _parameters(), torch.tensor([2])
    adam = StackedAdamW(parameters, weight_decay=DECAY, max_grad_norm=FREE)
    adam.step(_gradients(0), LR)
    for values in parameters:
        values.data = values.data[chosen]
    adam.select(chosen)
    adam.step([grad[chosen] for grad in _gradients(1)], LR)
    _check([values[0] for values in parameters], _torch_steps(2, 2, clip=FREE))

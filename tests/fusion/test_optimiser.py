"""StackedAdamW is torch's AdamW for each model by itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pairfuse.fusion.optimiser import StackedAdamW

RATES, DECAY, FREE = [0.1, 0.003, 0.03], [0.5, 0.0, 0.1], [1e9, 1e9, 1e9]


def _parameters(seed: int = 0) -> dict[str, nn.Parameter]:
    random = torch.Generator().manual_seed(seed)
    return {
        "weight": nn.Parameter(torch.randn(3, 4, 2, generator=random)),
        "bias": nn.Parameter(torch.randn(3, 1, 2, generator=random)),
    }


def _gradients(step: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(100 + step)
    return {
        name: 5 * torch.randn(values.shape, generator=random)
        for name, values in _parameters().items()
    }


def _step(adam: StackedAdamW, step: int, models: list[int], active: list[bool]) -> None:
    """One update by drawn gradients: those of a loss that is linear in the parameters."""
    drawn = _gradients(step)
    loss = sum((p * drawn[name][models]).sum() for name, p in adam.parameters.items())
    adam.backward(loss)
    adam.step(torch.tensor(RATES)[models], torch.tensor(active))


def _torch_steps(model: int, steps: int, *, clip: float | None = None) -> list[torch.Tensor]:
    """What torch makes of one model of the stack, decaying the weight only."""
    stacked = _parameters()
    weight, bias = (nn.Parameter(stacked[name].detach()[model].clone()) for name in stacked)
    adam = torch.optim.AdamW(
        [
            {"params": [weight], "weight_decay": DECAY[model]},
            {"params": [bias], "weight_decay": 0.0},
        ],
        lr=RATES[model],
    )
    for step in range(steps):
        weight.grad, bias.grad = (grad[model].clone() for grad in _gradients(step).values())
        if clip is not None:
            nn.utils.clip_grad_norm_([weight, bias], clip)
        adam.step()
    return [weight.detach(), bias.detach()]


def _our_steps(steps: int, *, clip: list[float]) -> dict[str, nn.Parameter]:
    parameters = _parameters()
    adam = StackedAdamW(parameters, decay=DECAY, clip=clip)
    for step in range(steps):
        _step(adam, step, [0, 1, 2], [True] * 3)
    return parameters


@pytest.mark.parametrize("steps", [1, 2, 20])
def test_steps_equal_those_of_torch(steps: int) -> None:
    ours = _our_steps(steps, clip=FREE)
    for model in range(3):
        for found, wanted in zip(ours.values(), _torch_steps(model, steps), strict=True):
            assert torch.allclose(found[model], wanted, atol=1e-5)


def test_each_model_is_clipped_by_its_own_norm() -> None:
    clip = [0.01, 3.0, 1e9]
    ours = _our_steps(8, clip=clip)
    for model in range(3):
        wanted = _torch_steps(model, 8, clip=clip[model])
        for found, values in zip(ours.values(), wanted, strict=True):
            assert torch.allclose(found[model], values, atol=1e-5)


def test_an_inactive_model_stays_as_it_is() -> None:
    parameters, before = _parameters(), _parameters()
    adam = StackedAdamW(parameters, decay=DECAY, clip=FREE)
    _step(adam, 0, [0, 1, 2], [True, False, True])
    for name, values in parameters.items():
        assert torch.equal(values[1], before[name][1])
        assert not torch.equal(values[0], before[name][0])
    assert adam.steps.tolist() == [1, 0, 1]


def test_a_model_that_paused_goes_on_as_if_it_had_not() -> None:
    paused = _parameters()
    adam = StackedAdamW(paused, decay=DECAY, clip=FREE)
    for step, active in ((0, True), (7, False), (1, True)):
        _step(adam, step, [0, 1, 2], [True, active, True])
    for found, wanted in zip(paused.values(), _torch_steps(1, 2), strict=True):
        assert torch.allclose(found[1], wanted, atol=1e-5)


def test_models_that_stay_keep_their_momentum() -> None:
    parameters = _parameters()
    adam = StackedAdamW(parameters, decay=DECAY, clip=FREE)
    _step(adam, 0, [0, 1, 2], [True] * 3)
    adam.select(torch.tensor([2]))
    _step(adam, 1, [2], [True])
    for found, wanted in zip(parameters.values(), _torch_steps(2, 2), strict=True):
        assert torch.allclose(found[0], wanted, atol=1e-5)

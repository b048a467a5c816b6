"""Soft targets: a row is of several classes by shares; shares of one class change nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from pairfuse.arrays import Ints
from pairfuse.data.soft_labels import SoftLabels
from pairfuse.fusion.fitting import fit_members, prepare_rows
from pairfuse.fusion.training import (
    FittedModel,
    TrainingSpec,
    _smoothed_loss,
    predict_logits,
    train_stack,
)
from pairfuse.recipe import Recipe
from toys.fusion import PLAIN, farthest, halves, noise, task

RECIPE = replace(PLAIN, epochs=4, label_smoothing=0.1, dropout=0.3)


def _credit(targets: Ints, other: float, width: int = 3) -> SoftLabels:
    """Each row is of its target and, by this share, of the class behind it."""
    classes = np.full((len(targets), width), -1, dtype=np.int64)
    shares = np.zeros((len(targets), width), dtype=np.float32)
    classes[:, 0], shares[:, 0] = targets, 1 - other
    classes[:, 1], shares[:, 1] = (targets + 1) % 3, other
    return SoftLabels(classes, shares, shares)


def _soft(given: TrainingSpec, other: float) -> TrainingSpec:
    return replace(given, soft_labels=_credit(given.targets, other))


def _alone(given: TrainingSpec) -> FittedModel:
    [model] = train_stack([given])
    return model


def test_the_loss_is_the_cross_entropy_with_the_shares() -> None:
    logits = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 2, 3]).expand(1, 5, 3)
    shares = torch.tensor([0.5, 0.2, 0.3]).expand(1, 5, 3)
    dense = torch.tensor([0.5, 0.0, 0.2, 0.3]).expand(5, 4)
    for smoothing in (0.0, 0.2):
        wanted = functional.cross_entropy(
            logits[0], dense, reduction="none", label_smoothing=smoothing
        )
        found = _smoothed_loss(logits, classes, shares, smoothing)
        assert torch.allclose(found[0], wanted, atol=1e-6)


@pytest.mark.parametrize("balance", ["none", "weights"])
def test_shares_of_one_class_train_what_its_label_trains(balance: str) -> None:
    given = task(replace(RECIPE, balance=balance, balance_strength=0.5), rows=90)
    hard, soft = _alone(given), _alone(_soft(given, 0.0))
    assert farthest(hard, soft) == 0
    assert hard.history == soft.history


def test_a_model_with_soft_targets_is_the_same_alone_and_in_a_stack() -> None:
    given = [_soft(task(RECIPE, rows=rows, world=rows), 0.3) for rows in (90, 70, 75, 60)]
    for one, model in zip(given, train_stack(given), strict=True):
        assert farthest(model, _alone(one)) < 1e-4


def test_soft_targets_teach_the_second_class() -> None:
    given = task(replace(PLAIN, epochs=30, patience=30), rows=300)
    chances = []
    for other in (0.0, 0.4):
        logits = predict_logits(_alone(_soft(given, other)), given.val)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        second = (given.val_targets + 1) % 3
        chances.append((powers / powers.sum(axis=1, keepdims=True))[np.arange(60), second].mean())
    assert chances[1] > chances[0] + 0.15


@pytest.mark.parametrize("balance", ["none", "smote"])
def test_answers_of_the_training_rows_are_used_whatever_the_balance(balance: str) -> None:
    views = noise(80)
    targets = (np.arange(80) % 8 > 5).astype(np.int64) + (np.arange(80) % 8 > 6)
    recipe = replace(PLAIN, epochs=2, **{"balance": balance, "balance_strength": 1.0})  # type: ignore[arg-type]
    parts = prepare_rows(views, [halves(80, val=8)], seed=0)

    def fitted(credit: SoftLabels | None) -> FittedModel:
        options = {"num_classes": 3, "seed": 0}
        [[member]] = fit_members(views, targets, parts, [recipe], soft_labels=credit, **options)
        return member.model

    plain = fitted(None)
    assert farthest(plain, fitted(_credit(targets, 0.0))) < 1e-6
    assert farthest(plain, fitted(_credit(targets, 0.4))) > 1e-4


def test_the_default_recipe_takes_soft_targets() -> None:
    model = _alone(_soft(task(replace(Recipe(), epochs=2, balance="none"), rows=60), 0.2))
    assert np.isfinite(model.history[-1]["train_loss"])

"""FinalEstimator: the linear model weighs heads by what they are worth."""

from __future__ import annotations

import numpy as np
import pytest

from pairfuse.arrays import Floats, Ints
from pairfuse.fusion.final_estimator import FinalEstimator, fit_final_estimator


def _chances(y_pred: Ints, classes: int, *, sure: float = 0.9) -> Floats:
    rest = (1 - sure) / (classes - 1)
    out = np.full((len(y_pred), classes), rest, dtype=np.float32)
    out[np.arange(len(y_pred)), y_pred] = sure
    return out


@pytest.mark.parametrize("classes", [2, 3])
def test_a_blend_trusts_the_head_that_is_right(classes: int) -> None:
    random = np.random.default_rng(0)
    targets, noise = random.integers(0, classes, (2, 400))
    right = np.where(random.random(400) < 0.8, targets, noise)
    chances = np.stack([_chances(noise, classes, sure=0.99), _chances(right, classes, sure=0.6)])
    found = fit_final_estimator(chances, targets).logits(chances)
    assert found.shape == (400, classes)
    assert (found.argmax(axis=1) == targets).mean() > 0.8
    assert (chances.mean(axis=0).argmax(axis=1) == targets).mean() < 0.7


def test_weighing_classes_raises_the_recall_of_the_rare_one() -> None:
    random = np.random.default_rng(0)
    targets = (random.random(600) < 0.1).astype(np.int64)
    y_pred = np.where(random.random(600) < 0.7, targets, 1 - targets)
    chances = _chances(y_pred, 2)[None]
    final_estimators = [
        fit_final_estimator(chances, targets, strength=strength) for strength in (0.0, 1.0)
    ]
    recall = [
        final_estimator.logits(chances).argmax(axis=1)[targets == 1]
        for final_estimator in final_estimators
    ]
    assert recall[1].mean() > recall[0].mean() + 0.3


def test_members_of_one_head_are_averaged() -> None:
    random = np.random.default_rng(0)
    final_estimator = FinalEstimator(
        random.normal(size=(6, 3)).astype(np.float32), np.zeros(3, dtype=np.float32)
    )
    members = random.dirichlet([1, 1, 1], size=(4, 10)).astype(np.float32)
    heads = np.stack([members[:2].mean(axis=0), members[2:].mean(axis=0)])
    assert np.array_equal(final_estimator.logits(members), final_estimator.logits(heads))
    assert final_estimator.size == 21


def test_a_probability_of_zero_is_no_infinity() -> None:
    final_estimator = FinalEstimator(np.eye(2, dtype=np.float32), np.zeros(2, dtype=np.float32))
    assert np.isfinite(final_estimator.logits(np.array([[[0.0, 1.0]]], dtype=np.float32))).all()

"""Balance: weights average to 1, SMOTE adds rows to the smaller classes and touches no other."""

from __future__ import annotations

import numpy as np
import pytest

from pairfuse.arrays import Ints
from pairfuse.features.views import Views
from pairfuse.fusion import balance
from pairfuse.fusion.balance import class_weights, smote
from toys.fusion import noise, warnings_logged, without

COUNTS = [(1, 1), (5, 5, 5), (100, 1), (1, 2, 3, 4), (1000, 30, 7), (3,)]
STRENGTHS = [0.0, 0.3, 0.7, 1.0]


def _targets(counts: tuple[int, ...]) -> Ints:
    return np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def _given(*counts: int, seed: int = 0) -> tuple[Views, Ints]:
    targets = np.random.default_rng(seed).permutation(_targets(counts))
    views = noise(len(targets), seed=seed)
    for values in views.features.values():
        values += 5 * targets[:, None].astype(np.float32)
    return views, targets


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_mean_weight_over_rows_is_one(counts: tuple[int, ...], strength: float) -> None:
    targets = _targets(counts)
    weights = class_weights(targets, len(counts), strength)
    assert weights.dtype == np.float32
    assert weights[targets].mean() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("counts", COUNTS)
def test_full_strength_gives_every_class_the_same_sum(counts: tuple[int, ...]) -> None:
    sums = class_weights(_targets(counts), len(counts), 1.0) * np.array(counts)
    assert np.allclose(sums, sums[0], rtol=1e-5)


def test_no_strength_weighs_all_alike_and_more_strength_spreads() -> None:
    weights = [class_weights(_targets((90, 10)), 2, strength) for strength in STRENGTHS]
    assert weights[0].tolist() == [1, 1]
    ratios = [float(w[1] / w[0]) for w in weights]
    assert ratios == sorted(ratios)
    assert ratios[-1] == pytest.approx(9, rel=1e-4)


def test_a_class_without_rows_weighs_nothing_and_changes_no_other_weight() -> None:
    weights = class_weights(np.array([0, 0, 2]), 3)
    assert weights[1] == 0
    assert weights[[0, 2]] == pytest.approx(class_weights(np.array([0, 0, 1]), 2))


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_smote_keeps_the_given_rows_and_appends(strength: float) -> None:
    views, targets = _given(40, 20, 8)
    before = {view: values.copy() for view, values in views.features.items()}
    grown, labels = smote(views, targets, strength=strength, seed=1)
    assert len(labels) > len(targets)
    assert np.array_equal(labels[: len(targets)], targets)
    for view, values in grown.features.items():
        assert np.array_equal(views.features[view], before[view])
        assert np.array_equal(values[: len(targets)], before[view])
        assert len(values) == len(labels) == len(grown.present[view])
        assert grown.present[view].all()


def test_full_strength_fills_every_class_up_to_the_largest() -> None:
    _, labels = smote(*_given(40, 20, 8), strength=1.0, seed=1)
    assert np.bincount(labels).tolist() == [40, 40, 40]


def test_half_strength_fills_halfway() -> None:
    _, labels = smote(*_given(64, 16, 4), strength=0.5, seed=1)
    assert np.bincount(labels).tolist() == [64, 32, 16]


@pytest.mark.parametrize("strength", STRENGTHS)
def test_nothing_is_added_to_equal_classes(strength: float) -> None:
    views, targets = _given(9, 9)
    grown, labels = smote(views, targets, strength=strength, seed=0)
    assert grown is views
    assert labels is targets


def test_synthetic_rows_lie_between_rows_of_their_class() -> None:
    views, targets = _given(60, 10)
    grown, labels = smote(views, targets, strength=1.0, seed=1)
    for view, values in grown.features.items():
        rare = views.features[view][targets == 1]
        drawn = values[len(targets) :]
        assert set(labels[len(targets) :]) == {1}
        assert (drawn >= rare.min(axis=0) - 1e-5).all()
        assert (drawn <= rare.max(axis=0) + 1e-5).all()


def test_the_seed_decides_what_is_drawn() -> None:
    given = _given(30, 10)
    first, again, other = (smote(*given, strength=1.0, seed=s)[0] for s in (1, 1, 2))
    assert np.array_equal(first.features["look"], again.features["look"])
    assert not np.array_equal(first.features["look"], other.features["look"])


def test_rows_with_a_missing_view_are_no_neighbours() -> None:
    """The rare class is far out wherever it is incomplete: nothing is drawn from out there."""
    views, targets = _given(40, 12)
    far = np.flatnonzero(targets == 1)[:6]
    views.features["words"][far] = 1e4
    lacking = without(views, "look", far)
    grown, labels = smote(lacking, targets, strength=1.0, seed=0)
    drawn = grown.features["words"][len(targets) :]
    assert len(drawn) == np.sum(labels == 1) - 12 > 0
    assert np.abs(drawn).max() < 100
    assert np.array_equal(grown.present["look"][: len(targets)], lacking.present["look"])


@pytest.mark.parametrize("complete", [0, 1])
def test_too_few_complete_rows_warn_and_leave_the_rows_alone(complete: int) -> None:
    views, targets = _given(30, 5, 9)
    views = without(views, "look", np.flatnonzero(targets == 1)[complete:])
    with warnings_logged() as said:
        grown, labels = smote(views, targets, strength=1.0, seed=0)
    if complete:
        assert ["SMOTE needs two complete" in line for line in said] == [True]
        assert grown is views
        assert labels is targets
    else:  # a class of which no row is complete cannot grow, the others do
        assert np.bincount(labels).tolist() == [30, 5, 30]


@pytest.mark.parametrize("rare", [2, 3, 5, 6, 7])
def test_any_two_complete_rows_are_enough(rare: int) -> None:
    _, labels = smote(*_given(20, rare), strength=1.0, seed=0)
    assert np.bincount(labels).tolist() == [20, 20]


def test_large_classes_grow_to_the_same_size_between_a_share_of_their_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    views, targets = _given(60, 30, 25)
    monkeypatch.setattr(balance, "SEEN_ROWS", 10)
    grown, labels = smote(views, targets, strength=1.0, seed=1)
    assert np.bincount(labels).tolist() == [60, 60, 60]
    for view, values in grown.features.items():
        for target in (1, 2):
            own = views.features[view][targets == target]
            made = values[len(targets) :][labels[len(targets) :] == target]
            assert (made >= own.min(axis=0) - 1e-5).all()
            assert (made <= own.max(axis=0) + 1e-5).all()

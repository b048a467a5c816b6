"""Prediction sets hold the true label as often as they promise, by the rows or by the groups."""

from __future__ import annotations

import numpy as np
import pytest

from pairfuse.stats.calibration import apply_temperature
from pairfuse.stats.conformal import conformal, conformal_threshold, fit_sets, prediction_sets
from toys.probabilities import drawn, folds_of


@pytest.mark.parametrize("coverage", [0.7, 0.9])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_sets_cover_as_promised_whether_or_not_calibrated(
    coverage: float, temperature: float
) -> None:
    good, targets = drawn(4000, repeats=2)
    found = conformal(
        apply_temperature(good, temperature),
        targets,
        np.arange(4000),
        folds_of(4000, repeats=2),
        coverage=coverage,
    )
    assert coverage - 0.02 < found.empirical_coverage < 1
    assert sum(found.sizes.values()) == pytest.approx(1)
    assert found.mean_size == pytest.approx(sum(int(k) * v for k, v in found.sizes.items()))


def test_fresh_rows_are_covered_by_small_samples_on_average() -> None:
    held = []
    for seed in range(300):
        good, targets = drawn(40, seed=seed)
        threshold = conformal_threshold(good[0, :20], targets[:20], 0.8)
        inside = good[0, 20:] >= threshold  # without the top label's privilege
        held.append(inside[np.arange(20), targets[20:]].mean())
    assert 0.78 < np.mean(held) < 0.88


def test_too_few_rows_for_a_coverage_give_every_label() -> None:
    good, targets = drawn(5)
    threshold = conformal_threshold(good[0], targets, 0.99)
    assert prediction_sets(good[0], threshold).all()


def test_repeating_a_group_does_not_move_the_threshold() -> None:
    good, targets = drawn(200)
    index = np.concatenate([np.arange(200), np.full(300, int(good[0].max(axis=1).argmin()))])
    once = conformal_threshold(good[0], targets, 0.9, groups=np.arange(200))
    assert conformal_threshold(good[0][index], targets[index], 0.9, groups=index) == once
    assert conformal_threshold(good[0][index], targets[index], 0.9) != once


def test_no_set_is_empty() -> None:
    good, _ = drawn(100)
    assert (prediction_sets(good, 1.0).sum(axis=-1) == 1).all()
    assert (prediction_sets(good, 1.0).argmax(axis=-1) == good.argmax(axis=-1)).all()


def test_temperature_and_threshold_of_a_fold_are_those_of_the_others() -> None:
    good, targets = drawn(60)
    sure, folds = apply_temperature(good, 0.2), folds_of(60, folds=2)
    right = []
    for fold in (0, 1):
        held = folds[0] == fold
        temperature, threshold = fit_sets(sure[0, ~held], targets[~held], 0.8)
        inside = prediction_sets(apply_temperature(sure[0, held], temperature), threshold)
        right += inside[np.arange(held.sum()), targets[held]].tolist()
    found = conformal(sure, targets, np.arange(60), folds, coverage=0.8)
    assert found.empirical_coverage == pytest.approx(np.mean(right))


def test_the_threshold_for_use_is_that_of_a_trained_model() -> None:
    good, targets = drawn(60, repeats=2)
    sure = apply_temperature(good, 0.2)
    found = conformal(sure, targets, np.arange(60), folds_of(60, repeats=2), coverage=0.8)
    mean = np.asarray(sure.mean(axis=0), dtype=np.float32)
    assert found.threshold == fit_sets(mean, targets, 0.8, groups=np.arange(60))[1]

"""A temperature undoes what spoiled probabilities, on folds that it was not fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from pairfuse.stats.bootstrap import draw_groups
from pairfuse.stats.calibration import apply_temperature, calibrated, calibration, fit_temperature
from toys.probabilities import drawn, folds_of

LABELS = ("a", "b", "c")


@pytest.mark.parametrize("true", [0.3, 1.0, 3.0])
def test_the_temperature_that_spoiled_probabilities_is_found(true: float) -> None:
    good, targets = drawn(6000)
    assert fit_temperature(apply_temperature(good[0], 1 / true), targets) == pytest.approx(
        true, rel=0.1
    )


def test_a_temperature_keeps_the_order_and_the_sum() -> None:
    good, _ = drawn(50)
    scaled = apply_temperature(good, 0.4)
    assert (scaled.argsort(axis=-1) == good.argsort(axis=-1)).all()
    assert scaled.sum(axis=-1) == pytest.approx(1.0)


def test_probabilities_of_zero_stay_numbers() -> None:
    certain = np.eye(3, dtype=np.float32)
    targets = np.array([0, 1, 0])
    assert np.isfinite(apply_temperature(certain, fit_temperature(certain, targets))).all()


def test_calibration_undoes_overconfidence_on_folds_it_was_not_fitted_on() -> None:
    good, targets = drawn(3000, repeats=2)
    bold = apply_temperature(good, 0.3)
    draws = draw_groups(np.arange(3000), seed=0, resamples=100)
    found = calibration(bold, targets, folds_of(3000, repeats=2), LABELS, draws)
    assert found.temperature == pytest.approx(1 / 0.3, rel=0.1)
    assert found.after.ece < found.before.ece / 3
    assert found.after.log_loss < found.before.log_loss
    assert found.after.bins


def test_a_rows_own_target_does_not_change_its_calibration() -> None:
    good, targets = drawn(60)
    folds = folds_of(60)
    one_fold = folds[0] == 2
    other = np.where(one_fold, (targets + 1) % 3, targets)
    same = calibrated(good, targets, folds)[0, one_fold]
    assert (same == calibrated(good, other, folds)[0, one_fold]).all()

"""Temperature, prediction sets, abstention and cascade keep what they promise on drawn data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pairfuse.arrays import Floats, Ints
from pairfuse.stats.bootstrap import draw_groups
from pairfuse.stats.calibration import (
    NEVER,
    TOLERANCE,
    abstention,
    calibrated,
    calibration,
    cascade,
    conformal,
    conformal_threshold,
    fit_temperature,
    prediction_sets,
    tempered,
)
from pairfuse.stats.metrics import macro_f1

LABELS = ("a", "b", "c")


def _world(rows: int, *, repeats: int = 1, seed: int = 0) -> tuple[Floats, Ints]:
    """Calibrated probabilities (R, N, 3): the target is drawn from those of the first repeat."""
    random = np.random.default_rng(seed)
    one = random.dirichlet([0.5] * 3, size=rows).astype(np.float32)
    targets = (random.random(rows)[:, None] > one.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    return np.repeat(one[None], repeats, axis=0), targets.astype(np.int64)


def _folds(rows: int, *, folds: int = 5, repeats: int = 1, seed: int = 0) -> Ints:
    random = np.random.default_rng(seed)
    return np.stack([random.permutation(rows) % folds for _ in range(repeats)])


def _sure(y_pred: Ints, confidence: object) -> Floats:
    """Probabilities (1, N, 3) with these y_pred and confidences."""
    out = np.repeat(((1 - np.asarray(confidence)) / 2)[:, None], 3, axis=1)
    np.put_along_axis(out, y_pred[:, None], np.asarray(confidence)[:, None], axis=1)
    return out[None].astype(np.float32)


@pytest.mark.parametrize("true", [0.3, 1.0, 3.0])
def test_the_temperature_that_spoiled_probabilities_is_found(true: float) -> None:
    good, targets = _world(6000)
    assert fit_temperature(tempered(good[0], 1 / true), targets) == pytest.approx(true, rel=0.1)


def test_a_temperature_keeps_the_order_and_the_sum() -> None:
    good, _ = _world(50)
    cool = tempered(good, 0.4)
    assert (cool.argsort(axis=-1) == good.argsort(axis=-1)).all()
    assert cool.sum(axis=-1) == pytest.approx(1.0)


def test_probabilities_of_zero_stay_numbers() -> None:
    certain = np.eye(3, dtype=np.float32)
    targets = np.array([0, 1, 0])
    assert np.isfinite(tempered(certain, fit_temperature(certain, targets))).all()


def test_calibration_undoes_overconfidence_on_folds_it_was_not_fitted_on() -> None:
    good, targets = _world(3000, repeats=2)
    bold = tempered(good, 0.3)
    draws = draw_groups(np.arange(3000), seed=0, resamples=100)
    found = calibration(bold, targets, _folds(3000, repeats=2), LABELS, draws)
    assert found.temperature == pytest.approx(1 / 0.3, rel=0.1)
    assert found.after.ece.value < found.before.ece.value / 3
    assert found.after.log_loss.value < found.before.log_loss.value
    assert json.loads(json.dumps(found.as_dict()))["after"].keys() == {"ece", "log_loss"}


def test_a_rows_own_target_does_not_change_its_calibration() -> None:
    good, targets = _world(60)
    folds = _folds(60)
    one_fold = folds[0] == 2
    other = np.where(one_fold, (targets + 1) % 3, targets)
    same = calibrated(good, targets, folds)[0, one_fold]
    assert (same == calibrated(good, other, folds)[0, one_fold]).all()


@pytest.mark.parametrize("coverage", [0.7, 0.9])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_sets_cover_as_promised_whether_or_not_calibrated(
    coverage: float, temperature: float
) -> None:
    good, targets = _world(4000, repeats=2)
    found = conformal(
        tempered(good, temperature),
        targets,
        np.arange(4000),
        _folds(4000, repeats=2),
        coverage=coverage,
    )
    assert coverage - 0.02 < found.achieved < 1
    assert sum(found.sizes.values()) == pytest.approx(1)
    assert found.mean_size == pytest.approx(sum(int(k) * v for k, v in found.sizes.items()))


def test_fresh_rows_are_covered_by_small_samples_on_average() -> None:
    held = []
    for seed in range(300):
        good, targets = _world(40, seed=seed)
        threshold = conformal_threshold(good[0, :20], targets[:20], 0.8)
        inside = good[0, 20:] >= threshold  # without the top label's privilege
        held.append(inside[np.arange(20), targets[20:]].mean())
    assert 0.78 < np.mean(held) < 0.88


def test_too_few_rows_for_a_coverage_give_every_label() -> None:
    good, targets = _world(5)
    threshold = conformal_threshold(good[0], targets, 0.99)
    assert prediction_sets(good[0], threshold).all()


def test_repeating_a_group_does_not_move_the_threshold() -> None:
    good, targets = _world(200)
    index = np.concatenate([np.arange(200), np.full(300, int(good[0].max(axis=1).argmin()))])
    once = conformal_threshold(good[0], targets, 0.9, groups=np.arange(200))
    assert conformal_threshold(good[0][index], targets[index], 0.9, groups=index) == once
    assert conformal_threshold(good[0][index], targets[index], 0.9) != once


def test_no_set_is_empty() -> None:
    good, _ = _world(100)
    assert (prediction_sets(good, 1.0).sum(axis=-1) == 1).all()
    assert (prediction_sets(good, 1.0).argmax(axis=-1) == good.argmax(axis=-1)).all()


def test_the_surest_rows_are_the_most_often_right() -> None:
    good, targets = _world(3000, repeats=2)
    found = abstention(good, targets)
    assert [each.answered for each in found] == pytest.approx([n / 10 for n in range(1, 11)])
    assert found[0].accuracy > found[4].accuracy > found[-1].accuracy
    assert found[-1].accuracy == pytest.approx((good[0].argmax(axis=1) == targets).mean())
    assert found[-1].macro_f1 == pytest.approx(macro_f1(targets, good[0].argmax(axis=1), 3))


def test_no_image_is_paid_for_where_text_alone_is_always_right() -> None:
    _, targets = _world(300)
    random = np.random.default_rng(1)
    text = _sure(targets, random.uniform(0.4, 1, 300))
    fused = _sure(random.integers(3, size=300), random.uniform(0.4, 1, 300))
    found = cascade(text, fused, targets, _folds(300), draw_groups(targets, seed=0, resamples=50))
    assert (found.threshold, found.saved, found.cascade.value) == (0.0, 1.0, 1.0)


def test_every_image_is_paid_for_where_text_is_never_right() -> None:
    _, targets = _world(300)
    random = np.random.default_rng(1)
    text = _sure((targets + 1) % 3, random.uniform(0.4, 1, 300))
    fused = _sure(targets, np.full(300, 0.9))
    found = cascade(text, fused, targets, _folds(300), draw_groups(targets, seed=0, resamples=50))
    assert (found.threshold, found.saved, found.cascade) == (NEVER, 0.0, found.fused)


def test_a_cascade_keeps_text_where_it_is_sure_and_right() -> None:
    _, targets = _world(2000)
    random = np.random.default_rng(2)
    confidence = random.uniform(0.4, 1, 2000)
    text = _sure(np.where(confidence > 0.7, targets, random.integers(3, size=2000)), confidence)
    fused = _sure(targets, np.full(2000, 0.9))
    draws = draw_groups(np.arange(2000), seed=0, resamples=50)
    found = cascade(text, fused, targets, _folds(2000), draws)
    assert found.threshold == pytest.approx(0.7, abs=0.03)
    assert found.saved == pytest.approx(0.5, abs=0.05)
    assert found.cascade.value >= found.fused.value - 2 * TOLERANCE
    assert found.curve[-1].saved == 0
    assert found.curve[0].saved == 1


def test_a_cascade_is_judged_on_rows_that_did_not_choose_its_threshold() -> None:
    _, targets = _world(500)
    folds = _folds(500)
    spoiled = folds[0] == 1  # text is never right there, always elsewhere
    confidence = np.random.default_rng(3).uniform(0.4, 1, 500)
    text = _sure(np.where(spoiled, (targets + 1) % 3, targets), confidence)
    fused = _sure(targets, np.full(500, 0.9))
    found = cascade(text, fused, targets, folds, draw_groups(np.arange(500), seed=0, resamples=50))
    assert found.cascade.value == pytest.approx(0.8, abs=0.03)
    assert found.saved == pytest.approx(0.2, abs=0.03)
    assert found.threshold == NEVER


def test_results_fit_into_json() -> None:
    good, targets = _world(80)
    draws = draw_groups(np.arange(80), seed=0, resamples=50)
    folds = _folds(80)
    found = [
        cascade(good, good, targets, folds, draws),
        conformal(good, targets, np.arange(80), folds, coverage=0.9),
        abstention(good, targets)[0],
    ]
    for each in found:
        assert json.loads(json.dumps(each.as_dict(), allow_nan=False))

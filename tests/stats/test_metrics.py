"""Metrics agree with scikit-learn; intervals come from groups, not from rows."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

from pairfuse.arrays import Floats, Ints
from pairfuse.stats.bootstrap import Draws, Estimate, draw_groups
from pairfuse.stats.metrics import (
    METRICS,
    Scores,
    confusion,
    drawn_macro_f1,
    macro_f1,
    macro_f1_estimate,
    score,
)
from toys.many_classes import draw_sample

LABELS = ("a", "b", "c", "d")
#: Which of the four classes occur, which are guessed.
WORLDS = {
    "all": ([0, 1, 2, 3], [0, 1, 2, 3]),
    "one absent": ([0, 1, 3], [0, 1, 2, 3]),
    "one never guessed": ([0, 1, 2, 3], [0, 2, 3]),
    "one neither": ([0, 2, 3], [0, 2, 3]),
    "one guess for all": ([0, 1, 2, 3], [2]),
    "apart": ([0, 1], [2, 3]),
}
every_world = pytest.mark.parametrize("world", list(WORLDS))


def _own(rows: int) -> Ints:
    return np.arange(rows, dtype=np.int64)


def _draws(groups: Ints, *, resamples: int = 1000, seed: int = 0) -> Draws:
    return draw_groups(groups, seed=seed, resamples=resamples)


def _drawn(world: str, *, rows: int = 60, seed: int = 0) -> tuple[Ints, Ints]:
    random = np.random.default_rng(seed)
    occur, guessed = WORLDS[world]
    targets, y_pred = random.choice(occur, rows), random.choice(guessed, rows)
    right = random.random(rows) < 0.5
    y_pred[right & np.isin(targets, guessed)] = targets[right & np.isin(targets, guessed)]
    return targets, y_pred


def _sure(y_pred: Ints, classes: int = 4) -> Floats:
    """Probabilities (1, N, C) of 0.7 for the guess."""
    table = np.full((1, len(y_pred), classes), 0.3 / (classes - 1), dtype=np.float32)
    table[0, _own(len(y_pred)), y_pred] = 0.7
    return table


def _soft(
    targets: Ints, *, repeats: int = 1, classes: int = 4, seed: int = 0, ties: bool = False
) -> Floats:
    """Probabilities (R, N, C) that lean to the target; with ties, of few different values."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(repeats, len(targets), classes))
    logits[:, _own(len(targets)), targets] += 1
    raised = np.exp(np.round(logits) if ties else logits)
    return (raised / raised.sum(axis=-1, keepdims=True)).astype(np.float32)


def _all(found: Scores) -> dict[str, Estimate]:
    per_class = {
        f"{each.label} {part}": getattr(each, part)
        for each in found.classes
        for part in ("precision", "recall", "f1")
    }
    return {**{name: getattr(found, name) for name in METRICS}, **per_class}


def _width(found: Estimate) -> float:
    return found.high - found.low


@every_world
@pytest.mark.parametrize("seed", range(4))
def test_scores_of_guesses_equal_those_of_scikit_learn(world: str, seed: int) -> None:
    targets, y_pred = _drawn(world, seed=seed)
    found = score(targets, _sure(y_pred), LABELS, _draws(_own(60), resamples=10))

    def wanted(average: str) -> object:
        options = {"labels": [0, 1, 2, 3], "average": average, "zero_division": 0}
        return pytest.approx(f1_score(targets, y_pred, **options))

    assert found.macro_f1.value == wanted("macro")
    assert found.weighted_f1.value == wanted("weighted")
    assert found.accuracy.value == pytest.approx(accuracy_score(targets, y_pred))
    assert macro_f1(targets, y_pred, 4) == pytest.approx(found.macro_f1.value)


@every_world
def test_scores_of_each_class_equal_those_of_scikit_learn(world: str) -> None:
    targets, y_pred = _drawn(world)
    found = score(targets, _sure(y_pred), LABELS, _draws(_own(60), resamples=10)).classes
    wanted = precision_recall_fscore_support(targets, y_pred, labels=[0, 1, 2, 3], zero_division=0)
    assert tuple(each.label for each in found) == LABELS
    rows = [(e.precision.value, e.recall.value, e.f1.value, e.support) for e in found]
    assert np.allclose(np.transpose(rows), wanted)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(2, 80), st.integers(0, 10**6), st.booleans(), st.booleans())
def test_scores_of_probabilities_equal_those_of_scikit_learn(
    classes: int, rows: int, seed: int, ties: bool, absent: bool
) -> None:
    targets = np.random.default_rng(seed).integers(classes - absent, size=rows)
    arm = _soft(targets, classes=classes, seed=seed, ties=ties)
    names = [str(number) for number in range(classes)]
    found = score(targets, arm, names, _draws(_own(rows), resamples=2))
    one_hot, chances = np.eye(classes)[targets], arm[0].astype(np.float64)
    ranked = [1] if classes == 2 else list(range(classes))
    both = [c for c in ranked if 0 < one_hot[:, c].sum() < rows]
    some = [c for c in ranked if one_hot[:, c].any()]
    areas = [roc_auc_score(one_hot[:, c], chances[:, c]) for c in both]
    precisions = [average_precision_score(one_hot[:, c], chances[:, c]) for c in some]
    assert found.auroc.value == pytest.approx(np.mean(areas) if both else 0.5)
    assert found.average_precision.value == pytest.approx(np.mean(precisions) if some else 0)
    exact = chances / chances.sum(axis=1, keepdims=True)
    loss = log_loss(targets, exact, labels=list(range(classes)))
    assert found.log_loss.value == pytest.approx(loss, rel=1e-5)
    known = {"labels": list(range(classes)), "scale_by_half": False}
    assert found.brier.value == pytest.approx(brier_score_loss(targets, exact, **known), rel=1e-5)


def test_the_ece_is_the_gap_of_confidence_and_accuracy_in_fifteen_bins() -> None:
    targets, _ = _drawn("all", rows=300)
    arm = _soft(targets)
    found = score(targets, arm, LABELS, _draws(_own(300)))
    sure, right = arm[0].max(axis=1), arm[0].argmax(axis=1) == targets
    wanted = 0.0
    for low in np.arange(15) / 15:
        inside = (sure > low) & (sure <= low + 1 / 15)
        if inside.any():
            wanted += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    assert found.ece.value == pytest.approx(wanted, rel=1e-4)
    bins = found.reliability
    assert sum(each.rows for each in bins) == 300
    gaps = sum(each.rows * abs(each.confidence - each.accuracy) for each in bins) / 300
    assert gaps == pytest.approx(found.ece.value)
    assert all(each.low < each.confidence <= each.high for each in bins)


def test_a_probability_of_nothing_costs_no_more_than_the_clip() -> None:
    targets = np.array([0, 1, 1])
    arm = np.array([[[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]], dtype=np.float32)
    found = score(targets, arm, LABELS[:2], _draws(_own(3)))
    assert found.log_loss.value == pytest.approx(-np.log(1e-7) / 3)
    assert found.brier.value == pytest.approx(2 / 3)


def test_two_classes_have_the_same_area_from_either_side() -> None:
    targets = np.random.default_rng(0).integers(2, size=80)
    arm = _soft(targets, classes=2)
    one = score(targets, arm, LABELS[:2], _draws(_own(80))).auroc
    other = score(1 - targets, arm[:, :, ::-1], LABELS[:2], _draws(_own(80))).auroc
    assert one.value == pytest.approx(other.value)


def test_a_constant_guess_has_the_area_of_chance() -> None:
    targets, _ = _drawn("all")
    prior = np.full((2, 60, 4), 0.25, dtype=np.float32)
    found = score(targets, prior, LABELS, _draws(_own(60)))
    assert found.auroc == Estimate(0.5, 0.5, 0.5)
    assert found.brier.value == pytest.approx(0.75)


def test_a_score_over_repeats_is_the_mean_of_theirs() -> None:
    targets, _ = _drawn("all")
    arm, draws = _soft(targets, repeats=3), _draws(_own(60))
    whole = _all(score(targets, arm, LABELS, draws))
    parts = [_all(score(targets, arm[at : at + 1], LABELS, draws)) for at in range(3)]
    for name, found in whole.items():
        assert found.value == pytest.approx(np.mean([part[name].value for part in parts])), name


def test_repeats_that_agree_leave_the_interval_as_it_is() -> None:
    targets, _ = _drawn("all", rows=200)
    arm, draws = _soft(targets), _draws(_own(200))
    once, thrice = (
        _all(score(targets, each, LABELS, draws)) for each in (arm, np.repeat(arm, 3, axis=0))
    )
    for name, found in once.items():
        wanted = (found.value, found.low, found.high)
        same = (thrice[name].value, thrice[name].low, thrice[name].high)
        assert same == pytest.approx(wanted, abs=1e-5), name


@pytest.mark.parametrize(
    ("name", "exactly"),
    [("auroc", roc_auc_score), ("average_precision", average_precision_score)],
)
def test_binned_intervals_of_rankings_are_those_of_an_exact_bootstrap(
    name: str, exactly: Callable[..., float]
) -> None:
    targets = np.random.default_rng(0).integers(2, size=1500)
    arm, draws = _soft(targets, classes=2), _draws(_own(1500), resamples=200)
    found = getattr(score(targets, arm, LABELS[:2], draws), name)
    chances = arm[0, :, 1]
    drawn = [exactly(targets, chances, sample_weight=times) for times in draws.sums(np.eye(1500))]
    wanted = np.quantile(drawn, [0.025, 0.975])
    assert len(np.unique(chances)) > 256
    assert (found.low, found.high) == pytest.approx(tuple(wanted), abs=2e-3)


@pytest.mark.parametrize("name", ["auroc", "average_precision"])
def test_coarse_bins_do_not_move_the_interval_of_a_ranking(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = np.random.default_rng(0).integers(2, size=600)
    arm, draws = _soft(targets, classes=2), _draws(_own(600))
    fine = getattr(score(targets, arm, LABELS[:2], draws), name)
    monkeypatch.setattr("pairfuse.stats.metrics.RANK_BINS", 6)
    coarse = getattr(score(targets, arm, LABELS[:2], draws), name)
    assert coarse.value == fine.value
    assert (coarse.low, coarse.high) == pytest.approx((fine.low, fine.high), abs=5e-3)


@pytest.mark.parametrize("seed", range(5))
def test_every_interval_holds_its_score(seed: int) -> None:
    targets, _ = _drawn("all", rows=300, seed=seed)
    found = score(targets, _soft(targets, repeats=2, seed=seed), LABELS, _draws(_own(300)))
    for name, each in _all(found).items():
        assert 0 < each.low < each.value < each.high < (3 if name == "log_loss" else 1), name


def test_the_interval_of_accuracy_is_that_of_a_proportion() -> None:
    targets, y_pred = _drawn("all", rows=1000)
    found = score(targets, _sure(y_pred), LABELS, _draws(_own(1000))).accuracy
    wanted = 2 * 1.96 * (found.value * (1 - found.value) / 1000) ** 0.5
    assert _width(found) == pytest.approx(wanted, rel=0.1)


def test_copies_of_rows_do_not_narrow_the_interval() -> None:
    targets, _ = _drawn("all", rows=200)
    arm, copied = _soft(targets), np.tile(_own(200), 9)
    once = _all(score(targets, arm, LABELS, _draws(_own(200))))
    in_groups = _all(score(targets[copied], arm[:, copied], LABELS, _draws(copied)))
    as_rows = _all(score(targets[copied], arm[:, copied], LABELS, _draws(_own(1800))))
    for name in METRICS:
        assert _width(in_groups[name]) == pytest.approx(_width(once[name]), rel=0.1), name
        assert _width(in_groups[name]) > 2 * _width(as_rows[name]), name


def test_the_order_of_rows_does_not_matter() -> None:
    targets, _ = _drawn("all")
    groups, arm = _own(60) // 2, _soft(targets)
    mixed = np.random.default_rng(1).permutation(60)
    one = _all(score(targets, arm, LABELS, _draws(groups)))
    other = _all(score(targets[mixed], arm[:, mixed], LABELS, _draws(groups[mixed])))
    for name, found in one.items():
        back = other[name]
        assert (found.value, found.low, found.high) == pytest.approx(
            (back.value, back.low, back.high), abs=1e-5
        ), name


def test_perfect_guesses_leave_no_doubt() -> None:
    targets, _ = _drawn("all", rows=400)
    found = score(targets, np.eye(4, dtype=np.float32)[targets][None], LABELS, _draws(_own(400)))
    for name in ("accuracy", "macro_f1", "weighted_f1", "auroc", "average_precision"):
        assert getattr(found, name) == Estimate(1, 1, 1), name
    for name in ("log_loss", "brier", "ece"):
        assert getattr(found, name) == Estimate(0, 0, 0), name


@every_world
def test_confusion_equals_that_of_scikit_learn(world: str) -> None:
    targets, y_pred = _drawn(world)
    wanted = confusion_matrix(targets, y_pred, labels=[0, 1, 2, 3])
    assert np.array_equal(confusion(targets, y_pred, 4), wanted)
    found = score(targets, _sure(y_pred), LABELS, _draws(_own(60), resamples=10))
    assert np.array_equal(found.confusion, wanted)


def test_macro_f1_alone_is_that_of_the_scores() -> None:
    targets, _ = _drawn("all")
    arm, draws = _soft(targets, repeats=2), _draws(_own(60))
    found = macro_f1_estimate(targets, arm.argmax(axis=-1), 4, draws)
    whole = score(targets, arm, LABELS, draws).macro_f1
    assert (found.value, found.low, found.high) == pytest.approx(
        (whole.value, whole.low, whole.high)
    )


def test_a_resampled_macro_f1_is_that_of_the_resampled_rows() -> None:
    targets, y_pred = _drawn("all")
    draws = _draws(_own(60), resamples=5)
    [found] = drawn_macro_f1(targets, y_pred[None], 4, draws)
    for value, times in zip(found, draws.sums(np.eye(60)), strict=True):
        rows = np.repeat(_own(60), times.astype(np.int64))
        assert value == pytest.approx(macro_f1(targets[rows], y_pred[rows], 4))


def test_a_class_that_some_resamples_lack_still_gives_an_interval() -> None:
    targets = np.array([0] * 30 + [1])
    found = score(targets, _soft(targets, classes=2), LABELS[:2], _draws(_own(31)))
    assert all(np.isfinite([e.low, e.value, e.high]).all() for e in _all(found).values())


def test_scores_can_be_written_as_json() -> None:
    targets, _ = _drawn("one absent")
    found = score(targets, _soft(targets), LABELS, _draws(_own(60))).as_dict()
    read = json.loads(json.dumps(found, allow_nan=False))
    assert read["macro_f1"].keys() == {"value", "low", "high"}
    assert [each["label"] for each in read["classes"]] == list(LABELS)
    assert [each["support"] for each in read["classes"]][2] == 0


def test_noise_between_repeats_widens_the_interval_of_macro_f1() -> None:
    targets, _ = _drawn("all")
    draws = _draws(_own(60))
    same = _soft(targets, repeats=1)
    worse = np.roll(same, 1, axis=-1)  # the second repeat is of other models altogether
    alike = score(targets, np.concatenate([same, same]), LABELS, draws).macro_f1
    apart = score(targets, np.concatenate([same, worse]), LABELS, draws).macro_f1
    assert apart.high - apart.low > 1.5 * (alike.high - alike.low)


@pytest.mark.parametrize(("classes", "rows"), [(3, 100), (16, 100), (54, 200), (99, 400)])
def test_the_interval_of_macro_f1_holds_the_truth_however_many_classes(
    classes: int, rows: int
) -> None:
    """The middle of the resamples held 57, 45, 30 and 17 of 60; `make study` draws more."""
    hits = 0
    for seed in range(60):
        drawn = draw_sample(classes, rows, seed=seed)
        draws = draw_groups(_own(rows), seed=seed, resamples=300)
        found = macro_f1_estimate(drawn.targets, drawn.y_pred[:1], drawn.num_classes, draws)
        assert found.low <= found.value <= found.high <= 1
        hits += found.low <= drawn.truth <= found.high
    assert hits >= 0.88 * 60  # 93 % minus what chance takes from 60


def test_where_every_resample_holds_every_class_the_interval_is_only_moved() -> None:
    targets, y_pred = _own(300) % 3, np.random.default_rng(0).integers(3, size=(1, 300))
    draws = _draws(_own(300))
    found = macro_f1_estimate(targets, y_pred, 3, draws)
    drawn = drawn_macro_f1(targets, y_pred, 3, draws)
    low, high = np.quantile(drawn, [0.025, 0.975])
    moved = 2 * (drawn.mean() - found.value)
    assert (found.low, found.high) == pytest.approx((low - moved, high - moved))


def test_a_class_of_the_vocabulary_without_a_row_scores_nothing_in_the_interval_too() -> None:
    targets, y_pred = _own(200) % 2, (_own(200) % 10 > 0) * (_own(200) % 2)
    half = macro_f1_estimate(targets, y_pred[None], 2, _draws(_own(200)))
    whole = macro_f1_estimate(targets, y_pred[None], 4, _draws(_own(200)))
    assert whole.value == pytest.approx(half.value / 2)
    assert (whole.low, whole.high) == pytest.approx((half.low / 2, half.high / 2))

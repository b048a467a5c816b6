"""Metrics agree with scikit-learn; intervals come from groups, not from rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from pairfuse.features.table import Ints
from pairfuse.study.metrics import (
    Interval,
    bootstrap,
    confusion,
    difference,
    interval,
    macro_f1,
    score,
)

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


def _drawn(world: str, *, rows: int = 60, seed: int = 0) -> tuple[Ints, Ints]:
    random = np.random.default_rng(seed)
    occur, guessed = WORLDS[world]
    targets, guesses = random.choice(occur, rows), random.choice(guessed, rows)
    right = random.random(rows) < 0.5
    guesses[right & np.isin(targets, guessed)] = targets[right & np.isin(targets, guessed)]
    return targets, guesses


def _own(rows: int) -> Ints:
    return np.arange(rows, dtype=np.int64)


def _width(found: Interval) -> float:
    return found[1] - found[0]


@every_world
@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_those_of_scikit_learn(world: str, seed: int) -> None:
    targets, guesses = _drawn(world, seed=seed)
    found = score(targets, guesses, _own(60), LABELS, seed=0)

    def wanted(average: str | None) -> object:
        options = {"labels": [0, 1, 2, 3], "average": average, "zero_division": 0}
        return pytest.approx(f1_score(targets, guesses, **options))

    assert list(found.class_f1) == list(LABELS)
    assert np.array(list(found.class_f1.values())) == wanted(None)
    assert found.macro_f1 == wanted("macro")
    assert found.weighted_f1 == wanted("weighted")
    assert found.accuracy == pytest.approx(accuracy_score(targets, guesses))
    assert macro_f1(targets, guesses, 4) == pytest.approx(found.macro_f1)


@every_world
def test_confusion_equals_that_of_scikit_learn(world: str) -> None:
    targets, guesses = _drawn(world)
    wanted = confusion_matrix(targets, guesses, labels=[0, 1, 2, 3])
    assert np.array_equal(confusion(targets, guesses, 4), wanted)


@pytest.mark.parametrize("seed", range(5))
def test_an_interval_holds_the_score(seed: int) -> None:
    targets, guesses = _drawn("all", rows=300, seed=seed)
    found = score(targets, guesses, _own(300), LABELS, seed=0)
    for value, (low, high) in (
        (found.macro_f1, found.macro_f1_interval),
        (found.accuracy, found.accuracy_interval),
    ):
        assert 0 < low < value < high < 1


def test_the_interval_of_accuracy_is_that_of_a_proportion() -> None:
    targets, guesses = _drawn("all", rows=1000)
    found = score(targets, guesses, _own(1000), LABELS, seed=0)
    wanted = 2 * 1.96 * (found.accuracy * (1 - found.accuracy) / 1000) ** 0.5
    assert _width(found.accuracy_interval) == pytest.approx(wanted, rel=0.1)


def test_copies_of_rows_do_not_narrow_the_interval() -> None:
    targets, guesses = _drawn("all", rows=200)
    copied = [np.tile(rows, 9) for rows in (targets, guesses, _own(200))]
    once = score(targets, guesses, _own(200), LABELS, seed=0).macro_f1_interval
    in_groups = score(*copied, LABELS, seed=0).macro_f1_interval  # type: ignore[misc]
    as_rows = score(copied[0], copied[1], _own(1800), LABELS, seed=0).macro_f1_interval
    assert _width(in_groups) == pytest.approx(_width(once), rel=0.05)
    assert _width(in_groups) > 2.5 * _width(as_rows)


def test_the_order_of_rows_does_not_matter() -> None:
    targets, guesses = _drawn("all")
    groups = _own(60) // 2
    mixed = np.random.default_rng(1).permutation(60)
    one = score(targets, guesses, groups, LABELS, seed=3)
    assert one == score(targets[mixed], guesses[mixed], groups[mixed], LABELS, seed=3)


def test_perfect_guesses_leave_no_doubt() -> None:
    targets, _ = _drawn("all", rows=400)
    found = score(targets, targets, _own(400), LABELS, seed=0)
    assert (found.accuracy, found.macro_f1) == (1, 1)
    assert found.accuracy_interval == found.macro_f1_interval == (1, 1)


def test_a_guess_does_not_differ_from_itself() -> None:
    targets, guesses = _drawn("one absent")
    assert difference(targets, guesses, guesses, _own(60), 4, seed=0) == (0.0, (0.0, 0.0))


def test_differences_are_antisymmetric_and_agree_with_the_scores() -> None:
    targets, ours = _drawn("all", seed=1)
    theirs = _drawn("all", seed=2)[1]
    value, (low, high) = difference(targets, ours, theirs, _own(60), 4, seed=0)
    back, (back_low, back_high) = difference(targets, theirs, ours, _own(60), 4, seed=0)
    assert value == pytest.approx(macro_f1(targets, ours, 4) - macro_f1(targets, theirs, 4))
    assert (back, back_low, back_high) == pytest.approx((-value, -high, -low))
    assert low < value < high


def test_pairing_narrows_the_difference_of_alike_guesses() -> None:
    targets, ours = _drawn("all", rows=300)
    theirs = ours.copy()
    theirs[:10] = targets[:10]
    _, paired = difference(targets, ours, theirs, _own(300), 4, seed=0)
    alone = score(targets, ours, _own(300), LABELS, seed=0).macro_f1_interval
    assert _width(paired) < 0.6 * _width(alone)


def test_resamples_draw_as_many_groups_as_there_are() -> None:
    drawn = bootstrap(np.ones((50, 1)), _own(50), seed=0, resamples=30)
    assert drawn.tolist() == [[50.0]] * 30
    uneven = bootstrap(np.ones((50, 1)), _own(50) // 10, seed=0, resamples=200)
    assert set(uneven.ravel().tolist()) == {50.0}


def test_resampling_in_blocks_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = np.random.default_rng(0).random((40, 3))
    whole = bootstrap(cells, _own(40), seed=1, resamples=100)
    monkeypatch.setattr("pairfuse.study.metrics._BLOCK", 40 * 7)
    assert np.allclose(whole, bootstrap(cells, _own(40), seed=1, resamples=100))


def test_an_interval_is_the_middle_of_the_values() -> None:
    assert interval(np.arange(0, 1001.0)) == pytest.approx((25, 975))


def test_scores_can_be_written_as_json() -> None:
    found = score(*_drawn("all"), _own(60), LABELS, seed=0).as_dict()
    assert json.loads(json.dumps(found))["class_f1"].keys() == set(LABELS)

"""Comparisons are paired, honest under the null, and the same whichever other arms there are."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from pairfuse.arrays import Floats, Ints
from pairfuse.stats.bootstrap import Draws, Estimate, draw_groups, over_repeats
from pairfuse.stats.metrics import drawn_macro_f1, macro_f1
from pairfuse.stats.paired import (
    MOST_PAIRS,
    POWER,
    Comparison,
    compare_all,
    holm,
    mcnemar,
    pairs_needed,
)


def _own(rows: int) -> Ints:
    return np.arange(rows, dtype=np.int64)


def _draws(groups: Ints, resamples: int = 1000) -> Draws:
    return draw_groups(groups, seed=0, resamples=resamples)


def _targets(rows: int, seed: int = 0) -> Ints:
    return np.random.default_rng(seed).integers(3, size=rows)


def _arm(targets: Ints, right: float, *, seed: int, repeats: int = 1) -> Floats:
    """One-hot y_pred (R, N, 3), the same share of them right at random in each repeat."""
    random = np.random.default_rng(seed)
    size = (repeats, len(targets))
    y_pred = np.where(random.random(size) < right, targets, random.integers(3, size=size))
    return np.eye(3, dtype=np.float32)[y_pred]


def _compared(first: Floats, second: Floats, targets: Ints, draws: Draws) -> Comparison:
    return compare_all({"one": first, "other": second}, targets, draws, seed=0)[0]


def test_an_arm_does_not_differ_from_itself() -> None:
    targets = _targets(60)
    arm = _arm(targets, 0.5, seed=1, repeats=2)
    found = _compared(arm, arm, targets, _draws(_own(60)))
    assert found.difference == Estimate(0, 0, 0)
    assert (found.p_accuracy, found.p_permutation, found.p_holm) == (1, 1, 1)
    assert (found.error, found.detectable, found.pairs_needed) == (0, 0, None)


def test_a_difference_is_that_of_the_scores_and_turns_with_the_arms() -> None:
    targets = _targets(200)
    one, other = _arm(targets, 0.6, seed=1), _arm(targets, 0.5, seed=2)
    there = _compared(one, other, targets, _draws(_own(200)))
    back = _compared(other, one, targets, _draws(_own(200)))
    scores = [macro_f1(targets, arm[0].argmax(axis=-1), 3) for arm in (one, other)]
    assert there.difference.value == pytest.approx(scores[0] - scores[1])
    turned = (-there.difference.value, -there.difference.high, -there.difference.low)
    found = (back.difference.value, back.difference.low, back.difference.high)
    assert found == pytest.approx(turned)
    assert (there.error, there.p_permutation) == pytest.approx((back.error, back.p_permutation))


def test_every_two_arms_are_compared_in_their_order() -> None:
    targets = _targets(50)
    arms = {name: _arm(targets, 0.5, seed=at) for at, name in enumerate("cab")}
    found = compare_all(arms, targets, _draws(_own(50), 50), seed=0)
    assert [(each.first, each.second) for each in found] == [("c", "a"), ("c", "b"), ("a", "b")]


def test_other_arms_change_only_the_adjusted_chance() -> None:
    targets = _targets(100)
    arms = {name: _arm(targets, 0.6, seed=at, repeats=2) for at, name in enumerate("abcd")}
    draws = _draws(_own(100))
    among = next(
        each
        for each in compare_all(arms, targets, draws, seed=0)
        if each.first + each.second == "bd"
    )
    alone = compare_all({"b": arms["b"], "d": arms["d"]}, targets, draws, seed=0)[0]
    assert replace(among, p_holm=0) == replace(alone, p_holm=0)
    assert among.p_holm >= alone.p_holm == alone.p_permutation


def test_pairing_narrows_the_difference_of_alike_arms() -> None:
    targets, draws = _targets(300), _draws(_own(300))
    one = _arm(targets, 0.6, seed=1)
    other = one.copy()
    other[:, :10] = np.eye(3)[targets[:10]]
    alone = drawn_macro_f1(targets, one.argmax(axis=-1), 3, draws).std()
    assert _compared(one, other, targets, draws).error < 0.5 * alone


def test_the_standard_error_is_the_spread_over_fresh_samples() -> None:
    found = []
    for seed in range(150):
        targets = _targets(200, seed)
        arms = [_arm(targets, right, seed=1000 * at + seed) for at, right in ((1, 0.6), (2, 0.5))]
        found.append(_compared(arms[0], arms[1], targets, _draws(_own(200), 100)))
    spread = np.std([each.difference.value for each in found])
    assert np.mean([each.error for each in found]) == pytest.approx(spread, rel=0.2)


def test_arms_alike_are_rarely_told_apart() -> None:
    p_values, zero_inside = [], []
    for seed in range(200):
        targets = _targets(60, seed)
        arms = [_arm(targets, 0.6, seed=1000 * at + seed) for at in (1, 2)]
        found = _compared(arms[0], arms[1], targets, _draws(_own(60), 200))
        p_values.append(found.p_permutation)
        zero_inside.append(found.difference.low <= 0 <= found.difference.high)
    assert np.mean(np.array(p_values) <= 0.05) < 0.1
    assert np.mean(np.array(p_values) <= 0.5) == pytest.approx(0.5, abs=0.12)
    assert np.mean(zero_inside) > 0.9


def test_arms_far_apart_are_told_apart() -> None:
    targets = _targets(300)
    found = _compared(
        _arm(targets, 0.9, seed=1), _arm(targets, 0.3, seed=2), targets, _draws(_own(300))
    )
    assert found.p_permutation == pytest.approx(1 / 1001)
    assert found.p_accuracy < 1e-6
    assert found.difference.low > 0.2
    assert found.pairs_needed is not None
    assert found.pairs_needed < 100


def test_the_permutation_chance_is_that_of_all_swaps() -> None:
    targets, groups = _targets(18), _own(18) // 2
    one, other = (_arm(targets, right, seed=at)[0] for at, right in ((1, 0.8), (2, 0.4)))
    gaps = []
    for swap in product((False, True), repeat=9):
        swapped = np.array(swap)[groups]
        pair = [
            np.where(swapped, second.argmax(axis=-1), first.argmax(axis=-1))
            for first, second in ((one, other), (other, one))
        ]
        gaps.append(macro_f1(targets, pair[0], 3) - macro_f1(targets, pair[1], 3))
    wanted = np.mean(np.abs(gaps) >= abs(gaps[0]) - 1e-9)
    found = _compared(one[None], other[None], targets, _draws(groups, 4000))
    assert 0.01 < wanted < 0.99
    assert found.p_permutation == pytest.approx(wanted, abs=0.03)


def test_copies_of_rows_make_no_difference_surer() -> None:
    targets = _targets(80)
    one, other = _arm(targets, 0.6, seed=1), _arm(targets, 0.45, seed=2)
    copied = np.tile(_own(80), 9)
    more = (one[:, copied], other[:, copied], targets[copied])
    once = _compared(one, other, targets, _draws(_own(80)))
    grouped = _compared(*more, _draws(copied))
    as_rows = _compared(*more, _draws(_own(720)))
    assert grouped.p_permutation == pytest.approx(once.p_permutation, abs=0.05)
    assert grouped.error == pytest.approx(once.error, rel=0.1)
    assert as_rows.p_permutation < grouped.p_permutation
    assert as_rows.error < grouped.error / 2


def test_the_seed_decides_the_swaps() -> None:
    targets = _targets(60)
    arms = {"a": _arm(targets, 0.6, seed=1), "b": _arm(targets, 0.5, seed=2)}
    p_values = [
        compare_all(arms, targets, _draws(_own(60)), seed=seed)[0].p_permutation
        for seed in (0, 0, 1)
    ]
    assert p_values[0] == p_values[1] != p_values[2]


def test_repeats_that_disagree_more_than_their_rows_explain_widen_the_interval() -> None:
    rows = np.random.default_rng(0).normal(0.1, 0.02, 5000)
    drawn = np.stack([rows, rows])  # resampling moves both repeats alike
    alike, error = over_repeats(np.array([0.1, 0.1]), drawn)
    apart, wider = over_repeats(np.array([0.13, 0.07]), drawn)
    assert error == pytest.approx(0.02, rel=0.05)
    assert wider == pytest.approx((error**2 + 0.03**2) ** 0.5)
    for narrow, wide in ((alike.low, apart.low), (alike.high, apart.high)):
        assert wide - 0.1 == pytest.approx((narrow - 0.1) * wider / error)


def test_what_resampling_expects_between_repeats_is_not_added_twice() -> None:
    drawn = np.random.default_rng(0).normal(0.1, 0.02, (2, 5000))  # each repeat for itself
    found = np.array([0.11, 0.09])
    _, error = over_repeats(found, drawn)
    assert error == pytest.approx(drawn.mean(axis=0).std())


def test_one_repeat_says_nothing_of_noise_between_repeats() -> None:
    drawn = np.random.default_rng(0).normal(0.1, 0.02, (1, 500))
    once, error = over_repeats(np.array([0.1]), drawn)
    assert error == drawn.std()
    assert (once.low, once.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (1, 0), (5, 5), (9, 2), (60, 95)])
def test_mcnemar_is_the_binomial_test(only_first: int, only_second: int) -> None:
    gaps = np.array([1] * only_first + [-1] * only_second + [0, 0])
    apart = only_first + only_second
    wanted = binomtest(only_first, apart, 0.5).pvalue if apart else 1.0
    assert mcnemar(gaps) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("gaps", [[3], [2, -1], [4, 1, 1, -2, 0, 3], [1, 2, 3, 4, 5, -6], [0, 0]])
def test_the_test_of_accuracy_turns_whole_groups(gaps: list[int]) -> None:
    turned = [sum(np.array(signs) * gaps) for signs in product((-1, 1), repeat=len(gaps))]
    wanted = np.mean(np.abs(turned) >= abs(sum(gaps)))
    assert mcnemar(np.array(gaps)) == pytest.approx(wanted)


def test_the_test_of_accuracy_takes_many_rows() -> None:
    found = mcnemar(np.repeat([1, -1, 2, -3], [5000, 4800, 300, 250]))
    assert 0 < found < 1


@pytest.mark.parametrize("copies", [2, 9])
def test_copies_of_rows_make_no_accuracy_surer(copies: int) -> None:
    targets = _targets(80)
    one, other = _arm(targets, 0.6, seed=1), _arm(targets, 0.45, seed=2)
    copied = np.tile(_own(80), copies)
    once = _compared(one, other, targets, _draws(_own(80), 50))
    more = _compared(one[:, copied], other[:, copied], targets[copied], _draws(copied, 50))
    assert more.p_accuracy == pytest.approx(once.p_accuracy)


def test_mcnemar_takes_the_guesses_of_the_mean_probabilities() -> None:
    targets = np.zeros(8, dtype=np.int64)
    right, unsure = [0.9, 0.05, 0.05], [0.4, 0.6, 0.0]  # wrong alone, right with the other
    one = np.tile(np.array([[unsure], [right]], dtype=np.float32), (1, 8, 1))
    other = np.tile(np.array([[unsure], [unsure]], dtype=np.float32), (1, 8, 1))
    found = _compared(one, other, targets, _draws(_own(8)))
    assert found.p_accuracy == pytest.approx(2 / 2**8)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.2], [0.2]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.001, 0.6], [1.0, 0.003, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm_multiplies_and_never_falls(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


def test_the_pairs_needed_grow_as_the_square_of_a_smaller_difference() -> None:
    assert pairs_needed(400, POWER * 0.1 + 1e-9, 0.1) == 400
    assert pairs_needed(400, -POWER * 0.1 / 2 - 1e-9, 0.1) == 1600
    assert pairs_needed(400, 1.0, 0.0) == 1
    assert pairs_needed(400, 0.0, 0.1) is None
    assert pairs_needed(400, 1e-9, 0.1) == MOST_PAIRS


def test_a_difference_as_large_as_the_detectable_one_shows_in_four_of_five_samples() -> None:
    shown, detectable, gaps = [], [], []
    for seed in range(200):
        targets = _targets(150, seed)
        arms = [_arm(targets, right, seed=1000 * at + seed) for at, right in ((1, 0.72), (2, 0.5))]
        found = _compared(arms[0], arms[1], targets, _draws(_own(150), 200))
        shown.append(found.p_permutation <= 0.05)
        detectable.append(found.detectable)
        gaps.append(found.difference.value)
    assert np.mean(detectable) == pytest.approx(np.mean(gaps), rel=0.12)  # the world was made so
    assert np.mean(shown) == pytest.approx(0.8, abs=0.1)

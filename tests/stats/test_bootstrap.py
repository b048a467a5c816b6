"""Draws take whole groups, the same for everyone; intervals are the middle of what they give."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from pairfuse.arrays import Ints
from pairfuse.stats.bootstrap import (
    Estimate,
    draw_groups,
    draw_swaps,
    in_words,
    indicator,
    percentile,
)

DRAWINGS = (draw_groups, draw_swaps)
every_drawing = pytest.mark.parametrize("draw", DRAWINGS)


def _own(rows: int) -> Ints:
    return np.arange(rows, dtype=np.int64)


def test_resamples_draw_as_many_groups_as_there_are() -> None:
    draws = draw_groups(_own(50), seed=0, resamples=30)
    assert draws.sums(np.ones((50, 1))).tolist() == [[50.0]] * 30


@every_drawing
def test_rows_of_a_group_are_drawn_together(draw) -> None:  # type: ignore[no-untyped-def]
    groups = np.array([7, 3, 7, 9, 3, 7])
    sums = draw(groups, seed=0, resamples=100).sums(np.eye(6))
    assert np.array_equal(sums[:, 0], sums[:, 2])
    assert np.array_equal(sums[:, 0], sums[:, 5])
    assert np.array_equal(sums[:, 1], sums[:, 4])
    assert not np.array_equal(sums[:, 0], sums[:, 1])


def test_each_group_is_drawn_as_often_as_chance_has_it() -> None:
    times = draw_groups(_own(40), seed=1, resamples=4000).sums(np.eye(40))
    assert times.mean(axis=0) == pytest.approx(1, abs=0.08)
    assert times.var(axis=0) == pytest.approx(39 / 40, abs=0.12)


def test_draws_are_with_replacement_and_swaps_are_not() -> None:
    assert draw_groups(_own(40), seed=0, resamples=50).sums(np.eye(40)).max() > 2
    swaps = draw_swaps(_own(40), seed=0, resamples=4000).sums(np.eye(40))
    assert set(swaps.ravel().tolist()) == {0.0, 1.0}
    assert swaps.mean(axis=0) == pytest.approx(0.5, abs=0.04)


@every_drawing
def test_the_seed_decides_the_draws(draw) -> None:  # type: ignore[no-untyped-def]
    one, same, other = (
        draw(_own(30), seed=seed, resamples=20).sums(np.eye(30)) for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@every_drawing
def test_draws_that_are_not_kept_are_drawn_the_same_again(  # type: ignore[no-untyped-def]
    draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = np.random.default_rng(0).random((700, 3))
    kept = draw(_own(700), seed=3, resamples=1500)
    monkeypatch.setattr("pairfuse.stats.bootstrap.KEPT_BYTES", 1000)
    fresh = draw(_own(700), seed=3, resamples=1500)
    assert kept.kept
    assert not fresh.kept
    assert len(list(fresh.blocks())) > 1
    assert np.array_equal(kept.sums(cells), fresh.sums(cells))
    assert np.array_equal(fresh.sums(cells), fresh.sums(cells))


def test_sparse_cells_are_summed_like_dense_ones() -> None:
    random = np.random.default_rng(0)
    dense = random.random((60, 5)) * (random.random((60, 5)) < 0.3)
    draws = draw_groups(_own(60) // 2, seed=0, resamples=25)
    assert np.allclose(draws.sums(dense), draws.sums(sparse.csr_array(dense)), rtol=1e-5)


def test_whole_numbers_are_summed_exactly() -> None:
    cells = np.random.default_rng(0).integers(0, 100, (500, 2))
    draws = draw_groups(_own(500), seed=0, resamples=40)
    times = draws.sums(np.eye(500)).astype(np.int64)
    assert np.array_equal(draws.sums(cells.astype(np.float64)), times @ cells)


def test_counts_past_what_float32_holds_are_summed_exactly() -> None:
    """As of millions of rows: 17,777,216 single ones, which float32 adds up to 16,777,216."""
    weights = np.append(2.0**24, np.ones(1_000_000))
    draws = draw_groups(np.zeros(len(weights), dtype=np.int64), seed=0, resamples=3)
    assert draws.sums(weights[:, None]).tolist() == [[17_777_216.0]] * 3
    cells = np.array([[2.0**24], [1.0]])
    times = draw_groups(_own(2), seed=0, resamples=50).sums(np.eye(2))
    assert np.array_equal(draw_groups(_own(2), seed=0, resamples=50).sums(cells), times @ cells)


def test_an_indicator_has_one_cell_a_row() -> None:
    found = indicator(np.array([2, 0]), 3, np.array([0.5, 4.0]))
    assert found.toarray().tolist() == [[0, 0, 0.5], [4, 0, 0]]


def test_an_interval_is_the_middle_of_the_values() -> None:
    assert percentile(500, np.arange(0, 1001.0)) == Estimate(500, 25, 975)


def test_an_interval_leaves_out_what_is_not_defined() -> None:
    drawn = np.append(np.arange(0, 1001.0), [np.nan] * 500)
    assert percentile(500, drawn) == Estimate(500, 25, 975)
    assert percentile(0.5, np.full(9, np.nan)) == Estimate(0.5, 0.5, 0.5)


def test_an_interval_is_moved_and_still_holds_its_value() -> None:
    drawn = np.arange(0, 1001.0)
    assert percentile(500, drawn, shift=10) == Estimate(500, 35, 985)
    assert percentile(0, drawn) == Estimate(0, 0, 975)


def test_what_rounds_to_zero_is_said_without_a_minus() -> None:
    tiny = Estimate(-0.0001, -0.0004, 0.0)
    assert in_words(tiny) == "0.000 (0.000 to 0.000)"
    assert in_words(tiny, sign=True) == "+0.000 (+0.000 to +0.000)"

from __future__ import annotations

import numpy as np
import pytest

from pairfuse.report.embedding import MOST_POINTS, neighbour_map, principal_map, sample


def clouds(rows: int = 60, width: int = 8) -> np.ndarray:
    """Two clouds far apart: even rows, odd rows."""
    random = np.random.default_rng(0)
    shift = np.arange(rows)[:, None] % 2 * 20.0
    return (random.standard_normal((rows, width)) + shift).astype(np.float32)


def test_two_clouds_lie_apart_on_the_first_axis() -> None:
    found = principal_map(clouds(), seed=0)
    assert found is not None
    even, odd = found[::2, 0], found[1::2, 0]
    assert even.max() < odd.min() or odd.max() < even.min()


def test_neighbours_stay_neighbours_in_the_map() -> None:
    found = neighbour_map(principal_map(clouds(), seed=0), seed=0)
    near = np.square(found[:, None] - found).sum(-1) + np.eye(len(found)) * 1e9
    assert (near.argmin(1) % 2 == np.arange(len(found)) % 2).all()


def test_the_same_seed_gives_the_same_map() -> None:
    one, other = (neighbour_map(principal_map(clouds(), seed=3), seed=3) for _ in range(2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "features",
    [clouds(5), clouds(60, 1), np.ones((60, 8), np.float32), np.full((60, 8), np.nan, np.float32)],
    ids=["few rows", "one column", "all alike", "no numbers"],
)
def test_where_there_is_no_plane_there_is_no_map(features: np.ndarray) -> None:
    assert principal_map(features, seed=0) is None


def test_a_large_set_is_sampled_without_repeats() -> None:
    found = sample(3 * MOST_POINTS, seed=0)
    assert len(set(found.tolist())) == MOST_POINTS
    assert found.max() < 3 * MOST_POINTS

"""The front holds what no other beats."""

from __future__ import annotations

import pytest

from pairfuse.stats.pareto import pareto_front


@pytest.mark.parametrize(
    ("costs", "scores", "front"),
    [
        ([1, 2], [0.5, 0.6], [0, 1]),
        ([1, 2], [0.6, 0.5], [0]),
        ([1, 2], [0.5, 0.5], [0]),
        ([1, 1], [0.5, 0.6], [1]),
        ([3, 2, 1], [0.9, 0.4, 0.5], [2, 0]),
        ([], [], []),
    ],
)
def test_the_front_holds_what_nothing_beats(
    costs: list[float], scores: list[float], front: list[int]
) -> None:
    assert pareto_front(costs, scores) == front

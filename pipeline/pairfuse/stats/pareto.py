"""Pareto front: which of many models no other beats on both cost and score."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """Places of those that no other beats: none is cheaper and at least as good; cheapest first."""
    front: list[int] = []
    for at in sorted(range(len(costs)), key=lambda at: (costs[at], -scores[at])):
        if not front or scores[at] > scores[front[-1]]:
            front.append(at)
    return front

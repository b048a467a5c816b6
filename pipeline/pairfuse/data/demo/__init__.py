"""Demo sets: drawn pairs whose label follows a known rule, with the flaws of real files."""

from __future__ import annotations

from pairfuse.data.demo.drawing import (
    FEWEST_PAIRS,
    FLAWS,
    LABELS,
    SENTENCES,
    UNDECIDED,
    WORLDS,
    World,
    draw_demo,
)

__all__ = [
    "FEWEST_PAIRS",
    "FLAWS",
    "LABELS",
    "SENTENCES",
    "UNDECIDED",
    "WORLDS",
    "World",
    "draw_demo",
]

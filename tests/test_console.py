"""Console: what is printed as a table is aligned."""

from __future__ import annotations

from pairfuse.console import columns


def test_words_begin_and_numbers_end_in_one_column() -> None:
    rows = [("arm", "accuracy", "views"), ("fused", "0.5", "a + b"), ("text-only", "0.25", "")]
    assert columns(rows, right={1}) == [
        "arm        accuracy  views",
        "fused           0.5  a + b",
        "text-only      0.25",
    ]


def test_no_rows_are_no_lines() -> None:
    assert columns([]) == []

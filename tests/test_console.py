"""Console: what is printed as a table is aligned; a log learns how far the work is."""

from __future__ import annotations

import pytest

from pairfuse import console
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


def test_a_log_gets_a_line_of_progress_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moments = iter([0.0, 10.0, 31.0, 40.0, 75.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(moments))
    with console.progress("tuning fused", 20, unit="trials") as bar:
        for _ in range(4):
            bar.update(3)
    assert capsys.readouterr().err.splitlines() == [
        "tuning fused: 6 of 20 trials, 31 s so far",
        "tuning fused: 12 of 20 trials, 75 s so far",
    ]

"""A share of the attack: no failing call costs a row, ends in a traceback, or goes unsaid."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attack.attack import BAD, COLUMNS

pytestmark = pytest.mark.skipif(
    not (shutil.which("cc") or shutil.which("gcc")), reason="no C compiler"
)
COMMAND = (sys.executable, str(Path(__file__).with_name("attack.py")), "--quick")


def attack(*arguments: str) -> dict[str, dict[str, int]]:
    """The table that it prints: attack, column, count."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
    )
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert rows, done.stderr
    found = {name: dict(zip(COLUMNS, map(int, counts), strict=True)) for name, *counts in rows}
    assert done.returncode == 0, done.stderr
    return found


def test_a_failing_call_costs_no_row_of_a_store_that_is_filled_or_mended() -> None:
    found = attack("--only", "features", "verify", "--attacks", "EIO", "random")
    for counts in found.values():
        assert counts["tried"] == counts["survived"] + counts["one line"] > 0
        assert not any(counts[column] for column in BAD)

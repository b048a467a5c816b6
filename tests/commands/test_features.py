"""`pairfuse features`: what is in the store is not computed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from toys.commands import run_command


def test_features_are_computed_once(
    root: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in (cache / "features").rglob("*") if p.is_file()}
    assert run_command("features", root, cache) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert all("nothing computed" in line for line in said)
    after = {p: p.stat().st_mtime_ns for p in (cache / "features").rglob("*") if p.is_file()}
    assert after == before

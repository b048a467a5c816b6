"""`pairfuse demo`: drawn once; an unknown world is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairfuse.cli import main


def test_the_demo_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr("pairfuse.data.demo.draw_demo", lambda root, **how: drawn.append(root))
    assert main(["demo", str(tmp_path / "new")]) == 0
    (tmp_path / "train.txt").write_text("guid,tag\n")
    assert main(["demo", str(tmp_path)]) == 0
    assert drawn == [tmp_path / "new"]


def test_a_demo_of_an_unknown_world_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", str(tmp_path / "new"), "--world", "flat"]) == 1
    assert "flat" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()

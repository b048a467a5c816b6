from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pairfuse.files import write_bytes, write_csv, write_json, write_text

STEPS = ["os.fsync", "pathlib.Path.replace"]


@pytest.fixture(params=STEPS)
def broken_step(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One step of writing fails, as on a full disk."""

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(request.param, fail)
    return str(request.param)


def test_a_file_and_its_folders_are_made(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "file", b"content")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"content"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"long content")
    write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"old")
    with (tmp_path / "file").open("rb") as reader:
        write_bytes(tmp_path / "file", b"new")
        assert reader.read() == b"old"


def test_a_failure_leaves_the_old_file_and_nothing_else(broken_step: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failure_makes_no_file(broken_step: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_the_content_is_on_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append("sync"), sync(file)))
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (steps.append("rename"), replace(self, to))
    )
    write_bytes(tmp_path / "file", b"new")
    assert steps == ["sync", "rename", "sync"]  # the file, its name, the folder


def test_a_folder_in_the_place_of_the_file_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match=r"[Dd]irectory"):
        write_bytes(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_json_that_no_reader_takes_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file", {"score": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_json_keeps_other_scripts_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"label": "положительный"})
    assert "положительный" in (tmp_path / "file").read_text("utf-8")


def test_csv_cells_are_quoted_where_they_must_be(tmp_path: Path) -> None:
    write_csv(tmp_path / "file", ["guid", "tag"], [["1", "a,b"], ["2", 'say "x"']])
    assert (tmp_path / "file").read_bytes() == b'guid,tag\n1,"a,b"\n2,"say ""x"""\n'


def test_text_that_utf_8_cannot_hold_is_written_with_marks(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "a\ud800b")
    assert (tmp_path / "file").read_bytes() == b"a?b"

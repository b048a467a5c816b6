"""`pairfuse report`: what is damaged in the run folder is named in one line."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pairfuse.cli import main
from pairfuse.commands.run_folder import read_history
from pairfuse.errors import DataError
from toys.commands import QUICK, run_command

Damage = Callable[[bytes], bytes]
DAMAGES: Mapping[str, Damage] = {
    "other words": lambda data: b"hello\nworld\n",
    "no text": lambda data: b"\xff\xfe\0\x80\n" * 50,
    "letters for digits": lambda data: data.replace(b"0.", b"x."),
    "a cell more": lambda data: b"".join(line + b",1\n" for line in data.splitlines()[1:]),
    "a list": lambda data: b"[1]\n[2]\n",
}
FILES = {
    "study.log": "the study's storage",
    "history.csv": "run `pairfuse train` again",
    "predictions/fused.csv": "run `pairfuse ablate` again",
    "evidence.json": "run `pairfuse ablate` again",
}


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named_in_one_line(
    file: str, root: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own / "runs" / "toy" / file
    whole = path.read_bytes()
    for what, damage in DAMAGES.items():
        path.write_bytes(damage(whole))
        capsys.readouterr()
        assert run_command("report", root, own, *QUICK) == 1, what
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert str(path) in line
        assert FILES[file] in line


def test_a_history_without_rows_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    assert read_history(path) == []
    path.write_text("hello [\n", "utf-8")
    with pytest.raises(DataError, match=r"history\.csv cannot be read \(it has no rows\)"):
        read_history(path)


def test_predictions_of_other_pairs_are_refused(
    root: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own / "runs" / "toy" / "predictions" / "fused.csv"
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:-3]), "utf-8")
    assert run_command("report", root, own, *QUICK) == 1
    assert "not those of the 80 labelled pairs" in capsys.readouterr().err


def test_the_command_that_the_page_gives_repeats_the_ablation(
    root: Path, cache: Path, own: Path
) -> None:
    config, page = own / "runs" / "toy" / "config.toml", own / "runs" / "toy" / "report.html"
    config.write_text(config.read_text("utf-8").replace(str(cache), str(own)), "utf-8")
    assert run_command("report", root, own, *QUICK) == 0
    [line] = re.findall(r"pairfuse \w+ --config [^<]*", html.unescape(page.read_text("utf-8")))
    evidence = own / "runs" / "toy" / "evidence.json"
    evidence.unlink()
    assert shlex.split(line) == ["pairfuse", "ablate", "--config", str(config)]
    assert main(shlex.split(line)[1:]) == 0
    assert evidence.is_file()


@pytest.mark.parametrize("kept", [0, 40])
def test_a_journal_that_lost_its_trials_is_said(
    kept: int, root: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own / "runs" / "toy" / "study.log"
    path.write_bytes(path.read_bytes()[:kept])
    assert run_command("report", root, own) == 0
    said = capsys.readouterr().err
    assert f"{path} holds no trial of this run" in said
    assert (f"{path} ended in half a line" in said) == (kept > 0)

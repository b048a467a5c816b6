"""What commands say fits a screen of 100 columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairfuse.cli import main
from pairfuse.console import WIDTH
from pairfuse.data.demo import draw_demo
from toys.commands import QUICK, run_command

COMMANDS = {
    "encoders": ["encoders"],
    "check-data": ["check-data", "--data", "{root}"],
    "features": ["features", "--data", "{root}", *QUICK[:2]],
    "tune": ["tune", "--data", "{root}", *QUICK],
    "train": ["train", "--data", "{root}", *QUICK],
    "report": ["report", "--data", "{root}", *QUICK],
    "compare": ["compare", "toy", "toy/text-only"],
    "cache ls": ["cache", "ls"],
    "cache verify": ["cache", "verify"],
}


def lines_of(capsys: pytest.CaptureFixture[str], *folders: Path) -> list[str]:
    """What was said, without the paths of this machine."""
    said = "".join(capsys.readouterr())
    for folder in folders:
        said = said.replace(str(folder), "data")
    return said.splitlines()


@pytest.mark.parametrize("name", COMMANDS)
def test_lines_of_a_command_fit_the_screen(
    name: str, root: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [part.format(root=root) for part in COMMANDS[name]]
    where = [] if name == "encoders" else ["--cache", str(own)]
    assert main([*told, *where]) == 0
    lines = lines_of(capsys, root, own)
    assert lines
    assert max(map(len, lines)) <= WIDTH


def test_lines_of_a_matrix_and_an_ablation_fit_the_screen(
    root: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("ablate", root, own) == 0
    matrix = ["matrix", "--data", str(root), "--cache", str(own), *QUICK, "--heads", "concat"]
    assert main(matrix) == 0
    assert max(map(len, lines_of(capsys, root, own))) <= WIDTH


def test_the_error_of_a_run_of_other_data_fits_the_screen(
    root: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "set"
    draw_demo(other, pairs=40, test_pairs=2)
    assert run_command("train", other, own, "--run", "toy") == 1
    assert max(map(len, lines_of(capsys, root, own, other))) <= WIDTH

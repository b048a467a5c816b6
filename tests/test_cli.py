"""Command line: an error is one line and exit 1, wrong usage is exit 2, help is everywhere."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pairfuse import __version__
from pairfuse.cli import COMMANDS, main
from pairfuse.commands.flags import FLAGS
from pairfuse.data.readers import READERS

#: Groups of flags that the commands take beside `data` and `run`.
GROUPS: dict[str, list[str]] = {
    "check-data": [],
    "features": ["features"],
    "predict": ["features"],
    **{
        name: ["features", "study"]
        for name in ("run", "tune", "train", "ablate", "report", "matrix")
    },
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four pairs, two of each label; the files are missing."""
    folder = tmp_path / "toy"
    (folder / "data").mkdir(parents=True)
    (folder / "train.txt").write_text("guid,tag\n1,up\n2,up\n3,down\n4,down\n")
    (folder / "test_without_label.txt").write_text("guid,tag\n5,null\n")
    for number in range(1, 6):
        (folder / "data" / f"{number}.txt").write_text(f"text number {number}")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert f"pairfuse {command}" in said
    for group in ["data", "run", *GROUPS[command]] if command in GROUPS else []:
        assert all(flag in said for flag, _, _ in FLAGS[group])


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert [command for command in COMMANDS if command not in said] == []


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"pairfuse {__version__}\n"


USAGE = [
    [],
    ["fly"],
    ["tune", "--folds", "many"],
    ["tune", "--fold", "3"],  # no abbreviations
    ["train", "--out", "x"],
    ["cache"],
    ["cache", "rm"],
]


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_wrong_usage_ends_with_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: pairfuse" in capsys.readouterr().err


WRONG: list[tuple[list[str], str]] = [
    (["features", "--encoders", "minlm"], "'minlm' is not known, nearest: minilm"),
    (["check-data", "--data", "no/such/folder"], "no/such/folder"),
    (["check-data", "--columns", "text"], "names no column"),
    (["tune", "--set", "recipe.lr"], "has no value"),
    (["tune", "--set", "recipe.lrr=1"], "did you mean lr?"),
    (["tune", "--set", "recipe.epochs=many"], "expected a whole number"),
    (["tune", "--set", "recipe.dropout=2"], "dropout is 2"),
    (["tune", "--set", "recipe.balance=luck"], "no balance 'luck'"),
    (["matrix", "--heads", "gated luck"], "no head 'luck'"),
    (["ablate", "--set", "study.ensemble=luck"], "no ensemble 'luck'"),
    (["tune", "--folds", "1"], "folds is 1; use 2 to 100"),
    (["tune", "--folds", "2", "--encoders", "ngram"], "has 2 different pairs"),
    (["train", "--config", "no-such.toml"], "no-such.toml cannot be read"),
    (["predict"], "no complete model in"),
    (["predict", "--run", "../up"], "cannot name a run"),
    (["features", "--device", "tpu"], "device 'tpu' is not known"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda value: " ".join(value)[:40])
def test_an_error_is_one_line_and_exit_one(
    arguments: list[str],
    message: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [] if "--data" in arguments else ["--data", str(data)]
    assert main([*arguments, *given, "--cache", str(tmp_path / "cache")]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ")
    assert message in said[-1]
    assert not any("Traceback" in line for line in said)


def test_too_little_memory_is_one_line(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def allocate(*_: object) -> None:
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("pairfuse.commands.flags.load_config", allocate)
    assert main(["features", "--data", str(data)]) == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: the memory is not enough (Unable to allocate 9 TiB)")


def test_the_readers_of_the_help_are_those_of_the_table() -> None:
    [words] = [options["help"] for flag, _, options in FLAGS["data"] if flag == "--reader"]
    assert words.removeprefix("auto, or a layout: ").split(", ") == list(READERS)


def test_a_loop_of_links_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert main(["cache", "ls", "--cache", str(loop)]) == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: cannot read or write {loop}")


def test_one_who_stops_a_command_before_it_began_sees_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pairfuse.cli.build_parser", stopped)
    assert main(["cache", "ls"]) == 130


def test_sigterm_ends_a_command_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pairfuse.cli.build_parser", lambda: signal.raise_signal(signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        assert main(["cache", "ls"]) == 143
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("stopped; finished work is kept")


def test_a_reader_who_stops_reading_sees_no_error() -> None:
    command = f"{sys.executable} -m pairfuse encoders | head -1"
    found = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert found.stdout.startswith(b"name ")
    assert found.stdout.count(b"\n") == 1
    assert found.stderr == b""


def test_another_broken_pipe_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("pairfuse.cli.build_parser", broken)
    assert main(["cache", "ls"]) == 1
    assert "EPIPE" in capsys.readouterr().err

"""Command line: an error is one line and exit 1, wrong usage is exit 2, help is everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pairfuse import __version__
from pairfuse.cli import COMMANDS, FLAGS, main
from pairfuse.encoders import ENCODERS, build_encoders
from pairfuse.features.store import open_store

EVERY = [*COMMANDS, "demo", "compare", "encoders", "cache"]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with one store of three rows."""
    [encoder] = build_encoders(["ngram"], device="cpu")
    store = open_store(tmp_path / "cache", encoder)
    keys = [bytes([row]) * 32 for row in range(3)]
    store.add(keys, np.ones((3, encoder.dim), dtype=np.float32))
    return tmp_path / "cache"


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


@pytest.mark.parametrize("command", EVERY)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert f"pairfuse {command}" in said
    for group in COMMANDS.get(command, ("", ()))[1]:
        assert all(flag in said for flag, _, _ in FLAGS[group])


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert [command for command in EVERY if command not in said] == []


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pairfuse.cli import main\n"
        "try: main(['run', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'optuna', 'numpy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
    (
        ["matrix", "--heads", "gated stacking"],
        "two other heads or more, found gated",
    ),
    (["ablate", "--nested", "--set", "study.ensemble=stacking"], "which cannot be stacked"),
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


def test_every_encoder_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encoders"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *ENCODERS]


def test_the_list_of_encoders_can_be_had_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encoders", "--json"]) == 0
    listed = {each.pop("name"): each for each in json.loads(capsys.readouterr().out)}
    assert list(listed) == list(ENCODERS)
    assert (listed["ngram"]["licence"], listed["ngram"]["weights"]) == (None, "no weights")
    assert (listed["flava"]["modality"], listed["flava"]["width"][0]) == (
        ["text", "image", "joint"],
        768,
    )


@pytest.mark.parametrize("action", ["ls", "verify"])
def test_stores_are_listed_as_json(
    action: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", action, "--cache", str(cache), "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found["name"].startswith("ngram-")
    assert (found["rows"], found["dim"], found["damaged"]) == (3, 4096, [])


def test_a_damaged_store_is_found_repaired_and_removed(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [part] = (cache / "features").rglob("*.h5")
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 255
    part.write_bytes(content)
    where = ["--cache", str(cache)]
    assert main(["cache", "verify", *where]) == 1
    assert "1 damaged parts" in capsys.readouterr().err
    assert main(["cache", "verify", "--repair", *where]) == 0
    assert main(["cache", "verify", *where]) == 0
    name = part.parents[1].name
    assert main(["cache", "rm", name, *where]) == 0
    assert main(["cache", "rm", name, *where]) == 1
    assert f"no store '{name}'" in capsys.readouterr().err


def test_an_empty_cache_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "ls", "--cache", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no features in {tmp_path}\n"


def test_the_demo_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr(
        "pairfuse.commands.features.draw_demo", lambda root, **how: drawn.append(root)
    )
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

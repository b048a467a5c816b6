"""Tokens under faults: killed at any change of the disk, or without room, the store is sound."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from pairfuse.cli import main
from pairfuse.data.pairs import text_key
from pairfuse.encoders.token_encoder import TokenEncoder
from pairfuse.features import extraction
from pairfuse.features.extraction import extract
from pairfuse.features.store import COMPACT_ABOVE, open_store
from pairfuse.files import TEMPORARY
from toys.encoders import ToySequence, toy_features, toy_tokens
from toys.faults import CONTEXT, PAIRS, Faults, Place, Steps, new_place

WORDS = ["word " * (number % 4 + 1) + str(number) for number in range(PAIRS)]
WANTED = {text_key(text): text for text in WORDS}


def fill(beside: Path, kill_at: int = 0) -> int:
    """Extract in a process of its own that may be killed at its n-th change of the disk."""
    beside.mkdir(exist_ok=True)
    process = CONTEXT.Process(target=_extract, args=(beside, kill_at))
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def _extract(beside: Path, kill_at: int) -> None:
    extraction.COMMIT_SECONDS = 0
    Steps(beside / "cache", beside / "steps", Faults(kill_at=kill_at)).watch()
    encoder = TokenEncoder(ToySequence())
    store = open_store(beside / "cache", encoder)
    extract(WANTED, encoder, store, device="cpu", workers=1, batch_size=2)


def right_rows(cache: Path) -> int:
    """How many rows there are, all of them proven and the right ones."""
    store = open_store(cache, TokenEncoder(ToySequence()))
    there = [key for key in WANTED if key in store]
    features, tokens = store.read(there), store.read_tokens(there)
    for row, key in enumerate(there):
        assert (features[row] == toy_features(WANTED[key].encode())).all()
        assert (tokens.row(row) == toy_tokens(WANTED[key].encode())).all()
    return len(there)


@pytest.mark.parametrize("count", [5, pytest.param(0, marks=pytest.mark.faults)])
def test_killed_at_each_change_of_the_disk_it_keeps_whole_rows_and_goes_on(
    count: int, tmp_path: Path
) -> None:
    assert fill(tmp_path / "whole") == 0
    last = len((tmp_path / "whole" / "steps").read_text("utf-8").splitlines())
    every = range(1, last + 1)
    for number in Random(0).sample(every, count) if count else every:
        beside = tmp_path / str(number)
        assert fill(beside, kill_at=number) == -9
        assert right_rows(beside / "cache") <= PAIRS
        assert fill(beside) == 0
        assert right_rows(beside / "cache") == PAIRS
        assert not [path for path in beside.rglob("*") if path.name.startswith(TEMPORARY)]
        assert len(list(beside.rglob("*.h5"))) <= COMPACT_ABOVE + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from toys.checkpoints import bert  # not in the processes that import this module

    return bert(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """What a run leaves that nothing disturbs."""
    place = new_place(tmp_path_factory.mktemp("tokens") / "whole")
    code, said = place.run(*features(folder))
    assert code == 0, said
    assert f"{PAIRS} rows with their tokens will take" in said
    return place


def features(folder: Path, *more: str) -> tuple[str, ...]:
    how = ("--precision", "fp32", "--device", "cpu", "--batch-size", "2")
    return ("features", "--encoders", f"text={folder}", "--tokens", *how, *more)


def test_without_room_it_says_how_much_is_needed_and_writes_no_part(
    whole: Place, folder: Path, tmp_path: Path
) -> None:
    place = new_place(tmp_path / "own", whole.root)
    code, said = place.run(*features(folder), faults=Faults(free=6000))
    assert code == 1
    assert "rows with their tokens will take" in said
    assert "make room or name another folder with --cache" in said
    assert not list(place.cache.rglob("*.h5"))


def test_another_pooling_is_made_of_the_stored_tokens(whole: Place, folder: Path) -> None:
    for how in ("cls", "mean", "max"):
        code, said = whole.run(*features(folder, "--pooling", how))
        assert (code, "nothing computed" in said) == (0, True), said


def test_the_command_shows_and_proves_tokens(
    whole: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "verify", "--json", "--cache", str(whole.cache)]) == 0
    [facts] = json.loads(capsys.readouterr().out)
    assert (facts["rows"], facts["name"][:12]) == (PAIRS, "tiny-tokens-")
    assert main(["cache", "ls", "--cache", str(whole.cache)]) == 0
    assert f"{facts['tokens']} tokens" in capsys.readouterr().out

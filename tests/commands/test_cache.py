"""`pairfuse cache`: list, verify, repair, remove."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from pairfuse.cli import main
from pairfuse.encoders import build_encoders
from pairfuse.features.store import open_store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A cache with one store of three rows."""
    [encoder] = build_encoders(["ngram"], device="cpu")
    store = open_store(tmp_path / "cache", encoder)
    keys = [bytes([row]) * 32 for row in range(3)]
    store.add(keys, np.ones((3, encoder.dim), dtype=np.float32))
    return tmp_path / "cache"


@pytest.mark.parametrize("action", ["ls", "verify"])
def test_stores_are_listed_as_json(
    action: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", action, "--cache", str(store), "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found["name"].startswith("ngram-")
    assert (found["rows"], found["dim"], found["damaged"]) == (3, 4096, [])


def test_a_damaged_store_is_found_repaired_and_removed(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [part] = (store / "features").rglob("*.h5")
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 255
    part.write_bytes(content)
    where = ["--cache", str(store)]
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


def test_gc_keeps_the_rows_of_every_run_and_end_of_input_means_no(
    root: Path, own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own)  # no data/ here: only the run says what is in use
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    where = ["--cache", str(own)]
    assert main(["cache", "gc", *where]) == 0
    assert "nothing to drop" in capsys.readouterr().out
    [encoder] = build_encoders(["ngram"], device="cpu")
    open_store(own, encoder).add([b"x" * 32], np.ones((1, encoder.dim), dtype=np.float32))
    assert main(["cache", "gc", *where]) == 1
    assert "nothing dropped: there are 1 rows" in capsys.readouterr().err.splitlines()[-1]
    assert main(["cache", "gc", "--yes", *where]) == 0
    assert "dropped 1 rows" in capsys.readouterr().out
    assert main(["features", "--data", str(root), "--encoders", "ngram", *where]) == 0
    assert "nothing computed" in capsys.readouterr().out


def test_gc_stops_at_a_run_whose_data_are_gone(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own)
    place = own / "runs" / "toy" / "data.json"
    place.write_text(json.dumps({"root": "/no/such/set", "digest": ""}))
    assert main(["cache", "gc", "--yes", "--cache", str(own)]) == 1
    assert "is a run of /no/such/set, which is not there" in capsys.readouterr().err


def test_an_exported_store_is_imported_whole(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [folder] = (store / "features").iterdir()
    packed, other = tmp_path / "x.tar", tmp_path / "other"
    assert main(["cache", "export", folder.name, str(packed), "--cache", str(store)]) == 0
    assert main(["cache", "import", str(packed), "--cache", str(other)]) == 0
    assert f"imported 3 rows into {folder.name}" in capsys.readouterr().out
    assert main(["cache", "verify", "--cache", str(other)]) == 0

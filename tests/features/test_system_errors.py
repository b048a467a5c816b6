"""System errors are no damage: a passing one names itself, changes nothing, loses nothing."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import resource
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pairfuse import files
from pairfuse.cli import main
from pairfuse.errors import ConfigError, StoreError
from pairfuse.features import part as parts
from pairfuse.features.store import FeatureStore
from pairfuse.features.upkeep import (
    DAMAGED,
    export_store,
    import_store,
    list_stores,
    thin_out,
    verify_stores,
)
from toys.fusion import warnings_logged

NAME = "toy-" + "ab" * 4
ROWS = np.arange(24, dtype=np.float32).reshape(6, 4)
#: Answers of file systems that know no locks.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


def key(number: int) -> bytes:
    return bytes([number]) * 32


def open_toy(cache: Path) -> FeatureStore:
    return FeatureStore(cache / "features" / NAME / "parts", "toy", "text", "ab" * 32, 4)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    toy = open_toy(tmp_path)
    toy.add([key(n) for n in range(4)], ROWS[:4])
    toy.add([key(4), key(5)], ROWS[4:])
    return toy


def contents_of(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@contextmanager
def no_file_opens() -> Iterator[None]:
    """Every open answers EMFILE."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_too_many_open_files_are_no_damage(store: FeatureStore, tmp_path: Path) -> None:
    before = contents_of(tmp_path)
    with no_file_opens(), pytest.raises(OSError, match="Too many open files"):
        verify_stores(tmp_path, repair=True)
    assert contents_of(tmp_path) == before


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.EACCES, errno.ESTALE])
def test_a_part_that_cannot_be_read_is_not_called_damaged(
    code: int, store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents_of(tmp_path)
    monkeypatch.setattr(h5py, "File", failing(code))
    monkeypatch.setattr(parts, "read_bytes", failing(code))
    with pytest.raises(OSError, match=os.strerror(code)):
        verify_stores(tmp_path, repair=True)
    assert contents_of(tmp_path) == before


def test_a_part_that_hdf5_could_not_read_once_is_read_by_plain_means(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = h5py.File

    def once(name: Any, *rest: Any, **options: Any) -> Any:
        if isinstance(name, Path):
            raise OSError("Unable to synchronously open file (file read failed)")
        return plain(name, *rest, **options)

    monkeypatch.setattr(h5py, "File", once)
    assert verify_stores(tmp_path, repair=True)[0].damaged == ()
    assert (open_toy(tmp_path).read([key(n) for n in range(6)]) == ROWS).all()


def test_rows_that_cannot_be_read_while_they_are_proven_are_not_damaged(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents_of(tmp_path)
    monkeypatch.setattr(os, "preadv", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        verify_stores(tmp_path, repair=True)
    with pytest.raises(OSError, match="Input/output error"):
        store.read([key(n) for n in range(4)])
    assert contents_of(tmp_path) == before


@pytest.mark.parametrize("arguments", [["verify", "--repair"], ["verify"], ["ls"]])
def test_the_command_says_the_errors_own_name_in_one_line(
    arguments: list[str],
    store: FeatureStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(os, "scandir", failing(errno.EMFILE))
    assert main(["cache", *arguments, "--cache", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert "Too many open files" in told
    assert "damaged" not in told


@pytest.mark.parametrize("code", NO_LOCKS)
def test_a_file_system_without_locks_is_worked_on_without_and_said_once(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(code))
    files.say_no_locks.cache_clear()
    with warnings_logged() as told:
        for _ in range(2):
            with files.locked(tmp_path / "lock"):
                open_toy(tmp_path).add([key(1)], ROWS[:1])
    assert (open_toy(tmp_path).read([key(1)]) == ROWS[:1]).all()
    assert len(told) == 1
    assert "knows no locks" in told[0]


@pytest.mark.parametrize("code", NO_LOCKS)
def test_a_journal_without_locks_is_refused_with_the_way_out(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pairfuse.study.tuning import open_storage

    monkeypatch.setattr(fcntl, "flock", failing(code))
    with pytest.raises(ConfigError, match=r"knows no locks.*--storage"):
        open_storage(str(tmp_path / "study.log"))


def test_a_listing_that_fails_does_not_pass_for_an_empty_store(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents_of(tmp_path)
    monkeypatch.setattr(os, "scandir", failing(errno.EMFILE))
    for act in (
        lambda: thin_out(tmp_path, set(), remove=True),
        lambda: open_toy(tmp_path),
        lambda: list_stores(tmp_path),
    ):
        with pytest.raises(OSError, match="Too many open files"):
            act()
    monkeypatch.undo()
    assert contents_of(tmp_path) == before


def test_repair_sets_a_damaged_part_aside_until_gc(store: FeatureStore, tmp_path: Path) -> None:
    [path] = [part.path for part in store.parts if len(part.keys) == 4]
    path.write_bytes(bad := path.read_bytes()[:-100])
    [facts] = verify_stores(tmp_path, repair=True)
    aside = path.parents[1] / DAMAGED / path.name
    assert len(facts.damaged) == 1
    assert not path.exists()
    assert aside.read_bytes() == bad
    assert list_stores(tmp_path)[0].set_aside == 1
    thin_out(tmp_path, {key(4)}, remove=False)
    assert aside.exists()
    thin_out(tmp_path, {key(4)}, remove=True)
    assert not aside.parent.exists()


def test_repair_sets_aside_the_part_whose_sound_rows_it_keeps(
    store: FeatureStore, tmp_path: Path
) -> None:
    [path] = [part.path for part in store.parts if len(part.keys) == 4]
    data = path.read_bytes()
    place = data.index(ROWS[2].tobytes())
    path.write_bytes(bad := data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    verify_stores(tmp_path, repair=True)
    assert (path.parents[1] / DAMAGED / path.name).read_bytes() == bad
    assert open_toy(tmp_path).missing([key(n) for n in range(6)]) == [key(2)]


def test_a_part_of_a_newer_format_is_neither_damaged_nor_moved(
    store: FeatureStore, tmp_path: Path
) -> None:
    path = store.parts[0].path
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = np.int64(99)
    with pytest.raises(StoreError, match=r"version 99.*newer"):
        verify_stores(tmp_path, repair=True)
    assert path.exists()


# --- what comes from outside


def archive_with(path: Path, member: tarfile.TarInfo, data: bytes) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.addfile(member, io.BytesIO(data))
    return path


def test_a_member_that_declares_more_than_the_file_holds_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sparse = tarfile.TarInfo(f"{NAME}/{'0' * 32}.h5")
    sparse.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": sparse.name,
        "GNU.sparse.realsize": str(3 * 2**30),
    }
    body = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
    sparse.size = len(body)
    with tarfile.open(tmp_path / "huge.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(sparse, io.BytesIO(body))
    with pytest.raises(StoreError, match=r"huge\.tar.*sparse"):
        import_store(tmp_path, tmp_path / "huge.tar")


def test_a_pipe_is_no_export(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="pipe is not a plain file"):
        import_store(tmp_path, tmp_path / "pipe")


def test_a_refused_member_is_named_by_the_archive_and_not_by_where_it_was_tried(
    store: FeatureStore, tmp_path: Path
) -> None:
    name = f"{NAME}/{'0' * 32}.h5"
    member = tarfile.TarInfo(name)
    member.size = 9
    source = archive_with(tmp_path / "bad.tar", member, b"not hdf5!")
    with pytest.raises(StoreError) as caught:
        import_store(tmp_path, source)
    assert f"{source}: {name}" in str(caught.value)
    assert files.TEMPORARY not in str(caught.value)
    assert "--repair" not in str(caught.value)


def test_an_export_still_comes_back(store: FeatureStore, tmp_path: Path) -> None:
    export_store(tmp_path, NAME, tmp_path / "store.tar")
    assert import_store(tmp_path / "other", tmp_path / "store.tar") == (NAME, 6)
    assert (open_toy(tmp_path / "other").read([key(n) for n in range(6)]) == ROWS).all()

"""Two at once: no row is lost, no work is done twice, no one waits for ever, readers are right."""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest

from pairfuse.errors import StoreError
from pairfuse.features import store as stores
from pairfuse.features.store import FeatureStore, open_store
from pairfuse.features.upkeep import list_stores, remove_store
from toys.encoders import ToyEncoder, toy_features
from toys.faults import BATCH, PAIRS, Command, FaultCounts, Faults, Place, new_place

ROUNDS = [2, pytest.param(25, marks=pytest.mark.faults)]
SECONDS = [pytest.param(20, marks=pytest.mark.faults)]  # races: too much luck for each run
CONTEXT = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """What one process leaves that is alone."""
    place = new_place(tmp_path_factory.mktemp("two") / "whole")
    assert place.run()[0] == 0
    return place


def both_end(first: Command, second: Command) -> None:
    for command in (first, second):
        assert command.end() == 0, command.said


@pytest.mark.parametrize("rounds", ROUNDS)
def test_two_that_fill_one_store_share_the_work(
    rounds: int, whole: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts, random = FaultCounts("two features on one store"), Random(4)
    for number in range(rounds):
        place = new_place(tmp_path / str(number), whole.root)
        first = place.start()
        time.sleep(random.uniform(0, 0.3))
        both_end(first, place.start())
        assert place.rows() == whole.rows()
        assert place.encoded - PAIRS <= BATCH
        counts.tried, counts.survived = counts.tried + 1, counts.survived + 1
        counts.twice.append(place.encoded - PAIRS)
    with capsys.disabled():
        print(counts)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_one_store_through_two_paths_is_one_store(
    rounds: int, whole: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = FaultCounts("two features through two paths")
    for number in range(rounds):
        place = new_place(tmp_path / str(number), whole.root)
        place.cache.mkdir()
        (place.beside / "link").symlink_to(place.cache)
        both_end(place.start(), place.start(cache=place.beside / "link"))
        assert place.rows() == whole.rows()
        assert place.encoded - PAIRS <= BATCH
        counts.tried, counts.survived = counts.tried + 1, counts.survived + 1
        counts.twice.append(place.encoded - PAIRS)
    with capsys.disabled():
        print(counts)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_process_that_waits_takes_over_when_the_first_is_killed(
    rounds: int, whole: Place, tmp_path: Path
) -> None:
    random = Random(5)
    for number in range(rounds):
        place = new_place(tmp_path / str(number), whole.root)
        first, second = place.start(), place.start()
        first.kill_after(random.uniform(0.1, 0.4))
        assert second.end() == 0, second.said
        assert place.rows() == whole.rows()
        assert place.encoded - PAIRS <= BATCH
        assert not place.rubbish()


def test_where_locks_do_not_work_both_compute_and_no_row_is_lost(
    whole: Place, tmp_path: Path
) -> None:
    place = new_place(tmp_path / "own", whole.root)
    lockless = Faults(no_locks=True)
    both_end(place.start(faults=lockless), place.start(faults=lockless))
    assert place.rows() == whole.rows()
    assert not place.rubbish()


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_reader_beside_a_writer_sees_right_rows_that_never_vanish(
    rounds: int, whole: Place, tmp_path: Path
) -> None:
    expected = whole.rows()
    for number in range(rounds):
        place, seen, reads = new_place(tmp_path / str(number), whole.root), 0, 0
        command = place.start()
        while command.process.is_alive():
            rows = place.rows()
            assert len(rows) >= seen
            assert all(expected[key] == row for key, row in rows.items())
            seen, reads = len(rows), reads + 1
        assert command.end() == 0, command.said
        assert reads > 3


def key(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def right(keys: list[bytes]) -> np.ndarray:
    return np.stack([toy_features(key) for key in keys])


def write_for_ever(cache: Path, start: int) -> None:
    """Add parts and join them as often as can be; begin anew when the store is removed."""
    stores.COMPACT_ABOVE = 2
    store = open_store(cache, ToyEncoder())
    for number in range(start, 10**9, 3):
        keys = [key(n % 600) for n in range(number, number + 3)]
        try:
            store.add(keys, right(keys))
            store.refresh()
            store.compact()
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):  # `cache rm` came between
                raise


def writers(cache: Path, count: int) -> list:  # type: ignore[type-arg]
    out = [
        CONTEXT.Process(target=write_for_ever, args=(cache, 100 * n), daemon=True)
        for n in range(count)
    ]
    for process in out:
        process.start()
    while not [*cache.rglob("*.h5")]:
        time.sleep(0.01)
    return out


def stop(processes: list) -> None:  # type: ignore[type-arg]
    """They must have run until now: one that died had an error."""
    dead = [process.exitcode for process in processes if not process.is_alive()]
    for process in processes:
        process.kill()
        process.join()
    assert not dead


def all_rows(store: FeatureStore) -> set[bytes]:
    keys = sorted({row.tobytes() for part in store.parts for row in part.keys})
    if keys:
        assert store.read(keys).tobytes() == right(keys).tobytes()
    return set(keys)


@pytest.mark.parametrize("seconds", SECONDS)
def test_readers_beside_two_that_join_parts_all_the_time_lose_no_row(
    seconds: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    processes, seen, counts = (
        writers(tmp_path, 2),
        set(),
        FaultCounts("reads beside two joining writers"),
    )
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rows = all_rows(open_store(tmp_path, ToyEncoder()))
        assert rows >= seen
        seen = rows
        list_stores(tmp_path)
        counts.tried, counts.survived = counts.tried + 1, counts.survived + 1
    stop(processes)
    assert len(seen) > 30
    with capsys.disabled():
        print(counts)


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_store_that_is_removed_while_it_is_read_and_written_gives_right_rows_or_says_so(
    seconds: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    processes, counts = writers(tmp_path, 1), FaultCounts("reads beside cache rm and a writer")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        store = open_store(tmp_path, ToyEncoder())
        if not store.parts:
            continue
        if counts.tried % 3 == 0:
            remove_store(tmp_path, store.folder.parent.name)
        try:
            all_rows(store)
        except StoreError as error:
            if "does not hold" not in str(error):
                raise
            counts.refused += 1
        counts.tried, counts.survived = counts.tried + 1, counts.survived + 1
    stop(processes)
    with capsys.disabled():
        print(counts)

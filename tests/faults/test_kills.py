"""Killed anywhere: the store opens, its rows are right, the next run ends and repeats one part."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random
from time import perf_counter, sleep

import pytest

from pairfuse.features.store import COMPACT_ABOVE
from pairfuse.files import TEMPORARY, temporary_name, write_bytes
from toys.faults import BATCH, PAIRS, FaultCounts, Faults, Place, new_place

#: A count of kills for every run of the tests, and the whole one.
SOME_OR_ALL = {"moments": (4, 200), "steps": (5, 0), "cold": (1, 20)}


def counts(kind: str) -> list[object]:
    some, every = SOME_OR_ALL[kind]
    return [some, pytest.param(every, marks=pytest.mark.faults)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """What a run leaves that nothing disturbs."""
    place = new_place(tmp_path_factory.mktemp("kills") / "whole")
    code, said = place.run()
    assert code == 0, said
    assert len(place.rows()) == PAIRS == place.encoded
    return place


def check_and_resume(place: Place, whole: Place, counts: FaultCounts, kills: int = 1) -> None:
    """The store after a kill holds right rows only; the next run repeats no more than a part."""
    before, expected = place.encoded, whole.rows()
    kept = place.rows()
    assert all(expected[key] == row for key, row in kept.items())
    assert before - len(kept) <= kills * BATCH
    code, said = place.run()
    assert code == 0, said
    assert place.rows() == expected
    assert place.encoded == before + PAIRS - len(kept)
    assert not place.rubbish()
    assert len(list((place.cache / "features").rglob("*.h5"))) <= COMPACT_ABOVE + 1
    counts.tried += 1
    counts.survived += 1
    counts.lost_rows += PAIRS - len(place.rows())
    counts.twice.append(place.encoded - PAIRS)
    shutil.rmtree(place.beside)


@pytest.mark.parametrize("count", counts("moments"))
def test_killed_at_random_moments(
    count: int, whole: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts, random = FaultCounts("features, killed at random moments"), Random(0)
    spare = new_place(tmp_path / "spare", whole.root)
    start = perf_counter()
    assert spare.run()[0] == 0
    lasts = perf_counter() - start
    for number in range(4 * count):
        if counts.killed == count:
            break  # a run that ended before its signal came does not count
        place = new_place(tmp_path / str(number), whole.root)
        counts.killed += place.start().kill_after(random.uniform(0, lasts))
        check_and_resume(place, whole, counts)
    with capsys.disabled():
        print(counts)


@pytest.mark.parametrize("count", counts("steps"))
def test_killed_at_each_change_of_the_disk(
    count: int, whole: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts, last = FaultCounts("features, killed at each write, fsync, rename"), len(whole.steps)
    every = range(1, last + 1)
    for number in Random(1).sample(every, count) if count else every:
        place = new_place(tmp_path / str(number), whole.root)
        assert place.run(faults=Faults(kill_at=number))[0] == -9
        counts.killed += 1
        check_and_resume(place, whole, counts)
    with capsys.disabled():
        print(counts)


@pytest.mark.parametrize("count", counts("cold"))
def test_the_command_itself_killed_at_random_moments(
    count: int, whole: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts, random = FaultCounts("pairfuse features, as typed, killed"), Random(2)
    for number in range(count):
        place = new_place(tmp_path / str(number), whole.root)
        command = ("-m", "pairfuse", "features", "--encoders", "ngram", "--batch-size", str(BATCH))
        where = ("--data", str(place.root), "--cache", str(place.cache), "--device", "cpu")
        with subprocess.Popen([sys.executable, *command, *where], stdout=-3, stderr=-3) as process:
            sleep(random.uniform(0.5, 3))
            process.kill()
        counts.killed += process.returncode == -9
        check_and_resume(place, whole, counts)
    with capsys.disabled():
        print(counts)


def test_killed_again_and_again_it_ends_and_the_folder_does_not_grow(
    whole: Place, tmp_path: Path
) -> None:
    place, counts = new_place(tmp_path / "own", whole.root), FaultCounts("")
    writes = [number for number, step in enumerate(whole.steps, 1) if step.startswith("half")]
    for _ in range(5):
        assert place.run(faults=Faults(kill_at=writes[0]))[0] == -9
        assert len(place.rubbish()) <= 1
    check_and_resume(place, whole, counts, kills=5)


def test_every_file_is_opened_under_a_temporary_name_and_gets_its_own_by_a_rename(
    whole: Place,
) -> None:
    steps = [step.split(" ", 1) for step in whole.steps]
    names = {Path(path).name for what, path in steps if what in ("open", "write", "half")}
    assert {name for name in names if not name.startswith(TEMPORARY)} == {".lock"}
    renamed = [what for what, path in steps if what == "rename" and TEMPORARY in path]
    assert len(renamed) == PAIRS // BATCH + 2  # parts, the joined one, the image facts


@pytest.mark.faults
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_the_kernel_sees_no_write_that_the_tests_do_not(whole: Place, tmp_path: Path) -> None:
    place, log = new_place(tmp_path / "own", whole.root), tmp_path / "trace"
    trace = ("strace", "-f", "-o", str(log), "-e", "trace=openat,open,creat,rename,renameat")
    command = (sys.executable, "-m", "pairfuse", "features", "--encoders", "ngram")
    where = ("--data", str(place.root), "--cache", str(place.cache), "--device", "cpu")
    subprocess.run([*trace, *command, *where], check=True, stdout=-3, stderr=-3)
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if "open" in line]
    writes = [x for x in lines if str(place.cache) in x and ("O_WRONLY" in x or "O_RDWR" in x)]
    assert len(writes) == 3  # image facts, one part, the lock
    assert all(TEMPORARY in line or "/.lock" in line for line in writes)


def test_a_dead_writers_file_goes_at_once_and_a_living_ones_stays(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    own = temporary_name()
    dead = own.replace(f"-{os.getpid()}-", f"-{process.pid}-")
    elsewhere = own.replace(own[9:17], "0" * 8).replace(f"-{os.getpid()}-", f"-{process.pid}-")
    for name in (own, dead, elsewhere):
        (tmp_path / name).write_bytes(b"half")
    write_bytes(tmp_path / "file", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {own, elsewhere, "file"}

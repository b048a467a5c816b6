"""A full or closed disk: one clear line, everything committed is kept, room resumes the work."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from toys.faults import PAIRS, FaultCounts, Faults, Place, new_place

ROW = 4096 * 4 + 48


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """What a run leaves on a disk with room."""
    place = new_place(tmp_path_factory.mktemp("disk") / "whole")
    assert place.run()[0] == 0
    return place


@pytest.fixture
def place(whole: Place, tmp_path: Path) -> Place:
    return new_place(tmp_path / "own", whole.root)


@pytest.fixture
def shared(whole: Place) -> Iterator[Place]:
    """A place that every user of the machine may enter, and write only where it is allowed."""
    folder = Path(tempfile.mkdtemp(prefix="pairfuse-"))
    folder.chmod(0o755)
    shutil.copytree(whole.root, folder / "set")
    yield Place(folder / "set", folder / "cache")
    shutil.rmtree(folder)


def error_line(code: int, said: str) -> str:
    """The one line of an error; a traceback or silence is none."""
    assert code == 1, said
    assert "Traceback" not in said
    [line] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert said.strip().splitlines()[-1] == line
    return line


def kept_and_resumed(place: Place, whole: Place) -> int:
    """Rows that were kept; all of them right, and the others computed by the next run."""
    kept, expected = place.rows(), whole.rows()
    assert all(expected[key] == row for key, row in kept.items())
    assert not place.rubbish()
    code, said = place.run()
    assert code == 0, said
    assert place.rows() == expected
    return len(kept)


@pytest.mark.parametrize("count", [5, pytest.param(0, marks=pytest.mark.faults)])
def test_full_from_each_change_of_the_disk_on(
    count: int, whole: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts, every = (
        FaultCounts("features, disk full from each write on"),
        range(1, len(whole.steps) + 1),
    )
    for number in Random(3).sample(every, count) if count else every:
        place = new_place(tmp_path / str(number), whole.root)
        code, said = place.run(faults=Faults(full_at=number))
        counts.tried += 1
        if code:
            assert "No space left on device" in error_line(code, said)
            counts.refused += 1
        else:  # only the joining of parts found no room: every row is there
            assert len(place.rows()) == PAIRS
        kept_and_resumed(place, whole)
        counts.survived += 1
        shutil.rmtree(place.beside)
    with capsys.disabled():
        print(counts)


def test_too_little_room_is_said_with_the_space_needed_before_any_work(place: Place) -> None:
    line = error_line(*place.run(faults=Faults(free=100_000)))
    assert f"needs {PAIRS * ROW / 2**20:.1f} MB for {PAIRS} rows, 0.1 MB are free" in line
    assert place.encoded == 0


def test_a_quota_in_the_middle_is_said_with_the_space_that_the_rest_needs(
    place: Place, whole: Place
) -> None:
    fifth = [n for n, step in enumerate(whole.steps, 1) if step.startswith("write")][5]
    line = error_line(*place.run(faults=Faults(full_at=fifth)))
    left = PAIRS - len(place.rows())
    assert f"{left} rows are left and need {left * ROW / 2**20:.1f} MB" in line
    assert "run again to resume" in line
    assert 0 < kept_and_resumed(place, whole) < PAIRS


def test_a_bound_on_the_size_of_files_is_an_error_and_no_silent_death(
    place: Place, whole: Place
) -> None:
    line = error_line(*place.run(faults=Faults(file_bytes=20_000)))
    assert "File too large" in line
    assert kept_and_resumed(place, whole) == 0


def test_parts_that_cannot_be_joined_are_kept_as_they_are(place: Place, whole: Place) -> None:
    code, said = place.run(faults=Faults(file_bytes=100_000))
    assert code == 0, said
    assert kept_and_resumed(place, whole) == PAIRS


def file_for_cache(place: Place) -> None:
    place.cache.write_text("a file")


def file_for_features(place: Place) -> None:
    place.cache.mkdir()
    (place.cache / "features").write_text("a file")


def file_for_image_facts(place: Place) -> None:
    place.cache.mkdir()
    (place.cache / "image_facts").write_text("a file")


@pytest.mark.parametrize("block", [file_for_cache, file_for_features, file_for_image_facts])
def test_a_file_in_the_place_of_a_folder_is_named(
    block: Callable[[Place], None], place: Place
) -> None:
    block(place)
    line = error_line(*place.run())
    assert str(place.cache) in line
    assert place.encoded == 0


def closed_parent(place: Place) -> None:
    """The cache cannot be made."""


def closed_cache(place: Place) -> None:
    place.cache.mkdir()


def closed_store(place: Place) -> None:
    """The image facts can be kept, the features cannot."""
    place.cache.mkdir()
    (place.cache / "features").mkdir()
    (place.cache / "image_facts").mkdir()
    (place.cache / "image_facts").chmod(0o777)


def closed_parts(place: Place) -> None:
    assert place.run()[0] == 0
    store = next((place.cache / "features").iterdir())
    next((store / "parts").iterdir()).unlink()
    (place.beside / "encoded").write_bytes(b"")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("close", [closed_parent, closed_cache, closed_store, closed_parts])
def test_a_folder_that_may_not_be_written_is_said_before_any_work(
    close: Callable[[Place], None], shared: Place
) -> None:
    close(shared)
    (shared.beside / "encoded").touch()
    (shared.beside / "encoded").chmod(0o666)
    line = error_line(*shared.run(faults=Faults(nobody=True)))
    said = ("cannot write to", "cannot write", "cannot read or write")
    assert any(f"{words} {shared.cache}" in line for words in said)
    assert shared.encoded == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_complete_store_that_may_only_be_read_is_enough(shared: Place) -> None:
    assert shared.run()[0] == 0
    code, said = shared.run(faults=Faults(nobody=True))
    assert code == 0, said
    assert "nothing computed" in said


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount")
def test_a_real_small_disk_fills_and_resumes_in_more_room(whole: Place, tmp_path: Path) -> None:
    place = new_place(tmp_path / "own", whole.root)
    place.cache.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place.cache)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        line = error_line(*place.run(faults=Faults(free=2**30)))
        assert "No space left on device" in line
        subprocess.run(["mount", "-o", "remount,size=4m", str(place.cache)], check=True)
        assert 0 < kept_and_resumed(place, whole) < PAIRS
    finally:
        subprocess.run(["umount", str(place.cache)], check=True)

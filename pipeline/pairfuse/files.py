"""Whole files: written under a temporary name, flushed to disk, renamed; or not at all."""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import fnmatch
import hashlib
import io
import json
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

_log = logging.getLogger("pairfuse")
#: Temporary files begin so; a reader never opens one, a writer removes those of dead writers.
TEMPORARY = ".writing-"
#: Tries at a write whose folder another process removes again and again.
_ATTEMPTS = 5
#: Where it cannot be known that the writer is dead, it is taken for dead after so many seconds.
STALE_AFTER = 3600.0
#: A larger file is not taken into memory.
MAX_FILE_BYTES = 4 * 2**30
#: Answers of file systems that know no locks.
NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
#: A lock file cannot be made on a cache that is only read: nothing there needs the lock.
_READ_ONLY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
#: What is wrong with a file itself or its name, and stays so; every other answer of the system may
#: pass (a failing disk, too many open files), and nothing follows from it about the file.
_FILES_OWN = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ),
        *(errno.EACCES, errno.EPERM, errno.EINVAL, errno.EFBIG, errno.ENXIO),
    }
)
_OWNER = re.compile(re.escape(TEMPORARY) + r"([0-9a-f]{8})-([1-9][0-9]*)-[0-9a-f]{8}")


def read_bytes(path: Path) -> bytes:
    """The bytes of a plain file; a pipe or a device might never end and is not opened.

    Raises:
        OSError: It cannot be read; `strerror` says why, `filename` which.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a plain file")
        if found.st_size > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"larger than {MAX_FILE_BYTES / 2**30:g} GB")
        return path.read_bytes()
    except ValueError as error:  # a null character or a lone surrogate
        raise OSError(errno.EINVAL, "no file can have this name") from error
    except OSError as error:
        error.filename = error.filename or str(path)  # a read that fails does not say where
        raise


def is_files_own(error: OSError) -> bool:
    """Whether the fault is the file's own, so that it can be called missing or unreadable.

    A permission that is refused is the file's: it is refused again by the next try.
    """
    return error.errno in _FILES_OWN


def write_bytes(path: Path, *data: bytes | memoryview) -> None:
    """Replace `path` by these bytes; after a kill at any moment the old or the new file is there.

    Raises:
        OSError: The folder cannot be written or is full; the temporary file is gone by then.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return _write_once(path, *data)
        except (FileNotFoundError, FileExistsError):  # the folder was removed meanwhile
            if path.parent.exists() and not path.parent.is_dir():
                raise
    return _write_once(path, *data)


def _write_once(path: Path, *data: bytes | memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    temporary = path.parent / temporary_name()
    try:
        with temporary.open("xb") as file:
            file.writelines(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)  # a full disk says no name, others the temporary one
        raise
    sync_folder(path.parent)


def temporary_name() -> str:
    """A new name that says which process of which machine owns the file."""
    return f"{TEMPORARY}{_machine()}-{os.getpid()}-{uuid4().hex[:8]}"


def listed(folder: Path, pattern: str) -> list[Path]:
    """What a folder holds, sorted; nothing if it is not there, or goes meanwhile.

    Raises:
        OSError: It cannot be listed. `Path.glob` would say that it is empty.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(folder / name for name in names if fnmatch.fnmatchcase(name, pattern))


def sweep(folder: Path) -> None:
    """Remove what dead writers left: at once where that is sure, else when it is old."""
    for path in listed(folder, f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            owner = _OWNER.fullmatch(path.name)
            if owner and owner[1] == _machine():
                dead = not _is_alive(int(owner[2]))
            else:
                dead = time.time() - path.stat().st_mtime > STALE_AFTER
            if dead and path.is_dir():
                shutil.rmtree(path)
            elif dead:
                path.unlink()


@contextlib.contextmanager
def locked(
    path: Path, *, on_wait: Callable[[], object] = lambda: None, required: bool = False
) -> Iterator[None]:
    """Hold the lock on this file; the kernel frees it when the holder dies, however it dies.

    Args:
        path: Made if it is not there.
        on_wait: Called once if another process holds it.
        required: Without it, a folder that is only read, or a file system that knows no locks, is
            worked on without one; the latter is said once.

    Raises:
        OSError: The file cannot be opened or locked.
    """
    with contextlib.ExitStack() as held:
        try:
            file = held.enter_context(path.open("ab"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if required or error.errno not in NO_LOCKS | _READ_ONLY:
                raise
            if error.errno in NO_LOCKS:
                say_no_locks(path.parent)
        yield


@cache
def say_no_locks(folder: Path) -> None:
    """Warn, once for each folder."""
    _log.warning(
        "the file system of %s knows no locks: two commands may compute the same rows at once, "
        "which costs time and harms nothing",
        folder,
    )


def sync_folder(folder: Path) -> None:
    """Make renames in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole."""
    write_bytes(path, text.encode("utf-8", "replace"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole; floats that are no number become an error, not `NaN`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table whole, one header line, LF line ends."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


@cache
def _machine() -> str:
    """Eight hex digits for where process numbers mean the same: this boot, this container."""
    marks = [os.uname().nodename]
    with contextlib.suppress(OSError):  # only Linux says these
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        marks.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    return True

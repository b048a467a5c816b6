"""Journal: where trials are kept; one line for each thing that happened, none ever rewritten."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pairfuse.errors import ConfigError
from pairfuse.files import NO_LOCKS, locked


def open_storage(storage: str) -> Any:
    """A journal file, mended where a full disk tore it, or an URL as it is."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if "://" in storage:
        return storage
    Path(storage).parent.mkdir(parents=True, exist_ok=True)
    lock: Any = _JournalLock(Path(storage))
    try:
        _cut_torn_line(Path(storage), lock)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise ConfigError(
            f"the file system of {storage} knows no locks ({error.strerror}), and two tuners would "
            "spoil the journal; name a database with --storage, as in --storage postgresql://host/studies"
        ) from error
    return optuna.storages.JournalStorage(JournalFileBackend(storage, lock_obj=lock))


class _JournalLock:
    """Optuna's own lock is a file, which a killed run leaves: the next one would wait for 30 s."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.held = ExitStack()

    def acquire(self) -> bool:
        self.held.enter_context(locked(self.journal, required=True))
        return True

    def release(self) -> None:
        self.held.close()


def _cut_torn_line(journal: Path, lock: _JournalLock) -> None:
    """A full disk leaves half a line; with another line behind it the journal would be unreadable.

    No trial is lost: a line is told of only after it is written whole.
    """
    lock.acquire()
    try:
        with journal.open("r+b") as file:
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
    finally:
        lock.release()

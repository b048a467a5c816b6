"""Command line: the flags are read, one command runs, an error becomes an exit status.

The modules of the commands import nothing heavy until they run, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from pairfuse import __version__
from pairfuse.commands import (
    ablate,
    cache,
    check_data,
    compare,
    demo,
    encoders,
    features,
    help,
    matrix,
    predict,
    report,
    run,
    train,
    tune,
)
from pairfuse.commands.flags import Subparsers
from pairfuse.console import OutputClosedError, log, note, start_logging
from pairfuse.errors import PairfuseError
from pairfuse.threads import sleep_while_waiting


class Command(Protocol):
    """What a module of a command holds."""

    def add_parser(self, commands: Subparsers) -> None:
        """Add the command with its flags, and `run` as what it runs."""

    def run(self, parsed: argparse.Namespace) -> None:
        """Do what the flags ask for."""


#: Every command, in the order of --help.
COMMANDS: dict[str, Command] = {
    "run": run,
    "demo": demo,
    "check-data": check_data,
    "features": features,
    "tune": tune,
    "train": train,
    "ablate": ablate,
    "predict": predict,
    "report": report,
    "matrix": matrix,
    "compare": compare,
    "encoders": encoders,
    "cache": cache,
    "help": help,
}

#: What a user can mend: a full or closed disk, or a name that cannot be.
UNWRITABLE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
        *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
    }
)


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, 1 after an error line, 2 after wrong usage, 130 after an interrupt, 143
        after SIGTERM.
    """
    try:
        with _terminable():
            parsed = build_parser().parse_args(arguments)
            start_logging(verbose=parsed.verbose)
            _prepare_process()
            parsed.run(parsed)
    except PairfuseError as error:
        note(f"error: {error}")
        return 1
    except KeyboardInterrupt as stop:
        note("stopped; finished work is kept, and the same command continues from there")
        return 143 if isinstance(stop, Terminated) else 130
    except OutputClosedError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        log.info("out of memory", exc_info=True)
        note(
            f"error: the memory is not enough{f' ({error})' if str(error) else ''}; finished work "
            "is kept: use fewer pairs or encoders, --batch-size 1, or --set data.max_pixels=..."
        )
        return 1
    except OSError as error:
        if error.errno is None:  # no answer of the system: a bug
            raise
        log.info("the system's error", exc_info=True)
        note(f"error: {_system_words(error)}")
        return 1
    return 0


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a command as an interrupt does; a second one ends it at once.

    Left alone where it is ignored or has a handler, and outside the main thread, which takes it.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise Terminated


def _system_words(error: OSError) -> str:
    """What the system refused, by its own name, and what to do; nothing is taken for damaged."""
    reason = f"{error.strerror}, {errno.errorcode.get(error.errno or 0, error.errno)}"
    if error.errno in UNWRITABLE:
        return (
            f"cannot read or write {error.filename or 'the disk'} ({reason}); make room, see to "
            "its rights or name another place with --cache, then run again to resume"
        )
    return (
        f"the system failed at {error.filename or 'a file'} ({reason}); nothing was removed: run "
        "the command again, and look at the disk if it stays"
    )


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="pairfuse",
        description="Classify pairs of one text and one image: extract features once, train many "
        "times.",
    )
    parser.add_argument("--version", action="version", version=f"pairfuse {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        command.add_parser(commands)
    return parser


def _prepare_process() -> None:
    """Settings of this process, and of those it starts: quiet libraries, threads that sleep."""
    import warnings

    sleep_while_waiting()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)

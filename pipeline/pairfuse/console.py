"""Console: progress bars and notes go to stderr; results go to stdout or into files."""

from __future__ import annotations

import logging
import sys
import textwrap
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

log = logging.getLogger("pairfuse")


#: Columns of the screen that lines keep to.
WIDTH = 100
#: Seconds between two lines of progress where stderr is no terminal.
LINE_EVERY = 30.0


class OutputClosedError(Exception):
    """Whoever read stdout has stopped; no other pipe is meant."""


class Progress(Protocol):
    """Counts finished items."""

    def update(self, n: int = 1) -> object: ...


@contextmanager
def progress(title: str, total: int, *, unit: str = "pairs") -> Iterator[Progress]:
    """A bar on stderr; where that is no terminal but a log, a line now and then."""
    if not sys.stderr.isatty():
        yield _ProgressLines(title, total, unit)
        return
    from tqdm import tqdm

    with tqdm(
        total=total,
        desc=f"{title:<22}",
        unit=f" {unit}",
        leave=False,
        dynamic_ncols=True,
        smoothing=0.05,
    ) as bar:
        yield bar


class _ProgressLines:
    """Says how far a long piece of work is; a short one ends before it has said anything."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit = title.strip(), total, unit
        self.count = 0
        self.start = self.told = time.monotonic()

    def update(self, n: int = 1) -> None:
        self.count += n
        now = time.monotonic()
        if now - self.told >= LINE_EVERY:
            self.told = now
            note(
                f"{self.title}: {self.count} of {self.total} {self.unit}, "
                f"{now - self.start:.0f} s so far"
            )


def say(text: str = "") -> None:
    """One result line for the person who ran the command.

    Raises:
        OutputClosedError: Nobody reads on, as after `| head`.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError as error:
        raise OutputClosedError from error


def columns(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """Align the cells of a table, two blanks between its columns.

    Args:
        rows: All of the same length; a heading is a row like any other.
        right: Columns of numbers, which end at their right edge.

    Returns:
        One line for each row, without blanks at its end.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def wrapped(text: str, *, indent: str = "") -> list[str]:
    """The lines of a sentence on the screen; all but the first begin with `indent`."""
    return textwrap.wrap(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def note(text: str) -> None:
    """One line about how the work goes, beside the results."""
    print(text, file=sys.stderr, flush=True)


def start_logging(*, verbose: bool) -> None:
    """Send the package's log to stderr: warnings always, details when asked for."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO if verbose else logging.WARNING)
    log.propagate = False

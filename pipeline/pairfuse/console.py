"""Console: progress bars and notes go to stderr; results go to stdout or into files."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

log = logging.getLogger("pairfuse")


class Progress(Protocol):
    """Counts finished items."""

    def update(self, n: int = 1) -> object: ...

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> object: ...


@contextmanager
def progress(title: str, total: int, *, unit: str = "pairs") -> Iterator[Progress]:
    """A bar on stderr, drawn only where stderr is a terminal."""
    from tqdm import tqdm

    with tqdm(
        total=total,
        desc=f"{title:<22}",
        unit=f" {unit}",
        disable=None,
        leave=False,
        dynamic_ncols=True,
        smoothing=0.05,
    ) as bar:
        yield bar


def say(text: str = "") -> None:
    """One result line for the person who ran the command."""
    print(text, flush=True)


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

"""`pairfuse compare`: test two runs, or two files of predictions by any program, in pairs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pairfuse.commands.flags import Subparsers, add_command
from pairfuse.console import say, wrapped

if TYPE_CHECKING:
    from pairfuse.stats.compare import ModelComparison


def add_parser(commands: Subparsers) -> None:
    """Add the command with its flags."""
    about = "test two runs, or two files of predictions, in pairs"
    command = add_command(commands, "compare", about, run)
    for name in ("first", "second"):
        command.add_argument(name, metavar="RUN", help="run, run/arm or a CSV of guid, tag, ...")
    command.add_argument(
        "--truth", type=Path, metavar="FILE", help="guid,tag,group that a CSV lacks"
    )
    command.add_argument(
        "--cache", type=Path, default=Path("cache"), metavar="FOLDER", help="where the runs are"
    )


def run(parsed: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    compare(parsed.first, parsed.second, truth=parsed.truth, cache=parsed.cache)


def compare(
    first: str, second: str, *, truth: Path | None = None, cache: Path = Path("cache")
) -> ModelComparison:
    """Test two runs, or two files of predictions, on the pairs that both answer."""
    from dataclasses import replace

    from pairfuse.commands.run_folder import find_predictions
    from pairfuse.stats.compare import compare_predictions
    from pairfuse.stats.predictions import load_predictions

    named = [
        replace(load_predictions(find_predictions(cache, name), truth), name=name)
        for name in (first, second)
    ]
    found = compare_predictions(*named, seed=0)
    for line in str(found).splitlines():
        for part in wrapped(line, indent="  ") or [""]:
            say(part)
    return found

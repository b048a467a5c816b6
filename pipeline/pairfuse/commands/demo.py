"""`pairfuse demo`: draw a data set whose truth is known."""

from __future__ import annotations

import argparse
from pathlib import Path

from pairfuse.commands.flags import Subparsers, add_command
from pairfuse.console import say

DEMO = Path("data/demo")


def add_parser(commands: Subparsers) -> None:
    """Add the command with its flags."""
    command = add_command(commands, "demo", "draw a data set of known truth", run)
    command.add_argument("folder", nargs="?", type=Path, default=DEMO)
    command.add_argument(
        "--world",
        default="mixed",
        metavar="NAME",
        help="where the label comes from: mixed, text, image, added or interaction",
    )
    command.add_argument(
        "--noise", type=float, default=0.0, metavar="SHARE", help="labels drawn again at random"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same files")


def run(parsed: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    demo(parsed.folder, world=parsed.world, noise=parsed.noise, seed=parsed.seed)


def demo(root: Path = DEMO, *, world: str = "mixed", noise: float = 0.0, seed: int = 0) -> None:
    """Draw the demo data set, unless it is there."""
    from pairfuse.data.demo import draw_demo

    if (root / "train.txt").is_file():
        say(f"demo      {root} exists already; nothing was drawn")
        return
    draw_demo(root, world=world, noise=noise, seed=seed)
    say(f"demo      drawn into {root}")

"""`pairfuse encoders`: list the encoders that have a name."""

from __future__ import annotations

import argparse
import json

from pairfuse.commands.flags import Subparsers, add_command
from pairfuse.console import say


def add_parser(commands: Subparsers) -> None:
    """Add the command with its flags."""
    command = add_command(commands, "encoders", "list the encoders that have a name", run)
    command.add_argument("--json", action="store_true", help="print JSON")


def run(parsed: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    encoders(as_json=parsed.json)


def encoders(*, as_json: bool = False) -> None:
    """Print the table of encoders; nothing is loaded and no server is asked."""
    from pairfuse.encoders.listing import list_encoders, table_lines

    listed = list_encoders()
    if as_json:
        say(json.dumps([each.as_dict() for each in listed], indent=2))
        return
    for line in table_lines(listed):
        say(line)

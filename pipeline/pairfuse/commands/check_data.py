"""`pairfuse check-data`: say what a data set holds and what is wrong with it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pairfuse.commands.flags import Subparsers, add_configured, workspace_of
from pairfuse.console import say

if TYPE_CHECKING:
    from pairfuse.commands.workspace import Workspace
    from pairfuse.data.profile import Profile


def add_parser(commands: Subparsers) -> None:
    """Add the command with its flags."""
    about = "say what the data set holds and what is wrong with it"
    add_configured(commands, "check-data", about, run)


def run(parsed: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    check_data(workspace_of(parsed))


def check_data(workspace: Workspace) -> Profile:
    """Say what the data set holds; write the manifest and the plots."""
    from pairfuse.data.profile import profile, summary, write_manifest
    from pairfuse.report.plots import plot_data_check

    dataset = workspace.first_look
    found = profile(dataset)
    manifest, plot = workspace.folder / "manifest.csv", workspace.folder / "data.png"
    write_manifest(dataset, manifest)
    plot_data_check(found, dataset, plot)
    say(summary(found))
    say(f"\nwrote {manifest} and {plot}")
    return found

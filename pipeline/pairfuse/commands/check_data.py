"""`pairfuse check-data`: say what a data set holds and what is wrong with it."""

from __future__ import annotations

import argparse
from textwrap import wrap
from typing import TYPE_CHECKING

from pairfuse.commands.flags import Subparsers, add_configured, workspace_of
from pairfuse.console import say

if TYPE_CHECKING:
    from pairfuse.commands.workspace import Workspace
    from pairfuse.data.pairs import Dataset
    from pairfuse.data.profile import Profile


def add_parser(commands: Subparsers) -> None:
    """Add the command with its flags."""
    about = "say what the data set holds and what is wrong with it"
    add_configured(commands, "check-data", about, run)


def run(parsed: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    check_data(workspace_of(parsed))


def check_data(workspace: Workspace) -> Profile:
    """Say what the data set holds; write the manifest and the plots.

    Raises:
        ConfigError: The run folder that they would lie in is of other data.
    """
    from pairfuse.data.profile import profile, summary, write_manifest
    from pairfuse.report.canvas import save_png
    from pairfuse.report.data_check import plot_data_check

    workspace.check_run()
    dataset = workspace.first_look
    found = profile(dataset)
    manifest, plot = workspace.folder / "manifest.csv", workspace.folder / "data.png"
    write_manifest(dataset, manifest)
    save_png(plot_data_check(found, dataset), plot)
    say(summary(found))
    for line in _rare_lines(dataset, workspace.config.study.folds):
        say(line)
    say(f"\nwrote {manifest} and {plot}")
    return found


def _rare_lines(dataset: Dataset, folds: int) -> list[str]:
    """All labels that have too few pairs for the folds, and what can be done; else nothing."""
    from pairfuse.data.rare_labels import advice, different_pairs, pairs_needed, rare_labels

    counts = different_pairs(dataset)
    if len(counts) < 2:
        return ["", f"one label ({', '.join(counts)}): a classifier needs two or more"]
    rare = rare_labels(counts, folds)
    if not rare:
        return []
    named = ", ".join(f"{label} {count}" for label, count in rare.items())
    head = (
        f"{len(rare)} of {len(counts)} labels have fewer than the {pairs_needed(folds)} different "
        f"pairs that {folds} folds need: {named}"
    )
    return ["", *wrap(head, 100), *wrap(f"what can be done: {advice(rare, folds)}", 100)]

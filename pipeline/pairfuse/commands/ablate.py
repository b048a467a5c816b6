"""`pairfuse ablate`: does the image help? Every arm on the same folds, paired tests, a verdict."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pairfuse.commands.flags import Subparsers, add_configured, workspace_of
from pairfuse.commands.train import build_checkpoint
from pairfuse.console import say

if TYPE_CHECKING:
    from pairfuse.commands.workspace import Workspace
    from pairfuse.study.ablation import KnownFits
    from pairfuse.study.evidence import Evidence


def add_parser(commands: Subparsers) -> None:
    """Add the command with its flags."""
    about = "does the image help? all arms, paired tests, the verdict"
    add_configured(commands, "ablate", about, run, ["features", "study"])


def run(parsed: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    ablate(workspace_of(parsed))


def ablate(workspace: Workspace, *, known: KnownFits | None = None) -> Evidence:
    """Compare all arms under the same folds and the same budget; say whether the image helps.

    Args:
        known: What training fitted on the whole table, which is not repeated.
    """
    from pairfuse.commands.run_folder import (
        drop_evidence,
        write_ablation,
        write_evidence,
        write_predictions,
    )
    from pairfuse.fusion.checkpoint import save_checkpoint
    from pairfuse.report.canvas import save_png
    from pairfuse.report.findings import plot_arms
    from pairfuse.study.ablation import TEXT_ONLY, run_arms
    from pairfuse.study.evidence import evidence_lines, gather

    workspace.begin()
    folder = workspace.folder
    drop_evidence(folder)
    arms = run_arms(
        workspace.folded,
        workspace.search,
        nested=workspace.config.study.nested,
        ensemble=workspace.config.study.ensemble,
        known=known,
    )
    found = gather(
        arms,
        workspace.table,
        workspace.prepared,
        study=workspace.config.study,
        texts=[pair.text for pair in workspace.dataset.split("train", "val")],
        encoders=workspace.encoder_costs(),
    )
    text_only = next(arm for arm in arms if arm.name == TEXT_ONLY)
    assert text_only.fit is not None
    scores = next(arm.scores for arm in found.arms if arm.name == TEXT_ONLY).as_dict()
    save_checkpoint(folder / TEXT_ONLY, build_checkpoint(workspace, text_only.fit, scores))
    write_ablation(folder, found)
    write_predictions(folder, arms, workspace.table)
    save_png(plot_arms(found.arms, "macro_f1"), folder / "ablation.png")
    write_evidence(folder, found)
    for line in evidence_lines(found):
        say(line)
    return found

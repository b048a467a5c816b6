"""`pairfuse tune`: search for the best recipes of the fused arm."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pairfuse.commands.flags import Subparsers, add_configured, workspace_of
from pairfuse.config import METRIC_NAMES
from pairfuse.console import say, wrapped

if TYPE_CHECKING:
    from pairfuse.commands.workspace import Workspace
    from pairfuse.recipe import Recipe
    from pairfuse.study.tuning import TuningResult


def add_parser(commands: Subparsers) -> None:
    """Add the command with its flags."""
    about = "search for the best recipe with Optuna; resumes"
    add_configured(commands, "tune", about, run, ["features", "study"])


def run(parsed: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    tune(workspace_of(parsed))


def tune(workspace: Workspace) -> TuningResult:
    """Search recipes for the fused arm; the best so far is always in best.toml."""
    from pairfuse.commands.run_folder import write_best
    from pairfuse.study import tuning
    from pairfuse.study.ablation import FUSED

    def keep(best: TuningResult) -> None:
        write_best(workspace.folder, best, workspace.resolved.features.encoders, workspace.metric)

    workspace.begin()
    best = tuning.tune(
        workspace.table, workspace.prepared, workspace.search, name=FUSED, on_trial=keep
    )
    keep(best)
    said = (
        f"tune      best trial: {METRIC_NAMES[workspace.metric]} {best.value:.3f}, mean over "
        f"{workspace.config.study.folds} folds ({best.finished} trials finished, {best.pruned} "
        f"stopped early); the best {len(best.recipes)} recipes:"
    )
    indent = " " * 10
    for line in (said, *(f"{indent}{_in_words(recipe)}" for recipe in best.recipes)):
        for part in wrapped(line, indent=indent):
            say(part)
    return best


def _in_words(recipe: Recipe) -> str:
    views = " + ".join(recipe.views)
    return (
        f"{recipe.head} head, hidden dimension {recipe.hidden_dim}, on {views}; "
        f"balance: {recipe.balance}"
    )

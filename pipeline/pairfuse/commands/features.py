"""Gathering: the stages before any training; torch is imported only if an encoder has work."""

from __future__ import annotations

from pathlib import Path

from pairfuse.commands.workspace import Workspace
from pairfuse.console import say
from pairfuse.data.demo import draw_demo
from pairfuse.data.profile import profile, summary, write_manifest
from pairfuse.report.canvas import save_png
from pairfuse.report.data_check import plot_data_check

DEMO = Path("data/demo")


def demo_stage(root: Path, *, world: str = "mixed", noise: float = 0.0, seed: int = 0) -> None:
    """Draw the demo data set, unless it is there."""
    if (root / "train.txt").is_file():
        say(f"demo      {root} is there already")
        return
    draw_demo(root, world=world, noise=noise, seed=seed)
    say(f"demo      drawn into {root}")


def check_data_stage(workspace: Workspace) -> None:
    """Say what the data set holds; write the manifest and the plots."""
    found = profile(workspace.dataset)
    manifest, plot = workspace.folder / "manifest.csv", workspace.folder / "data.png"
    write_manifest(workspace.dataset, manifest)
    save_png(plot_data_check(found, workspace.dataset), plot)
    say(summary(found))
    say(f"\nwrote {manifest} and {plot}")


def features_stage(workspace: Workspace) -> None:
    """Extract what the feature stores lack."""
    for store, result in workspace.extract(workspace.encoders):
        line = f"features  {result.encoder}: {len(store)} rows in the store, "
        if result.computed:
            line += (
                f"computed {result.computed} in {result.seconds:.1f} s "
                f"({result.per_second:.0f} pairs/s)"
            )
        else:
            line += f"all {result.cached} wanted are there, nothing computed"
        if workspace.config.features.tokens:
            line += f", {store.tokens} tokens" if store.token_dim else ", it gives no tokens"
        if result.truncated:
            line += (
                f", {result.truncated} texts cut at {workspace.config.features.max_length} tokens"
            )
        if result.failed:
            line += f", {len(result.failed)} could not be read"
        say(line)

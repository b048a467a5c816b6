"""`pairfuse features`: extract what the feature stores lack; torch is imported only for work."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pairfuse.commands.flags import Subparsers, add_configured, workspace_of
from pairfuse.console import say

if TYPE_CHECKING:
    from pairfuse.commands.workspace import Extracted, Workspace
    from pairfuse.features.extraction import Extraction
    from pairfuse.features.store import FeatureStore


def add_parser(commands: Subparsers) -> None:
    """Add the command with its flags."""
    about = "extract the features that the feature store lacks"
    add_configured(commands, "features", about, run, ["features"])


def run(parsed: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    features(workspace_of(parsed))


def features(workspace: Workspace) -> Extracted:
    """Bring the store of every encoder up to the whole data set."""
    extracted = workspace.extract(workspace.encoders, workspace.first_look.pairs)
    asked = workspace.config.features
    for store, result in zip(extracted.stores, extracted.results, strict=True):
        say(_line(store, result, tokens=asked.tokens, max_length=asked.max_length))
    return extracted


def _line(store: FeatureStore, result: Extraction, *, tokens: bool, max_length: int) -> str:
    parts = [f"features  {result.encoder}: {len(store)} rows in the store"]
    if result.computed:
        speed = f"{result.seconds:.1f} s ({result.per_second:.0f} pairs/s)"
        parts.append(f"computed {result.computed} in {speed}")
    else:
        parts.append(f"all {result.cached} rows needed are there, nothing computed")
    if tokens:
        parts.append(f"{store.tokens} tokens" if store.token_dim else "no tokens from this encoder")
    if result.truncated:
        parts.append(f"{result.truncated} texts cut at {max_length} tokens")
    if result.roomy_length:
        parts.append(f"95 % of the texts fit in --max-length {result.roomy_length}")
    if result.failed:
        parts.append(f"{len(result.failed)} could not be read and count as missing")
    return ", ".join(parts)

"""`pairfuse run`: the whole pipeline, from the data set to the report."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pairfuse.commands.ablate import ablate
from pairfuse.commands.demo import DEMO, demo
from pairfuse.commands.features import features
from pairfuse.commands.flags import Subparsers, add_configured, workspace_of
from pairfuse.commands.predict import predict
from pairfuse.commands.report import report
from pairfuse.commands.train import train
from pairfuse.commands.tune import tune
from pairfuse.console import say

if TYPE_CHECKING:
    from pairfuse.commands.workspace import Workspace
    from pairfuse.study.evidence import Evidence


@dataclass(frozen=True)
class RunResult:
    """What a run found, and where its labels and its report are."""

    evidence: Evidence
    labels: Path
    report: Path


def add_parser(commands: Subparsers) -> None:
    """Add the command with its flags."""
    about = "features, tune, train, ablate, predict, report"
    add_configured(commands, "run", about, run, ["features", "study"])


def run(parsed: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    run_pipeline(workspace_of(parsed))


def run_pipeline(workspace: Workspace) -> RunResult:
    """All commands in their order, then a summary; the demo data set is drawn if it is wanted."""
    from pairfuse.study.verdict import OUTCOMES

    if Path(workspace.config.data.root) == DEMO:
        demo(DEMO)
    workspace.check_labels()
    extracted = features(workspace)
    workspace = workspace.with_dataset(extracted.dataset)
    tune(workspace)
    trained = train(workspace)
    found = ablate(workspace, known=trained.known)
    labels = predict(workspace)
    page = report(workspace)
    say("")
    say(f"verdict   {OUTCOMES[found.verdict.outcome]}")
    say(f"labels    {labels}")
    say(f"report    {page}")
    say(f"run       {workspace.folder}")
    return RunResult(evidence=found, labels=labels, report=page)

"""`pairfuse report`: the evidence of a run as one HTML page that needs nothing beside it."""

from __future__ import annotations

import argparse
import json
import platform
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairfuse.commands.flags import Subparsers, add_configured, workspace_of
from pairfuse.config import METRIC_NAMES, config_toml
from pairfuse.console import log, say

if TYPE_CHECKING:
    from pairfuse.arrays import Floats
    from pairfuse.commands.workspace import Workspace
    from pairfuse.report.inputs import ReportInput

#: Libraries whose versions may change a score.
LIBRARIES = ("torch", "torchvision", "transformers", "numpy", "scikit-learn", "optuna", "h5py")
#: Axes of each view in the map of the pairs.
MAP_AXES = 32


def add_parser(commands: Subparsers) -> None:
    """Add the command with its flags."""
    about = "write the run's evidence as one HTML page"
    add_configured(commands, "report", about, run, ["features", "study"])


def run(parsed: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    report(workspace_of(parsed))


def report(workspace: Workspace) -> Path:
    """Write the page into the run folder; nothing is trained."""
    from pairfuse.report.page import write_report

    place = workspace.folder / "report.html"
    write_report(report_input(workspace), place)
    say(f"report    {place} ({place.stat().st_size / 2**20:.1f} MB)")
    return place


def report_input(workspace: Workspace) -> ReportInput:
    """All that the page shows, from the run folder, the data set and the study.

    Raises:
        DataError: No ablation was made.
    """
    from pairfuse.commands.run_folder import read_evidence, read_history, read_predictions
    from pairfuse.data.profile import profile, summary
    from pairfuse.report.inputs import ReportInput
    from pairfuse.study.ablation import FUSED
    from pairfuse.study.tuning import read_trials

    workspace.check_run()
    evidence = read_evidence(workspace.folder)
    table = workspace.table
    trials, importances = read_trials(
        table,
        workspace.prepared,
        workspace.search,
        name=FUSED,
    )
    if not trials and not evidence.design.nested:
        log.warning(
            "%s holds no trial of this run: the page has no section on tuning; "
            "`pairfuse tune` makes them again",
            workspace.search.storage,
        )
    arms = [arm.name for arm in evidence.arms]
    return ReportInput(
        title=workspace.folder.name,
        evidence=evidence,
        predictions={arm: read_predictions(workspace.folder, arm, table.guids) for arm in arms},
        pairs={pair.guid: pair for pair in workspace.dataset.split("train", "val")},
        history=read_history(workspace.folder / "history.csv"),
        trials=trials,
        metric=METRIC_NAMES[workspace.metric],
        importances=importances,
        fused_features=_map_features(workspace),
        targets=table.targets,
        data_check=summary(profile(workspace.dataset)),
        provenance=_provenance(workspace),
        bench=_bench(workspace.cache / "bench"),
        max_pixels=workspace.config.data.max_pixels,
        max_image_bytes=workspace.config.data.max_image_bytes,
    )


def _map_features(workspace: Workspace) -> Floats:
    """All views side by side, each on its first whitened axes, shape (N, D)."""
    import numpy as np

    from pairfuse.fusion.scaling import fit_scaling, narrow, scale

    views = workspace.table.views
    scaling = narrow(fit_scaling(views, seed=workspace.config.study.seed), MAP_AXES, 0.5)
    scaled = scale(views, scaling).features
    return np.concatenate([scaled[view] for view in sorted(scaled)], axis=1)


def _provenance(workspace: Workspace) -> dict[str, str]:
    """How the run was made: commands, versions, fingerprints, configuration."""
    from importlib import metadata

    from pairfuse.encoders import fingerprint

    versions = {name: metadata.version(name) for name in ("pairfuse", *LIBRARIES)}
    return {
        "Command": f"pairfuse ablate --config {shlex.quote(str(workspace.folder / 'config.toml'))}",
        "Versions": "\n".join(
            [f"python {platform.python_version()}", *(f"{n} {v}" for n, v in versions.items())]
        ),
        "Fingerprints": "\n".join(f"{e.name} {fingerprint(e)}" for e in workspace.encoders),
        "Configuration": config_toml(workspace.resolved),
    }


def _bench(folder: Path) -> dict[str, Any]:
    """What `make bench` left, by the name of its file; what cannot be read is left out."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
    return found

"""Pages: gathers what the report shows from the run folder, the data set and the study."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairfuse.commands.run_folder import predictions_path, read_evidence, read_history
from pairfuse.commands.workspace import Workspace
from pairfuse.config import METRIC_NAMES, config_toml
from pairfuse.data.profile import profile, summary
from pairfuse.encoders import fingerprint
from pairfuse.fusion.scaling import fit_scaling, narrow, scale
from pairfuse.report.inputs import ReportInput
from pairfuse.stats.predictions import load_predictions
from pairfuse.study.ablation import FUSED
from pairfuse.study.tuning import build_search, read_trials

#: Libraries whose versions may change a score.
LIBRARIES = ("torch", "torchvision", "transformers", "numpy", "scikit-learn", "optuna", "h5py")
#: Axes of each view in the map of the pairs.
MAP_AXES = 32


def report_input(workspace: Workspace) -> ReportInput:
    """All that the page shows; nothing is trained.

    Raises:
        DataError: No ablation was made.
    """
    evidence = read_evidence(workspace.folder)
    table = workspace.table
    trials, importances = read_trials(
        table,
        workspace.prepared,
        build_search(workspace.config, device=workspace.device),
        name=FUSED,
    )
    arms = [arm.name for arm in evidence.arms]
    return ReportInput(
        title=workspace.folder.name,
        evidence=evidence,
        predictions={
            arm: load_predictions(predictions_path(workspace.folder, arm)) for arm in arms
        },
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
    )


def _map_features(workspace: Workspace) -> NDArray[np.float32]:
    """All views side by side, each on its first whitened axes, shape (N, D)."""
    views = workspace.table.views
    scaling = narrow(fit_scaling(views, seed=workspace.config.study.seed), MAP_AXES, 0.5)
    scaled = scale(views, scaling).features
    return np.concatenate([scaled[view] for view in sorted(scaled)], axis=1)


def _provenance(workspace: Workspace) -> dict[str, str]:
    versions = {name: metadata.version(name) for name in ("pairfuse", *LIBRARIES)}
    study, data = workspace.config.study, workspace.config.data.root
    flags = f'--data {data} --encoders "{" ".join(workspace.config.features.encoders)}"'
    study_flags = (
        f"--folds {study.folds} --repeats {study.repeats} --n-models {study.n_models} "
        f"--trials {study.n_trials} --seed {study.seed}{' --nested' if study.nested else ''}"
        f"{f' --metric {study.metric}' if study.metric else ''}"
        f"{' --set study.ensemble=stacking' if study.ensemble == 'stacking' else ''}"
    )
    return {
        "Commands": "\n".join(
            [
                f"pairfuse features {flags}",
                *(f"pairfuse {name} {flags} {study_flags}" for name in ("tune", "train", "ablate")),
                f"pairfuse predict --data {data}",
                f"pairfuse report {flags} {study_flags}",
            ]
        ),
        "Versions": "\n".join(
            [f"python {platform.python_version()}", *(f"{n} {v}" for n, v in versions.items())]
        ),
        "Fingerprints": "\n".join(f"{e.name} {fingerprint(e)}" for e in workspace.encoders),
        "Configuration": config_toml(workspace.config),
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

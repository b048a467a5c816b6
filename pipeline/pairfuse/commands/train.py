"""`pairfuse train`: fit the best recipes on all folds and keep the models as one ensemble."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pairfuse.commands.flags import Subparsers, add_configured, workspace_of
from pairfuse.config import METRIC_NAMES
from pairfuse.console import say, wrapped

if TYPE_CHECKING:
    from pairfuse.commands.workspace import Workspace
    from pairfuse.fusion.checkpoint import Checkpoint
    from pairfuse.recipe import Recipe
    from pairfuse.stats.metrics import Scores
    from pairfuse.study.ablation import KnownFits
    from pairfuse.study.crossfit import CrossFit


@dataclass(frozen=True)
class TrainResult:
    """What was fitted, the mixture of it with its out-of-fold probabilities, the scores."""

    known: KnownFits
    fit: CrossFit
    scores: Scores


def add_parser(commands: Subparsers) -> None:
    """Add the command with its flags."""
    about = "fit the best recipe on all folds, keep the ensemble"
    add_configured(commands, "train", about, run, ["features", "study"])


def run(parsed: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    train(workspace_of(parsed))


def train(workspace: Workspace) -> TrainResult:
    """Fit the best recipes and the baselines on all folds; keep the best mixture of them."""
    from pairfuse.commands.run_folder import write_history
    from pairfuse.files import write_json
    from pairfuse.fusion.checkpoint import drop_checkpoint, save_checkpoint
    from pairfuse.report.canvas import save_png
    from pairfuse.report.curves import plot_history
    from pairfuse.stats.bootstrap import draw_groups, in_words
    from pairfuse.stats.metrics import score
    from pairfuse.study.ablation import (
        FUSED,
        KnownFits,
        baseline_arms,
        baseline_candidates,
        fit_recipes,
        mix_heads,
    )
    from pairfuse.study.mixture import shares_in_words
    from pairfuse.study.objective import objective_estimate

    workspace.begin()
    folder, metric, table = workspace.folder, workspace.metric, workspace.table
    data, seed = workspace.folded, workspace.config.study.seed
    recipes = _best_recipes(workspace)
    heads = fit_recipes(data, recipes, seed=seed, device=workspace.device)
    mixes = workspace.config.study.ensemble == "mixture"
    baselines = baseline_arms(data, seed=seed) if mixes else ()
    candidates = baseline_candidates(FUSED, data, baselines, seed=seed)
    fit, shares = mix_heads(data, heads, candidates)
    draws = draw_groups(table.groups, seed=seed)
    scores = score(table.targets, fit.probabilities, table.labels, draws)
    own = objective_estimate(table, fit.probabilities, scores, draws)
    histories = list(fit.histories)
    drop_checkpoint(folder / "model")  # scores of one training never lie beside another's model
    write_history(folder / "history.csv", histories)
    save_png(plot_history(histories), folder / "history.png")
    kept = scores.as_dict() | {"metric": metric, metric: asdict(own)}
    write_json(folder / "scores.json", kept)
    save_checkpoint(folder / "model", build_checkpoint(workspace, fit, kept))
    other = metric not in ("macro_f1", "accuracy")
    also = f", {METRIC_NAMES[metric]} {in_words(own)}" if other else ""
    said = (
        f"train     kept as one ensemble: {shares_in_words(shares)}; out-of-fold "
        f"macro-F1 {in_words(scores.macro_f1)}, accuracy {scores.accuracy.value:.3f}{also}"
    )
    for line in wrapped(said, indent=" " * 10):
        say(line)
    return TrainResult(known=KnownFits(recipes, heads, baselines), fit=fit, scores=scores)


def build_checkpoint(workspace: Workspace, fit: CrossFit, scores: Mapping[str, Any]) -> Checkpoint:
    """The ensemble with what its out-of-fold probabilities say about its confidence."""
    from pairfuse.encoders import fingerprint
    from pairfuse.fusion.checkpoint import Checkpoint
    from pairfuse.stats.conformal import fit_sets

    table, coverage = workspace.table, workspace.config.study.coverage
    temperature, threshold = fit_sets(fit.mean, table.targets, coverage, groups=table.groups)
    return Checkpoint(
        ensemble=fit.ensemble,
        fingerprints={encoder.name: fingerprint(encoder) for encoder in workspace.encoders},
        encoder_options=_encoder_options(workspace),
        scores=scores,
        temperature=temperature,
        set_threshold=threshold,
        coverage=coverage,
    )


def _best_recipes(workspace: Workspace) -> tuple[Recipe, ...]:
    """The tuned recipes, or the configured one where nothing was tuned."""
    from pairfuse.commands.run_folder import read_best

    path = workspace.folder / "best.toml"
    if path.is_file():
        return read_best(path, list(workspace.table.views.features))
    say(f"train     no {path}: training the default recipe (`pairfuse tune` finds a better one)")
    return (workspace.config.recipe,)


def _encoder_options(workspace: Workspace) -> dict[str, Any]:
    """What builds the same encoders again; `auto` is resolved, so that another device agrees."""
    features = workspace.resolved.features
    precisions = {encoder.made_from.get("precision", "fp32") for encoder in workspace.encoders}
    return {
        "encoders": list(features.encoders),
        "pooling": features.pooling,
        "max_length": features.max_length,
        "tokens": features.tokens,
        "truncation": features.truncation,
        "precision": max(precisions - {"fp32"}, default="fp32"),
    }

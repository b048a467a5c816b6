"""Stages: each is one command; it reads a workspace, writes into the run folder, says what it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from pairfuse.arrays import Bools
from pairfuse.commands.features import DEMO, demo_stage, features_stage
from pairfuse.commands.predict import answer, answer_cheaply, build_checkpoint, check_fits
from pairfuse.commands.report import report_input
from pairfuse.commands.run_folder import (
    drop_evidence,
    read_best,
    write_ablation,
    write_best,
    write_evidence,
    write_history,
    write_predictions,
)
from pairfuse.commands.workspace import Workspace
from pairfuse.config import METRIC_NAMES
from pairfuse.console import say
from pairfuse.files import write_csv, write_json
from pairfuse.fusion.checkpoint import drop_checkpoint, load_checkpoint, save_checkpoint
from pairfuse.recipe import Recipe
from pairfuse.report.canvas import save_png
from pairfuse.report.curves import plot_history
from pairfuse.report.findings import plot_arms
from pairfuse.report.page import write_report
from pairfuse.stats.bootstrap import draw_groups, in_words
from pairfuse.stats.metrics import Scores, score
from pairfuse.study.ablation import (
    FUSED,
    TEXT_ONLY,
    Arm,
    arm_views,
    baselines,
    fit_recipes,
    run_arm,
)
from pairfuse.study.crossfit import FoldedTable
from pairfuse.study.evidence import Evidence, evidence_lines, gather
from pairfuse.study.objective import objective_estimate
from pairfuse.study.tuning import TuningResult, build_search, tune
from pairfuse.study.verdict import OUTCOMES


def tune_stage(workspace: Workspace) -> TuningResult:
    """Search recipes for the fused arm; the best so far is always in best.toml."""
    workspace.begin()
    study, encoders = workspace.config.study, workspace.config.features.encoders
    best = tune(
        workspace.table,
        workspace.prepared,
        build_search(workspace.config, device=workspace.device),
        name=FUSED,
        on_trial=lambda found: write_best(workspace.folder, found, encoders, workspace.metric),
    )
    write_best(workspace.folder, best, encoders, workspace.metric)
    say(
        f"tune      best trial's {METRIC_NAMES[workspace.metric]} {best.value:.3f} "
        f"over {study.folds} folds "
        f"({best.finished} trials finished, {best.pruned} pruned); the best {len(best.recipes)}:"
    )
    for recipe in best.recipes:
        say(f"          {_in_words(recipe)}")
    return best


def train_stage(workspace: Workspace) -> Scores:
    """Fit the best recipes on all folds and keep the fold models as one ensemble."""
    workspace.begin()
    study, table = workspace.config.study, workspace.table
    recipes = _best_recipes(workspace)
    fit = workspace.fits[recipes] = fit_recipes(
        FoldedTable(table, workspace.prepared, workspace.stacked),
        recipes,
        seed=study.seed,
        device=workspace.device,
        stacking=study.ensemble == "stacking",
    )
    draws = draw_groups(table.groups, seed=study.seed)
    scores = score(table.targets, fit.probabilities, table.labels, draws)
    own = objective_estimate(table, fit.probabilities, scores, draws)
    histories = [member.model.history for member in fit.ensemble.members]
    drop_checkpoint(
        workspace.folder / "model"
    )  # scores of one training never lie beside another's model
    write_history(workspace.folder / "history.csv", histories)
    save_png(plot_history(histories), workspace.folder / "history.png")
    kept = scores.as_dict() | {"metric": workspace.metric, workspace.metric: asdict(own)}
    write_json(workspace.folder / "scores.json", kept)
    save_checkpoint(workspace.folder / "model", build_checkpoint(workspace, fit, kept))
    other = workspace.metric not in ("macro_f1", "accuracy")
    also = f", {METRIC_NAMES[workspace.metric]} {in_words(own)}" if other else ""
    kind = "stacked ensemble" if fit.ensemble.final_estimator else "ensemble"
    say(
        f"train     {len(histories)} models kept as one {kind}; out-of-fold "
        f"macro-F1 {in_words(scores.macro_f1)}, accuracy {scores.accuracy.value:.3f}{also}"
    )
    return scores


def ablate_stage(workspace: Workspace) -> Evidence:
    """Compare all arms under the same folds and the same budget; say whether the image helps."""
    workspace.begin()
    drop_evidence(workspace.folder)
    arms = _run_arms(workspace)
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
    save_checkpoint(
        workspace.folder / TEXT_ONLY, build_checkpoint(workspace, text_only.fit, scores)
    )
    write_ablation(workspace.folder, found)
    write_predictions(workspace.folder, arms, workspace.table)
    save_png(plot_arms(found.arms, "macro_f1"), workspace.folder / "ablation.png")
    write_evidence(workspace.folder, found)
    for line in evidence_lines(found):
        say(line)
    return found


def predict_stage(workspace: Workspace, out: Path | None, *, cascade: bool = False) -> Path:
    """Label the test pairs with the trained ensemble.

    In a cascade the text-only ensemble answers where it is sure enough, and only the images of
    the other pairs are encoded.
    """
    checkpoint = load_checkpoint(workspace.folder / "model")
    pairs = workspace.dataset.split("test")
    labels = checkpoint.ensemble.labels
    check_fits(workspace, checkpoint, pairs)
    found = (answer_cheaply if cascade else answer)(workspace, checkpoint, pairs)
    y_pred = [labels[guess] for guess in found.probabilities.argmax(axis=1)]
    place = out or workspace.folder / "test_labels.csv"
    write_csv(place, ("guid", "tag"), [(p.guid, g) for p, g in zip(pairs, y_pred, strict=True)])
    write_csv(
        place.with_name("test_probabilities.csv"),
        ("guid", "tag", *(f"p_{label}" for label in labels), "set", "flags"),
        [
            (pair.guid, guess, *(f"{p:.6f}" for p in row), _set_words(labels, inside), flag)
            for pair, guess, row, inside, flag in zip(
                pairs, y_pred, found.probabilities, found.sets, found.flags, strict=True
            )
        ],
    )
    counts = ", ".join(f"{label} {y_pred.count(label)}" for label in labels)
    say(f"predict   {len(pairs)} labels in {place} ({counts})")
    return place


def report_stage(workspace: Workspace) -> Path:
    """The run's evidence as one HTML page that needs nothing beside it."""
    place = workspace.folder / "report.html"
    write_report(report_input(workspace), place)
    say(f"report    {place} ({place.stat().st_size / 2**20:.1f} MB)")
    return place


def run_stage(workspace: Workspace) -> None:
    """The whole pipeline, then a summary."""
    if Path(workspace.config.data.root) == DEMO:
        demo_stage(DEMO)
    features_stage(workspace)
    tune_stage(workspace)
    train_stage(workspace)
    found = ablate_stage(workspace)
    labels = predict_stage(workspace, None)
    page = report_stage(workspace)
    say("")
    say(f"verdict   {OUTCOMES[found.verdict.outcome]}")
    say(f"labels    {labels}")
    say(f"report    {page}")
    say(f"run       {workspace.folder}")


def _run_arms(workspace: Workspace) -> list[Arm]:
    """Every arm of the ablation; only the fused one keeps the views that the recipe names."""
    study = workspace.config.study
    search = build_search(workspace.config, device=workspace.device)
    data = FoldedTable(
        workspace.table,
        workspace.prepared,
        workspace.inner if study.nested else workspace.stacked,
    )
    other = replace(search, base=replace(search.base, views=()))
    arms = [
        run_arm(
            name,
            data.only(views),
            search if name == FUSED else other,
            nested=study.nested,
            stacking=study.ensemble == "stacking",
            known=workspace.fits if name == FUSED else {},
        )
        for name, views in arm_views(data.table).items()
    ]
    return arms + baselines(data.table, data.prepared)


def _best_recipes(workspace: Workspace) -> tuple[Recipe, ...]:
    """The tuned recipes, or the configured one where nothing was tuned."""
    path = workspace.folder / "best.toml"
    if path.is_file():
        return read_best(path, list(workspace.table.views.features))
    say(f"train     no {path}: taking the default recipe (`pairfuse tune` finds a better one)")
    return (workspace.config.recipe,)


def _set_words(labels: Sequence[str], inside: Bools) -> str:
    return " | ".join(label for label, there in zip(labels, inside, strict=True) if there)


def _in_words(recipe: Recipe) -> str:
    views = " + ".join(recipe.views)
    return f"{recipe.head} head of width {recipe.hidden_dim} on {views}, balance {recipe.balance}"

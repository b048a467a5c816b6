"""Stages: each is one command; it reads a job, writes into the run folder, says what it did."""

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
from pairfuse.commands.workspace import Job
from pairfuse.config import METRIC_NAMES
from pairfuse.console import say
from pairfuse.files import write_csv, write_json
from pairfuse.fusion.checkpoint import drop_checkpoint, load_checkpoint, save_checkpoint
from pairfuse.recipe import Recipe
from pairfuse.report.page import write_report
from pairfuse.report.plots import plot_arms, plot_history
from pairfuse.stats.bootstrap import draw_groups
from pairfuse.stats.metrics import Scores, score
from pairfuse.study.ablation import (
    FUSED,
    TEXT_ONLY,
    Arm,
    Budget,
    arm_views,
    baselines,
    fit_recipes,
    run_arm,
)
from pairfuse.study.evidence import Evidence, evidence_lines, gather, in_words
from pairfuse.study.objective import official
from pairfuse.study.tuning import SEARCHED, Tuned, tune
from pairfuse.study.verdict import Outcome

#: What the summary says of a verdict.
OUTCOMES: dict[Outcome, str] = {
    "helps": "the image helps",
    "does not help": "the image does not help",
    "cannot be told": "whether the image helps cannot be told from this many pairs",
}


def tune_stage(job: Job) -> Tuned:
    """Search recipes for the fused arm; the best so far is always in best.toml."""
    job.begin()
    study, encoders = job.config.study, job.config.features.encoders
    best = tune(
        job.table,
        job.prepared,
        job.config.recipe,
        storage=study.storage or str(job.folder / "study.log"),
        name=FUSED,
        trials=study.trials,
        seed=study.seed,
        members=study.members,
        heads=study.heads or SEARCHED,
        device=job.device,
        keep=lambda found: write_best(job.folder, found, encoders, job.metric),
    )
    write_best(job.folder, best, encoders, job.metric)
    say(
        f"tune      best trial's {METRIC_NAMES[job.metric]} {best.value:.3f} "
        f"over {study.folds} folds "
        f"({best.finished} trials finished, {best.pruned} pruned); the best {len(best.recipes)}:"
    )
    for recipe in best.recipes:
        say(f"          {_in_words(recipe)}")
    return best


def train_stage(job: Job) -> Scores:
    """Fit the best recipes on all folds and keep the fold models as one ensemble."""
    job.begin()
    study, table = job.config.study, job.table
    recipes = _best_recipes(job)
    fit = job.fits[recipes] = fit_recipes(
        table, job.prepared, recipes, seed=study.seed, device=job.device, stacked=job.stacked
    )
    draws = draw_groups(table.groups, seed=study.seed)
    scores = score(table.targets, fit.probabilities, table.labels, draws)
    own = official(table, fit.probabilities, scores, draws)
    histories = [member.model.history for member in fit.ensemble.members]
    drop_checkpoint(job.folder / "model")  # scores of one training never lie beside another's model
    write_history(job.folder / "history.csv", histories)
    plot_history(histories, job.folder / "history.png")
    kept = scores.as_dict() | {"metric": job.metric, job.metric: asdict(own)}
    write_json(job.folder / "scores.json", kept)
    save_checkpoint(job.folder / "model", build_checkpoint(job, fit, kept))
    other = job.metric not in ("macro_f1", "accuracy")
    also = f", {METRIC_NAMES[job.metric]} {in_words(own)}" if other else ""
    kind = "stack" if fit.ensemble.blend else "ensemble"
    say(
        f"train     {len(histories)} models kept as one {kind}; out-of-fold "
        f"macro-F1 {in_words(scores.macro_f1)}, accuracy {scores.accuracy.value:.3f}{also}"
    )
    return scores


def ablate_stage(job: Job) -> Evidence:
    """Compare all arms under the same folds and the same budget; say whether the image helps."""
    job.begin()
    drop_evidence(job.folder)
    arms = _run_arms(job)
    found = gather(
        arms,
        job.table,
        job.prepared,
        study=job.config.study,
        texts=[pair.text for pair in job.dataset.split("train", "val")],
        encoders=job.encoder_costs(),
    )
    text_only = next(arm for arm in arms if arm.name == TEXT_ONLY)
    assert text_only.fit is not None
    scores = found.scores_of(TEXT_ONLY).as_dict()
    save_checkpoint(job.folder / TEXT_ONLY, build_checkpoint(job, text_only.fit, scores))
    write_ablation(job.folder, found)
    write_predictions(job.folder, arms, job.table)
    plot_arms(
        [arm.name for arm in arms],
        [scores.macro_f1.value for scores in found.scores],
        [(scores.macro_f1.low, scores.macro_f1.high) for scores in found.scores],
        job.folder / "ablation.png",
    )
    write_evidence(job.folder, found)
    for line in evidence_lines(found):
        say(line)
    return found


def predict_stage(job: Job, out: Path | None, *, cascade: bool = False) -> Path:
    """Label the test pairs with the trained ensemble.

    In a cascade the text-only ensemble answers where it is sure enough, and only the images of
    the other pairs are encoded.
    """
    checkpoint = load_checkpoint(job.folder / "model")
    pairs = job.dataset.split("test")
    labels = checkpoint.ensemble.labels
    check_fits(job, checkpoint, pairs)
    found = (answer_cheaply if cascade else answer)(job, checkpoint, pairs)
    guesses = [labels[guess] for guess in found.probabilities.argmax(axis=1)]
    place = out or job.folder / "test_labels.csv"
    write_csv(place, ("guid", "tag"), [(p.guid, g) for p, g in zip(pairs, guesses, strict=True)])
    write_csv(
        place.with_name("test_probabilities.csv"),
        ("guid", "tag", *(f"p_{label}" for label in labels), "set", "flags"),
        [
            (pair.guid, guess, *(f"{p:.6f}" for p in row), _set_words(labels, inside), flag)
            for pair, guess, row, inside, flag in zip(
                pairs, guesses, found.probabilities, found.sets, found.flags, strict=True
            )
        ],
    )
    counts = ", ".join(f"{label} {guesses.count(label)}" for label in labels)
    say(f"predict   {len(pairs)} labels in {place} ({counts})")
    return place


def report_stage(job: Job) -> Path:
    """The run's evidence as one HTML page that needs nothing beside it."""
    place = job.folder / "report.html"
    write_report(report_input(job), place)
    say(f"report    {place} ({place.stat().st_size / 2**20:.1f} MB)")
    return place


def run_stage(job: Job) -> None:
    """The whole pipeline, then a summary."""
    if Path(job.config.data.root) == DEMO:
        demo_stage(DEMO)
    features_stage(job)
    tune_stage(job)
    train_stage(job)
    found = ablate_stage(job)
    labels = predict_stage(job, None)
    page = report_stage(job)
    say("")
    say(f"verdict   {OUTCOMES[found.verdict.outcome]}")
    say(f"labels    {labels}")
    say(f"report    {page}")
    say(f"run       {job.folder}")


def _run_arms(job: Job) -> list[Arm]:
    study, table, prepared = job.config.study, job.table, job.prepared
    budget = Budget(
        study.storage or str(job.folder / "study.log"),
        *(study.trials, study.members, study.seed, job.device, study.heads or SEARCHED),
    )
    arms = [
        run_arm(
            *(name, views, table, prepared),
            job.config.recipe if name == FUSED else replace(job.config.recipe, views=()),
            budget,
            inner=job.inner if study.nested else [],
            stacked=job.stacked,
            known=job.fits if name == FUSED else {},
        )
        for name, views in arm_views(table).items()
    ]
    return arms + baselines(table, prepared)


def _best_recipes(job: Job) -> tuple[Recipe, ...]:
    """The tuned recipes, or the configured one where nothing was tuned."""
    path = job.folder / "best.toml"
    if path.is_file():
        return read_best(path, list(job.table.views.features))
    say(f"train     no {path}: taking the default recipe (`pairfuse tune` finds a better one)")
    return (job.config.recipe,)


def _set_words(labels: Sequence[str], inside: Bools) -> str:
    return " | ".join(label for label, there in zip(labels, inside, strict=True) if there)


def _in_words(recipe: Recipe) -> str:
    views = " + ".join(recipe.views)
    return f"{recipe.head} head of width {recipe.width} on {views}, balance {recipe.balance}"

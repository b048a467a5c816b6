"""Stages: each is one command; it reads a job, writes into the run folder, says what it did."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pairfuse.console import say
from pairfuse.data.demo import draw_demo
from pairfuse.data.pairs import Pair
from pairfuse.data.profile import profile, summary, write_manifest
from pairfuse.encoders import build_encoders, fingerprint
from pairfuse.errors import CheckpointError, ConfigError
from pairfuse.features.table import Views
from pairfuse.files import write_csv, write_json, write_text
from pairfuse.fusion.checkpoint import (
    Checkpoint,
    drop_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from pairfuse.job import Job
from pairfuse.recipe import Recipe
from pairfuse.report.plots import plot_arms, plot_data_check, plot_history
from pairfuse.study.ablation import (
    FUSED,
    Arm,
    Difference,
    arm_views,
    compare_arms,
    fit_recipes,
    only_views,
    run_arm,
)
from pairfuse.study.metrics import Scores, score
from pairfuse.study.tuning import Tuned, tune

DEMO = Path("data/demo")


def demo_stage(root: Path) -> None:
    """Draw the demo data set, unless it is there."""
    if (root / "train.txt").is_file():
        say(f"demo      {root} is there already")
        return
    draw_demo(root)
    say(f"demo      drawn into {root}")


def check_data_stage(job: Job) -> None:
    """Say what the data set holds; write the manifest and the plots."""
    found = profile(job.dataset)
    manifest, plot = job.folder / "manifest.csv", job.folder / "data.png"
    write_manifest(job.dataset, manifest)
    plot_data_check(found, job.dataset, plot)
    say(summary(found))
    say(f"\nwrote {manifest} and {plot}")


def features_stage(job: Job) -> None:
    """Extract what the feature stores lack."""
    for store, result in job.extract(job.encoders):
        line = f"features  {result.encoder}: {len(store)} rows in the store, "
        if result.computed:
            line += (
                f"computed {result.computed} in {result.seconds:.1f} s "
                f"({result.per_second:.0f} pairs/s)"
            )
        else:
            line += f"all {result.cached} wanted are there, nothing computed"
        if result.truncated:
            line += f", {result.truncated} texts cut at {job.config.features.max_length} tokens"
        if result.failed:
            line += f", {len(result.failed)} could not be read"
        say(line)


def tune_stage(job: Job) -> Tuned:
    """Search recipes for the fused arm; the best so far is always in best.toml."""
    job.begin()
    study = job.config.study
    best = tune(
        job.table,
        job.prepared,
        job.config.recipe,
        storage=study.storage or str(job.folder / "study.log"),
        name=FUSED,
        trials=study.trials,
        seed=study.seed,
        members=study.members,
        device=job.device,
        keep=lambda found: _write_best(job, found),
    )
    _write_best(job, best)
    say(
        f"tune      best trial's macro-F1 {best.value:.3f} over {study.folds} folds "
        f"({best.finished} trials finished, {best.pruned} pruned); the best {len(best.recipes)}:"
    )
    for recipe in best.recipes:
        say(f"          {_in_words(recipe)}")
    return best


def train_stage(job: Job) -> Scores:
    """Fit the best recipes on all folds and keep the fold models as one ensemble."""
    job.begin()
    recipes = _read_best(job)
    fit = job.fits[recipes] = fit_recipes(
        job.table, job.prepared, recipes, seed=job.config.study.seed, device=job.device
    )
    table = job.table
    scores = score(
        table.targets, fit.guesses, table.groups, table.labels, seed=job.config.study.seed
    )
    histories = [member.model.history for member in fit.ensemble.members]
    drop_checkpoint(job.folder / "model")  # scores of one training never lie beside another's model
    _write_history(job.folder / "history.csv", histories)
    plot_history(histories, job.folder / "history.png")
    write_json(job.folder / "scores.json", scores.as_dict())
    checkpoint = Checkpoint(
        fit.ensemble, _fingerprints(job), _encoder_options(job), scores.as_dict()
    )
    save_checkpoint(job.folder / "model", checkpoint)
    say(
        f"train     {len(histories)} models kept as one ensemble; out-of-fold "
        f"{_score_words(scores)}, accuracy {scores.accuracy:.3f}"
    )
    return scores


def ablate_stage(job: Job) -> tuple[list[Arm], list[Difference]]:
    """Compare text-only, image-only and fused under the same folds and the same budget."""
    job.begin()
    study = job.config.study
    arms = []
    for name, views in arm_views(job.table).items():
        table, prepared = only_views(job.table, job.prepared, views)
        arms.append(
            run_arm(
                name,
                table,
                prepared,
                replace(job.config.recipe, views=()) if name != FUSED else job.config.recipe,
                storage=study.storage or str(job.folder / "study.log"),
                trials=study.trials,
                members=study.members,
                seed=study.seed,
                device=job.device,
                known=job.fits if name == FUSED else {},
            )
        )
    differences = compare_arms(arms, job.table, seed=study.seed)
    _write_ablation(job, arms)
    for line in ablation_lines(arms, differences):
        say(line)
    return arms, differences


def predict_stage(job: Job, out: Path | None) -> Path:
    """Label the test pairs with the trained ensemble."""
    checkpoint = load_checkpoint(job.folder / "model")
    pairs = job.dataset.split("test")
    labels = checkpoint.ensemble.labels
    _check_fits(job, checkpoint, pairs)
    views = _test_views(job, checkpoint, pairs)
    probabilities = checkpoint.ensemble.predict_proba(views)
    guesses = [labels[guess] for guess in probabilities.argmax(axis=1)]
    place = out or job.folder / "test_labels.csv"
    write_csv(place, ("guid", "tag"), [(p.guid, g) for p, g in zip(pairs, guesses, strict=True)])
    write_csv(
        place.with_name("test_probabilities.csv"),
        ("guid", "tag", *(f"p_{label}" for label in labels), "flags"),
        [
            (pair.guid, guess, *(f"{p:.6f}" for p in row), _flags(pair))
            for pair, guess, row in zip(pairs, guesses, probabilities, strict=True)
        ],
    )
    counts = ", ".join(f"{label} {guesses.count(label)}" for label in labels)
    say(f"predict   {len(pairs)} labels in {place} ({counts})")
    return place


def run_stage(job: Job) -> None:
    """The whole pipeline, then a summary."""
    if Path(job.config.data.root) == DEMO:
        demo_stage(DEMO)
    features_stage(job)
    tune_stage(job)
    train_stage(job)
    ablate_stage(job)
    labels = predict_stage(job, None)
    say("")
    say(f"labels    {labels}")
    say(f"plots     {job.folder / 'history.png'}, {job.folder / 'ablation.png'}")
    say(f"run       {job.folder}")


def ablation_lines(arms: Sequence[Arm], differences: Sequence[Difference]) -> list[str]:
    """The ablation as a table in words, for the screen."""
    labels = list(arms[0].scores.class_f1)
    head = f"{'ablate':<10}{'arm':<12}{'accuracy':>9}  {'macro-F1 (95 % interval)':<26}weighted"
    lines = [head + "".join(f"{label[:10]:>11}" for label in labels)]
    for arm in arms:
        scores = arm.scores
        per_class = "".join(f"{value:>11.3f}" for value in scores.class_f1.values())
        lines.append(
            f"{'':<10}{arm.name:<12}{scores.accuracy:>9.3f}  {_score_words(scores)[9:]:<26}"
            f"{scores.weighted_f1:>8.3f}{per_class}"
        )
    for found in differences:
        low, high = found.interval
        verdict = "beyond the noise" if low > 0 or high < 0 else "inside the noise"
        lines.append(
            f"{'':<10}fused less {found.other}: {found.value:+.3f} macro-F1 "
            f"({low:+.3f} to {high:+.3f}), {verdict}"
        )
    return lines


def _write_best(job: Job, best: Tuned) -> None:
    import tomli_w

    text = tomli_w.dumps(
        {
            "features": {"encoders": list(job.config.features.encoders)},
            "recipes": [asdict(recipe) for recipe in best.recipes],
        }
    )
    head = f"# best trial: mean macro-F1 {best.value:.4f}; trials finished: {best.finished}\n"
    write_text(job.folder / "best.toml", head + text)


def _read_best(job: Job) -> tuple[Recipe, ...]:
    """The tuned recipes, or the configured one where nothing was tuned."""
    path = job.folder / "best.toml"
    if not path.is_file():
        say(f"train     no {path}: taking the default recipe (`pairfuse tune` finds a better one)")
        return (job.config.recipe,)
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
        recipes = tuple(Recipe(**{**r, "views": tuple(r["views"])}) for r in found["recipes"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); run `pairfuse tune` again") from error
    absent = {view for recipe in recipes for view in recipe.views} - set(job.table.views.features)
    if absent:
        raise ConfigError(
            f"{path} was tuned with view {min(absent)}, which is not among --encoders; "
            f'name the same ones: --encoders "{" ".join(found["features"]["encoders"])}"'
        )
    return recipes


def _write_history(path: Path, histories: Sequence[Sequence[dict[str, float]]]) -> None:
    columns = list(histories[0][0])
    write_csv(
        path,
        ("model", *columns),
        [
            (model, *(f"{row[name]:.6g}" for name in columns))
            for model, rows in enumerate(histories)
            for row in rows
        ],
    )


def _write_ablation(job: Job, arms: Sequence[Arm]) -> None:
    labels = job.table.labels
    write_csv(
        job.folder / "ablation.csv",
        (
            *("arm", "views", "rows", "accuracy", "macro_f1", "macro_f1_low", "macro_f1_high"),
            *("weighted_f1", *(f"f1_{label}" for label in labels)),
        ),
        [
            (
                *(
                    arm.name,
                    " ".join(sorted({view for each in arm.recipes for view in each.views})),
                    arm.scores.rows,
                ),
                *(
                    f"{value:.4f}"
                    for value in (
                        arm.scores.accuracy,
                        arm.scores.macro_f1,
                        *arm.scores.macro_f1_interval,
                        arm.scores.weighted_f1,
                        *arm.scores.class_f1.values(),
                    )
                ),
            )
            for arm in arms
        ],
    )
    plot_arms(
        [arm.name for arm in arms],
        [arm.scores.macro_f1 for arm in arms],
        [arm.scores.macro_f1_interval for arm in arms],
        job.folder / "ablation.png",
    )
    _write_out_of_fold(job, arms)


def _write_out_of_fold(job: Job, arms: Sequence[Arm]) -> None:
    """Every arm's guess for every labelled pair, each from models that never saw the pair."""
    labels = job.table.labels
    columns = [[labels[guess] for guess in arm.fit.guesses] for arm in arms]
    truth = [labels[target] for target in job.table.targets]
    write_csv(
        job.folder / "out_of_fold.csv",
        ("guid", "tag", *(arm.name for arm in arms)),
        zip(job.table.guids, truth, *columns, strict=True),
    )


def _check_fits(job: Job, checkpoint: Checkpoint, pairs: Sequence[Pair]) -> None:
    labels = checkpoint.ensemble.labels
    found = {pair.label for pair in job.dataset.pairs if pair.label is not None}
    strange = sorted(found - set(labels))
    if strange:
        raise CheckpointError(
            f"the model knows the labels {', '.join(labels)}; {job.config.data.root} has "
            f"{strange[0]!r}: it is not the data set that the model was trained for"
        )
    if not pairs:
        raise CheckpointError(f"{job.config.data.root} has no test pair to predict")


def _test_views(job: Job, checkpoint: Checkpoint, pairs: Sequence[Pair]) -> Views:
    """Features by the encoders that the model was trained on, and by no others."""
    options = dict(checkpoint.encoder_options)
    encoders = build_encoders(options.pop("encoders"), **options, device=job.config.features.device)
    used = [encoder for encoder in encoders if encoder.name in checkpoint.ensemble.dims]
    for encoder in used:
        found, wanted = fingerprint(encoder), checkpoint.fingerprints[encoder.name]
        if found != wanted:
            raise CheckpointError(
                f"encoder {encoder.name} is not the one that the model was trained on "
                f"(fingerprint {found[:8]}, trained on {wanted[:8]}): its weights or settings "
                "changed; train again, or bring the old ones back"
            )
    return job.views(pairs, used)


def _flags(pair: Pair) -> str:
    if pair.text is None and pair.image is None:
        return "prior"
    missing = [name for name in ("text", "image") if getattr(pair, name) is None]
    return " ".join(f"no-{name}" for name in missing)


def _fingerprints(job: Job) -> dict[str, str]:
    return {encoder.name: fingerprint(encoder) for encoder in job.encoders}


def _encoder_options(job: Job) -> dict[str, Any]:
    """What builds the same encoders again; `auto` is resolved, so that another device agrees."""
    features = job.config.features
    precisions = {encoder.made_from.get("precision", "fp32") for encoder in job.encoders}
    return {
        "encoders": list(features.encoders),
        "pooling": features.pooling,
        "max_length": features.max_length,
        "precision": max(precisions - {"fp32"}, default="fp32"),
    }


def _score_words(scores: Scores) -> str:
    low, high = scores.macro_f1_interval
    return f"macro-F1 {scores.macro_f1:.3f} ({low:.3f} to {high:.3f})"


def _in_words(recipe: Recipe) -> str:
    views = " + ".join(recipe.views)
    return f"{recipe.head} head of width {recipe.width} on {views}, balance {recipe.balance}"

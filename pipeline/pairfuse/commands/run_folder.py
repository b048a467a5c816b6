"""Run folder: its files, written by one command and read by a later one."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pairfuse.config import METRIC_NAMES
from pairfuse.errors import ConfigError, DataError
from pairfuse.files import write_csv, write_json, write_text
from pairfuse.recipe import Recipe
from pairfuse.stats.predictions import Predictions, load_predictions
from pairfuse.study.ablation import FUSED, Arm
from pairfuse.study.crossfit import Table
from pairfuse.study.evidence import Evidence
from pairfuse.study.tuning import TuningResult

EVIDENCE, PREDICTIONS = "evidence.json", "predictions"
History = list[dict[str, float]]


def write_best(folder: Path, best: TuningResult, encoders: Sequence[str], metric: str) -> None:
    """The recipes of the best trials, as TOML."""
    import tomli_w

    text = tomli_w.dumps(
        {
            "features": {"encoders": list(encoders)},
            "recipes": [asdict(recipe) for recipe in best.recipes],
        }
    )
    value = f"mean {METRIC_NAMES[metric]} {best.value:.4f}"
    head = f"# best trial: {value}; trials finished: {best.finished}\n"
    write_text(folder / "best.toml", head + text)


def read_best(path: Path, views: Sequence[str]) -> tuple[Recipe, ...]:
    """The tuned recipes.

    Raises:
        ConfigError: The file cannot be read, or names a view that is not among `views`.
    """
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
        recipes = tuple(Recipe(**{**r, "views": tuple(r["views"])}) for r in found["recipes"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); run `pairfuse tune` again") from error
    absent = {view for recipe in recipes for view in recipe.views} - set(views)
    if absent:
        raise ConfigError(
            f"{path} was tuned with view {min(absent)}, which is not among --encoders; "
            f'name the same ones: --encoders "{" ".join(found["features"]["encoders"])}"'
        )
    return recipes


def write_history(path: Path, histories: Sequence[Sequence[Mapping[str, float]]]) -> None:
    """One row for each model and epoch."""
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


def read_history(path: Path) -> list[History]:
    """Epoch rows of each model; none where nothing was trained.

    Raises:
        DataError: It is damaged.
    """
    if not path.is_file():
        return []
    models: dict[str, History] = {}
    try:
        for row in csv.DictReader(io.StringIO(path.read_text("utf-8"), newline=""), strict=True):
            numbers = {name: float(row[name]) for name in row if name != "model"}
            models.setdefault(row["model"], []).append(numbers)
        if not models:
            raise ValueError("it has no rows")
    except (ValueError, LookupError, TypeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}); run `pairfuse train` again") from error
    return list(models.values())


def write_ablation(folder: Path, found: Evidence) -> None:
    """The table of arms as CSV."""
    labels = found.labels
    write_csv(
        folder / "ablation.csv",
        (
            *("arm", "views", "rows", "accuracy", "macro_f1", "macro_f1_low", "macro_f1_high"),
            *("weighted_f1", "auroc", "average_precision", "log_loss", "brier", "ece"),
            *(f"f1_{label}" for label in labels),
        ),
        [
            (
                *(arm.name, " ".join(arm.views), scores.rows),
                *(
                    f"{value:.4f}"
                    for value in (
                        scores.accuracy.value,
                        *(scores.macro_f1.value, scores.macro_f1.low, scores.macro_f1.high),
                        *(scores.weighted_f1.value, scores.auroc.value),
                        *(scores.average_precision.value, scores.log_loss.value),
                        *(scores.brier.value, scores.ece.value),
                        *(each.f1.value for each in scores.classes),
                    )
                ),
            )
            for arm, scores in [(arm, arm.scores) for arm in found.arms]
        ],
    )


def write_predictions(folder: Path, arms: Sequence[Arm], table: Table) -> None:
    """Every arm's prediction for every labelled pair, each from models that never saw the pair."""
    labels = table.labels
    truth = [labels[target] for target in table.targets]
    groups = table.groups.tolist()
    y_pred = []
    for arm in arms:
        mean = arm.probabilities.mean(axis=0)
        tags = [labels[best] for best in mean.argmax(axis=1)]
        y_pred.append(tags)
        write_csv(
            predictions_path(folder, arm.name),
            ("guid", "truth", "tag", "group", *(f"p_{label}" for label in labels)),
            [
                (guid, true, tag, group, *(f"{p:.6f}" for p in row))
                for guid, true, tag, group, row in zip(
                    table.guids, truth, tags, groups, mean, strict=True
                )
            ],
        )
    write_csv(
        folder / "out_of_fold.csv",
        ("guid", "group", "truth", *(arm.name for arm in arms)),
        zip(table.guids, groups, truth, *y_pred, strict=True),
    )


def predictions_path(folder: Path, arm: str) -> Path:
    """Where an arm's out-of-fold predictions lie."""
    return folder / PREDICTIONS / f"{arm}.csv"


def read_predictions(folder: Path, arm: str, guids: Sequence[str]) -> Predictions:
    """What `write_predictions` wrote for an arm, a row for each of these pairs.

    Raises:
        DataError: It is damaged, or is of other pairs.
    """
    path = predictions_path(folder, arm)
    again = "run `pairfuse ablate` again"
    try:
        found = load_predictions(path)
    except DataError as error:
        raise DataError(f"{error}; {again}") from error
    if set(found.guids) != set(guids):
        raise DataError(
            f"{path} has {len(found.guids)} rows that are not those of the {len(guids)} labelled "
            f"pairs; {again}"
        )
    return found


def find_predictions(cache: Path, name: str) -> Path:
    """The file that `pairfuse compare` means: a CSV, a run (its fused arm), or `<run>/<arm>`.

    Raises:
        DataError: It is none of them.
    """
    if name.endswith(".csv"):
        return Path(name)
    run, _, arm = name.partition("/")
    path = predictions_path(cache / "runs" / run, arm or FUSED)
    if run in ("", ".", "..") or "/" in arm or not path.is_file():
        raise DataError(
            f"no predictions of {name!r} below {cache / 'runs'}; give a run that was ablated, "
            "<run>/<arm>, or a CSV file with the columns guid and tag"
        )
    return path


def write_evidence(folder: Path, found: Evidence) -> None:
    """All that the report shows, as JSON; written last, so that it stands for a whole ablation."""
    write_json(folder / EVIDENCE, found.to_dict())


def drop_evidence(folder: Path) -> None:
    """What it was made from is about to change."""
    (folder / EVIDENCE).unlink(missing_ok=True)


def read_evidence(folder: Path) -> Evidence:
    """What `write_evidence` wrote.

    Raises:
        DataError: There is none, it is damaged, or it is of another version.
    """
    path = folder / EVIDENCE
    if not path.is_file():
        raise DataError(f"no {path}; run `pairfuse ablate` first")
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}); run `pairfuse ablate` again") from error
    return Evidence.from_dict(found, source=str(path))

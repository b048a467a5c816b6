"""Is the evidence right? Whole ablations of drawn worlds (tests/toys/worlds.py) of known truth.

python tests/bench/study_truth.py [--quick] [--processes 2] [--seed 0]

Every data set goes the way of `pairfuse ablate`: repeated folds, the same budget of trials for each
arm on these very folds, mixtures of heads and baselines, out-of-fold probabilities, paired
comparison, verdict (of the worlds' views alone: they have no raw texts). Measured are

- worlds without help of the image: how often the verdict is "helps";
- worlds with help: how often it is, where the true gain is the difference that the comparison says
  it can detect with 80 % power. A pilot finds, for each kind of world, the strength of the image at
  which the mean true gain is the mean detectable difference;
- in both: how often the 95 % intervals of the gain and of each arm's macro-F1 hold the truth;
- worlds where text and image add up or interact: how often EMAP tells which;
- samples of many classes (tests/toys/many_classes.py), predictions alone, with nothing trained: how
  often the interval of macro-F1 holds the truth, and what is said of two models that are alike.

The truth of a kind of world is the macro-F1 that models trained in the same way (search included)
have on fresh pairs, the mean over all other data sets of that kind. Printed and written to
`cache/study/truth.json`, with exact binomial intervals.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import beta

from pairfuse.arrays import Floats
from pairfuse.fusion.baselines import BASELINES
from pairfuse.fusion.fitting import prepare_rows
from pairfuse.recipe import Recipe
from pairfuse.stats.bootstrap import Estimate, draw_groups
from pairfuse.stats.metrics import class_f1, confusion, macro_f1, macro_f1_estimate
from pairfuse.stats.paired import Comparison, compare_all
from pairfuse.study.ablation import (
    FUSED,
    TEXT_ONLY,
    Arm,
    arm_views,
    baseline_arms,
    baseline_candidates,
    run_arm,
)
from pairfuse.study.crossfit import FoldedTable, Table
from pairfuse.study.emap import emap, interaction
from pairfuse.study.folds import make_folds
from pairfuse.study.tuning import SearchSpec
from pairfuse.study.verdict import find, outcome

sys.path.insert(0, str(Path(__file__).parents[1]))
from toys.many_classes import draw_sample
from toys.worlds import World, draw_world

FOLDS, N_MODELS, REPEATS, TRIALS = 5, 2, 2, 6
HEADS = ("concat", "late")
RESAMPLES, FRESH = 2000, 4000
#: Small, and trained to the end: unstable heads would be a study of underfitting.
BASE = Recipe(
    head="concat", hidden_dim=16, n_components=24, epochs=10, patience=6, batch_size=32, lr=1e-2
)
ARMS = (FUSED, TEXT_ONLY)
#: What rule 1 of the verdict chooses among.
OF_BOTH = (FUSED, *(name for name, plain in BASELINES.items() if plain.modality is None))
OF_TEXTS = (TEXT_ONLY, *(name for name, plain in BASELINES.items() if plain.modality == "text"))


@dataclass(frozen=True)
class Kind:
    """Worlds of one kind: their equations and how many pairs a data set has."""

    name: str
    world: World
    rows: int = 500


@dataclass(frozen=True)
class DataSet:
    """One data set to draw and to judge."""

    kind: Kind
    seed: int
    arms: tuple[str, ...] = ARMS
    with_emap: bool = False


#: What the text does and how the data are made; the image is set by each family.
TEXTS = (
    Kind("2 classes", World(added=1.0, text_strength=1.6)),
    Kind("2 classes, 3 : 1", World(added=1.0, text_strength=2.0, imbalance=3.0), 600),
    Kind("2, a tenth noise", World(added=1.0, text_strength=2.2, noise=0.1, image_width=24), 600),
    Kind("2, a fifth twins", World(added=1.0, text_strength=1.8, duplicates=0.2, text_width=8)),
    Kind("3 classes", World(classes=3, added=1.0, text_strength=2.2)),
    Kind("3 classes, 3 : 1", World(classes=3, added=1.0, text_strength=2.4, imbalance=3.0), 800),
    Kind("3, twins and noise", World(3, added=1.0, text_strength=2.6, noise=0.1, duplicates=0.1)),
    Kind("3, wide text", World(3, added=1.0, text_strength=2.4, text_width=24, image_width=8), 400),
)
#: Strengths of the image that the pilot tries.
TRIED = (0.8, 1.2, 1.6)


def without_help() -> list[Kind]:
    """The image is noise in half of the kinds; in the others it plainly shows a class at random."""
    out = []
    for number, kind in enumerate(TEXTS):
        shows = {"added": 0.0, "text": 1.0, "image_strength": 2.0}
        noise = {"image_strength": 0.0}
        out.append(replace(kind, world=replace(kind.world, **(shows if number % 2 else noise))))
    return out


#: Text and image are independent given the label: nothing but a sum can be learnt.
ADDED = (
    Kind("2 classes", World(added=1.0, text_strength=1.4, image_strength=1.4)),
    Kind("2, 3 : 1", World(added=1.0, text_strength=2.0, image_strength=1.4, imbalance=3.0)),
    Kind("3 classes", World(3, added=1.0, text_strength=1.8, image_strength=1.8, text_width=8)),
    Kind("3, noise", World(3, added=1.0, text_strength=2.4, image_strength=1.6, noise=0.1)),
)
#: Either modality alone is at chance, in some kinds but for a share that the text tells.
TOGETHER = (
    Kind("2 classes", World(interaction=1.0, text_strength=4.0, image_strength=4.0)),
    Kind("2, text too", World(2, 0.2, interaction=0.8, text_strength=5.0, image_strength=5.0), 700),
    Kind("3 classes", World(3, interaction=1.0, text_strength=5.0, image_strength=5.0), 600),
    Kind("3, text too", World(3, 0.2, interaction=0.8, text_strength=6.0, image_strength=6.0), 900),
)

#: Classes and rows of the samples of predictions, at least two rows for each class.
SAMPLES = [
    (classes, rows)
    for classes in (3, 16, 54, 99)
    for rows in (100, 400, 1000, 4000)
    if rows >= 2 * classes
]


def judge_sample(task: tuple[int, int, int]) -> dict[str, Any]:
    """Draw predictions of so many classes and rows by a seed; are the intervals right?"""
    classes, rows, seed = task
    drawn = draw_sample(classes, rows, seed=seed)
    draws = draw_groups(np.arange(rows), seed=seed, resamples=RESAMPLES)
    found = macro_f1_estimate(drawn.targets, drawn.y_pred[:1], drawn.num_classes, draws)
    sure = np.eye(drawn.num_classes, dtype=np.float32)
    arms = {name: sure[each][None] for name, each in zip("ab", drawn.y_pred, strict=True)}
    gap = compare_all(arms, drawn.targets, draws, seed=seed)[0].difference
    return {
        "classes": classes,
        "holds": found.low <= drawn.truth <= found.high,
        "no gain": gap.low <= 0 <= gap.high,
        "outcome": outcome(gap),
    }


def judge(task: DataSet) -> dict[str, Any]:
    """Draw one data set, run the ablation on it, and measure its models on fresh pairs."""
    torch.set_num_threads(1)
    world = replace(task.kind.world, number=task.seed)
    table = draw_world(world, task.kind.rows, seed=task.seed)
    fresh = draw_world(world, FRESH, seed=task.seed + 10**6)
    rows = make_folds(
        table.targets,
        table.groups,
        table.labels,
        folds=FOLDS,
        n_models=N_MODELS,
        repeats=REPEATS,
        seed=task.seed,
    )
    data = FoldedTable(table, prepare_rows(table.views, rows, seed=task.seed))
    views = arm_views(table)
    with tempfile.TemporaryDirectory() as folder:
        search = SearchSpec(
            base=BASE,
            storage=f"{folder}/study.log",
            n_trials=TRIALS,
            seed=task.seed,
            heads=HEADS,
        )
        plain = baseline_arms(data, seed=task.seed)
        arms = [
            run_arm(
                name,
                data.only(views[name]),
                search,
                candidates=baseline_candidates(name, data, plain, seed=task.seed),
            )
            for name in task.arms
        ]
    draws = draw_groups(table.groups, seed=task.seed, resamples=RESAMPLES)
    found: dict[str, Any] = {"truth": {arm.name: true_f1(arm, fresh) for arm in arms}}
    if task.with_emap:
        fit = arms[0].fit
        assert fit is not None
        projection = emap(table.views, fit.folds, data.prepared, seed=task.seed)
        gap = interaction(projection, table.targets, draws)
        return found | {"emap": asdict(gap), "interacts": gap.is_there}
    every = {arm.name: arm.probabilities for arm in (*arms, *plain)}
    comparisons = compare_all(every, table.targets, draws, seed=task.seed)
    first = comparisons[0]
    assert (first.first, first.second) == (FUSED, TEXT_ONLY)
    probabilities = {arm.name: arm.probabilities for arm in arms}
    scores = {
        name: asdict(macro_f1_estimate(table.targets, p.argmax(-1), world.classes, draws))
        for name, p in probabilities.items()
    }
    return found | {
        "gain": asdict(first.difference),
        "detectable": first.detectable,
        "outcome": outcome(rule_1(every, table, comparisons)),
        "scores": scores,
    }


def rule_1(every: dict[str, Floats], table: Table, comparisons: Sequence[Comparison]) -> Estimate:
    """The best arm of text and image minus the best of texts, as the verdict has it."""
    f1 = {
        name: np.mean([macro_f1(table.targets, y, len(table.labels)) for y in p.argmax(axis=-1)])
        for name, p in every.items()
    }
    best = [max(names, key=lambda name: f1[name]) for names in (OF_BOTH, OF_TEXTS)]
    return find(comparisons, *best)


def true_f1(arm: Arm, fresh: Table) -> float:
    """What the arm's folds score on fresh pairs, pooled over the folds of a repeat as always."""
    assert arm.fit is not None
    each = np.stack([ensemble.predict_proba(fresh.views) for ensemble in arm.fit.folds])
    classes = len(fresh.labels)
    folds = each.reshape(REPEATS, FOLDS, len(fresh.targets), classes)
    pooled = [
        sum(confusion(fresh.targets, y_pred, classes) for y_pred in repeat.argmax(axis=-1))
        for repeat in folds
    ]
    return float(class_f1(np.stack(pooled)).mean())


def judge_all(pool: Pool, tasks: Sequence[DataSet], title: str) -> dict[str, list[dict[str, Any]]]:
    """Found by the kinds' names."""
    start = time.perf_counter()
    out: dict[str, list[dict[str, Any]]] = {}
    for task, found in zip(tasks, pool.imap(judge, tasks), strict=True):
        out.setdefault(task.kind.name, []).append(found)
    print(f"{title}: {len(tasks)} data sets in {time.perf_counter() - start:.0f} s", flush=True)
    return out


def pilot(pool: Pool, kinds: Sequence[Kind], each: int, seed: int) -> list[Kind]:
    """The kinds with the image's strength at which the true gain is the detectable difference."""
    tasks = [
        DataSet(
            Kind(f"{kind.name} / {strength}", _with_image(kind, strength).world, kind.rows),
            seed + number,
        )
        for kind in kinds
        for strength in TRIED
        for number in range(each)
    ]
    found = judge_all(pool, tasks, "pilot")
    out = []
    for kind in kinds:
        ratios = []
        for strength in TRIED:
            results = found[f"{kind.name} / {strength}"]
            detectable = np.mean([result["detectable"] for result in results])
            ratios.append(np.mean([true_gain(result) for result in results]) / detectable)
        slope, start = np.polyfit(TRIED, ratios, 1)
        chosen = np.clip((1.0 - start) / slope, TRIED[0], TRIED[-1])
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(
            f"  {kind.name}: gain / detectable {shown} at {TRIED}, taken {chosen:.2f}", flush=True
        )
        out.append(_with_image(kind, float(chosen)))
    return out


def _with_image(kind: Kind, strength: float) -> Kind:
    return replace(kind, world=replace(kind.world, image_strength=strength))


def true_gain(found: dict[str, Any]) -> float:
    gain: float = found["truth"][FUSED] - found["truth"][TEXT_ONLY]
    return gain


def covered(found: Iterable[list[dict[str, Any]]], arm: str = "") -> tuple[int, int]:
    """How many intervals hold the truth, of an arm's macro-F1 or of the gain."""
    hits = total = 0
    for results in found:
        truths = np.array([r["truth"][arm] if arm else true_gain(r) for r in results])
        others = (truths.sum() - truths) / (len(truths) - 1)
        for result, truth in zip(results, others.tolist(), strict=True):
            interval = result["scores"][arm] if arm else result["gain"]
            hits += interval["low"] <= truth <= interval["high"]
            total += 1
    return hits, total


def share(hits: int, total: int) -> dict[str, float]:
    """A share with its exact 95 % interval (Clopper & Pearson 1934)."""
    low = beta.ppf(0.025, hits, total - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, total - hits) if hits < total else 1.0
    return {
        "hits": hits,
        "of": total,
        "share": hits / total,
        "low": float(low),
        "high": float(high),
    }


def count(found: dict[str, list[dict[str, Any]]], name: str, value: object) -> tuple[int, int]:
    every = [result for results in found.values() for result in results]
    return sum(result[name] == value for result in every), len(every)


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20 data sets of each, not 200")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    start, seed = time.perf_counter(), 10_000 * asked.seed
    kinds, each, tried = (2, 10, 3) if asked.quick else (len(TEXTS), 25, 4)
    os.environ["OMP_NUM_THREADS"] = "1"  # of each process
    with multiprocessing.get_context("spawn").Pool(asked.processes) as pool:
        helping = pilot(pool, TEXTS[:kinds], tried, seed + 5000)
        family = {
            "none": [DataSet(k, seed + n) for k in without_help()[:kinds] for n in range(each)],
            "help": [DataSet(k, seed + 1000 + n) for k in helping for n in range(each)],
        }
        for name, together in (("added", ADDED), ("interaction", TOGETHER)):
            family[name] = [
                DataSet(kind, seed + 2000 + n, (FUSED,), with_emap=True)
                for kind in together
                for n in range(each if not asked.quick else 5)
            ]
        found = {name: judge_all(pool, tasks, name) for name, tasks in family.items()}
        of_samples = [(*size, seed + n) for size in SAMPLES for n in range(4 * each)]
        samples = pool.map(judge_sample, of_samples, chunksize=1)
    rows = table_of(found) + table_of_samples(samples)
    gains = [result for results in found["help"].values() for result in results]
    summary = {
        "seconds": time.perf_counter() - start,
        "true_gain": float(np.mean([true_gain(result) for result in gains])),
        "detectable": float(np.mean([result["detectable"] for result in gains])),
        "strengths": {kind.name: kind.world.image_strength for kind in helping},
        "table": rows,
        "data_sets": found,
    }
    print_table(rows, summary)
    target = Path("cache/study/truth.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(summary, indent=1))


def table_of(found: dict[str, dict[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Rows of the printed table: what was counted, how often, and what it should be."""
    ablated = [*found["none"].values(), *found["help"].values()]
    counted = [
        ("no help: verdict helps", count(found["none"], "outcome", "helps"), "<= 5 %"),
        ("no help: verdict does not help", count(found["none"], "outcome", "does not help"), ""),
        ("help: verdict helps (power)", count(found["help"], "outcome", "helps"), "75 to 85 %"),
        ("help: verdict does not help", count(found["help"], "outcome", "does not help"), ""),
        ("interval of the gain holds it", covered(ablated), ">= 93 %"),
        ("  without help", covered(found["none"].values()), ""),
        ("  with help", covered(found["help"].values()), ""),
        *((f"interval of {arm} holds it", covered(ablated, arm), ">= 93 %") for arm in ARMS),
        ("EMAP: additive told", count(found["added"], "interacts", False), ">= 95 %"),
        ("EMAP: interaction told", count(found["interaction"], "interacts", True), ">= 95 %"),
    ]
    return [{"what": what, **share(*hits), "aim": aim} for what, hits, aim in counted]


def table_of_samples(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same for samples of many classes."""
    counted = []
    for classes in dict.fromkeys(each["classes"] for each in found):
        held = [each["holds"] for each in found if each["classes"] == classes]
        counted.append((f"macro-F1 of {classes} classes holds it", held, ">= 93 %"))
    counted += [
        ("models alike: gain holds 0", [each["no gain"] for each in found], ">= 93 %"),
        ("models alike: verdict helps", [each["outcome"] == "helps" for each in found], "<= 5 %"),
    ]
    return [
        {"what": what, **share(sum(hits), len(hits)), "aim": aim} for what, hits, aim in counted
    ]


def print_table(rows: Sequence[dict[str, Any]], summary: dict[str, Any]) -> None:
    print(f"\n{'':34}{'count':>12}{'share':>9}  95 % interval     aim")
    for row in rows:
        ends = f"{100 * row['low']:.1f} to {100 * row['high']:.1f} %"
        counts = f"{row['hits']} of {row['of']}"
        print(f"{row['what']:34}{counts:>12}{100 * row['share']:>7.1f} %  {ends:17} {row['aim']}")
    print(
        f"\nworlds with help: mean true gain {summary['true_gain']:.4f}, mean detectable "
        f"{summary['detectable']:.4f}; {summary['seconds']:.0f} s in all"
    )


if __name__ == "__main__":
    main()

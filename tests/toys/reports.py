"""Made-up results of a whole study: what a report is made from, of any size and shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pairfuse.arrays import Doubles
from pairfuse.data.pairs import Pair
from pairfuse.report.inputs import ReportInput
from pairfuse.stats.bootstrap import Estimate, draw_groups
from pairfuse.stats.calibration import calibration
from pairfuse.stats.cascade import Cascade, CascadePoint
from pairfuse.stats.conformal import conformal
from pairfuse.stats.metrics import score
from pairfuse.stats.paired import compare_all
from pairfuse.stats.predictions import Predictions
from pairfuse.stats.selective import selective_curve
from pairfuse.study.cost import ArmCost
from pairfuse.study.emap import Interaction
from pairfuse.study.evidence import ArmResult, Design, Evidence
from pairfuse.study.strata import (
    AGREEMENT,
    CLASS,
    CLUSTER,
    CONFIDENCE,
    CONTENT,
    LENGTH,
    Agreement,
    Stratum,
)
from pairfuse.study.verdict import Verdict

LABELS = ("negative", "neutral", "positive")
STRENGTH = {
    "fused": 2.1,
    "text-only": 1.6,
    "image-only": 1.3,
    "minilm": 1.5,
    "ngram": 1.2,
    "efficientnet-lite0": 1.3,
    "prior": 0.0,
    "majority": 0.0,
}
BASELINES = ("prior", "majority")
HOSTILE = (
    "<script>window.hacked=1;alert(1)</script>\"'>"
    '<img src=x onerror="window.hacked=2"> $\\frac{ \x00\u202e'
)


def made_up(
    rows: int = 60,
    *,
    labels: Sequence[str] = LABELS,
    arms: Sequence[str] = tuple(STRENGTH),
    pictures: Sequence[Path | None] = (None,),
    texts: Sequence[str | None] = ("a text",),
    seed: int = 0,
) -> ReportInput:
    """A study of this many pairs; pictures and texts are used in turns."""
    random = np.random.default_rng(seed)
    targets = random.choice(len(labels), rows, p=_shares(len(labels)))
    truth = [labels[target] for target in targets]
    guids = [str(n) for n in range(rows)]
    found = {}
    for arm in arms:
        logits = random.standard_normal((rows, len(labels)))
        logits[np.arange(rows), targets] += STRENGTH.get(arm, 1.0)
        odds = np.exp(logits)
        found[arm] = predictions(arm, guids, truth, labels, odds / odds.sum(1, keepdims=True))
    centres = random.standard_normal((len(labels), 24)) * 2
    return ReportInput(
        title="made-up",
        evidence=evidence(found, targets, labels, random),
        predictions=found,
        pairs={
            guid: Pair(
                guid, texts[at % len(texts)], pictures[at % len(pictures)], truth[at], "train"
            )
            for at, guid in enumerate(guids)
        },
        history=history(random, models=5 if rows < 500 else 45),
        trials=trials(random),
        importances={"lr": 0.5, "head": 0.3, "views": 0.15, "dropout": 0.05},
        fused_features=(centres[targets] + random.standard_normal((rows, 24))).astype(np.float32),
        targets=targets.astype(np.int64),
        data_check=f"made-up: {rows} pairs\n\nproblems\n       1  text: empty\n",
        provenance={
            "Command": "pairfuse run --data data/made-up --seed 0",
            "Configuration": 'seed = 0\n[features]\nencoders = ["minilm", "ngram"]\n',
            "fingerprints": "minilm 42757992\nngram 54104bba",
        },
    )


def predictions(
    name: str,
    guids: Sequence[str],
    truth: Sequence[str],
    labels: Sequence[str],
    probabilities: Doubles,
) -> Predictions:
    """One arm's out-of-fold predictions."""
    return Predictions(
        name=name,
        guids=tuple(guids),
        truth=tuple(truth),
        y_pred=tuple(labels[at] for at in probabilities.argmax(axis=1)),
        labels=tuple(labels),
        probabilities=probabilities,
        groups=None,
    )


def _shares(size: int) -> Doubles:
    odds = 1 / np.arange(1.0, size + 1)
    return np.asarray(odds / odds.sum())


def near(value: float, width: float = 0.02) -> Estimate:
    """An estimate."""
    return Estimate(float(value), float(value - width), float(value + width))


def evidence(
    found: Mapping[str, Predictions],
    targets: Any,
    labels: Sequence[str],
    random: np.random.Generator,
) -> Evidence:
    """What predictions give is computed from them; the rest is made up."""
    rows, folds = len(targets), np.arange(len(targets))[None] % 5
    draws = draw_groups(np.arange(rows), seed=0, resamples=30)
    arms = {name: np.float32(each.probabilities)[None] for name, each in found.items()}
    scores = {name: score(targets, each, labels, draws) for name, each in arms.items()}
    first = next(iter(arms.values()))
    fused = next(iter(scores.values()))
    return Evidence(
        labels=tuple(labels),
        design=Design(
            rows=rows,
            groups=rows - rows // 20,
            folds=5,
            repeats=3,
            n_models=3,
            n_trials=20,
            ensemble="average",
            nested=False,
            seed=0,
            resamples=10_000,
        ),
        verdict=Verdict(
            outcome="helps",
            sentences=(
                "With the image, macro-F1 is 0.060 higher than by the text alone (95 % interval "
                "0.044 to 0.075), on 4,000 pairs.",
                "The gain is largest where text and image alone disagree (+0.35 accuracy).",
            ),
            use=next(iter(arms)),
            best=next(iter(arms)),
            against="text-only",
        ),
        arms=tuple(
            ArmResult(
                name=name,
                views=() if name in BASELINES else ("minilm", "efficientnet-lite0"),
                heads=() if name in BASELINES else ("concat", "gated"),
                scores=scores[name],
                shares={} if name in BASELINES else {"concat": 0.75, "linear-fused": 0.25},
            )
            for name in arms
        ),
        comparisons=tuple(compare_all(arms, targets, draws, seed=0)),
        emap=Interaction(fused=near(0.617), additive=near(0.611), interaction=near(0.006, 0.004)),
        missing_modality={
            name: replace(fused, macro_f1=near(value))
            for name, value in {"nothing": 0.617, "image": 0.5517, "text": 0.413}.items()
        },
        strata=tuple(strata(labels, rows, random)),
        agreement=Agreement(both=0.48, only_text=0.18, only_image=0.14, neither=0.2),
        cost=tuple(costs(list(arms))),
        cascade=Cascade(
            threshold=0.62,
            saved=0.41,
            macro_f1=near(0.608),
            fused_macro_f1=near(0.617),
            curve=tuple(
                CascadePoint(0.3 + share / 2, 1 - share, 0.56 + 0.06 * share**0.4)
                for share in np.linspace(0, 1, 21).tolist()
            ),
        ),
        calibration=calibration(first, targets, folds, labels, draws),
        conformal=conformal(first, targets, np.arange(rows), folds, coverage=0.9),
        selective=tuple(selective_curve(first, targets)),
    )


def costs(names: Sequence[str]) -> list[ArmCost]:
    """What each arm takes; the baselines take nothing."""
    times = (14.1, 3.2, 11.0, 2.7, 0.5, 11.0, 0.0, 0.0)
    return [
        ArmCost(
            name=name,
            encode_ms=ms,
            parameters=210_000 + 1000 * at,
            encoder_parameters=22_700_000,
            gflops=0.4 * ms,
            peak_mib=740.0 + at,
            train_seconds=4.2 + at,
            cache_mib=22.4,
            device="cpu",
        )
        for at, (name, ms) in enumerate(zip(names, times, strict=False))
    ]


def strata(labels: Sequence[str], rows: int, random: np.random.Generator) -> list[Stratum]:
    """Kinds of pairs."""
    parts = {
        CLASS: list(labels),
        LENGTH: ["short (< 40 characters)", "medium (40 to 90)", "long (> 90 characters)"],
        CONFIDENCE: ["low (< 0.50)", "medium (0.50 to 0.80)", "high (> 0.80)"],
        CONTENT: ["text and image", "text only"],
        CLUSTER: [f"{n} ({rows // 6} pairs)" for n in range(1, 7)],
        AGREEMENT: ["agree", "disagree"],
    }
    return [
        Stratum(
            by=by,
            name=name,
            rows=rows // len(names),
            text_only=0.66,
            fused=0.7,
            difference=near(random.normal(0.03, 0.03), 0.03),
            p_holm=float(random.uniform() ** 4),
        )
        for by, names in parts.items()
        for name in names
    ]


def history(random: np.random.Generator, *, models: int) -> list[list[dict[str, float]]]:
    """Epoch rows of models that learn."""
    out = []
    for _ in range(models):
        decay = 0.55 ** np.arange(int(random.integers(8, 24)))
        noise = random.normal(0, 0.02, len(decay))
        out.append(
            [
                {
                    "epoch": float(at),
                    "train_loss": float(0.4 + 0.7 * d),
                    "train_accuracy": float(0.9 - 0.4 * d),
                    "train_macro_f1": float(0.88 - 0.5 * d),
                    "val_loss": float(0.65 + 0.45 * d + e),
                    "val_accuracy": float(0.7 - 0.3 * d + e),
                    "val_macro_f1": float(0.62 - 0.4 * d + e),
                }
                for at, (d, e) in enumerate(zip(decay, noise, strict=True))
            ]
        )
    return out


def trials(random: np.random.Generator, count: int = 20) -> list[dict[str, Any]]:
    """A search; every fifth trial was stopped early."""
    return [
        {
            "number": at,
            "value": float((0.4 if at % 5 == 4 else 0.6) + random.normal(0, 0.015)),
            "state": "pruned" if at % 5 == 4 else "complete",
            "params": {
                "views": ["efficientnet-lite0 minilm", "efficientnet-lite0 minilm ngram"][at % 2],
                "head": ["concat", "gated", "late", "projected"][at % 4],
                "hidden_dim": [64, 128, 256][at % 3],
                "lr": float(10 ** random.uniform(-4, -2)),
                "dropout": float(random.uniform(0, 0.6)),
                "balance": ["none", "weights", "smote"][at % 3],
            },
        }
        for at in range(count)
    ]


def without(found: ReportInput, *keys: str) -> ReportInput:
    """The same study with these parts of the evidence empty."""
    empty: dict[str, Any] = {"emap": None, "missing_modality": {}}
    gone = {key: empty.get(key, ()) for key in keys}
    return replace(found, evidence=replace(found.evidence, **gone))

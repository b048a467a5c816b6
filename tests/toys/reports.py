"""Made-up results of a whole study: what a report is made from, of any size and shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairfuse.data.pairs import Pair
from pairfuse.report.inputs import ReportInput

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
HOSTILE = (
    "<script>window.hacked=1;alert(1)</script>\"'>"
    '<img src=x onerror="window.hacked=2"> $\\frac{ \x00\u202e'
)


@dataclass(frozen=True)
class ToyPredictions:
    """One arm's out-of-fold predictions."""

    labels: Sequence[str]
    guids: Sequence[str]
    truth: Sequence[str]
    y_pred: Sequence[str]
    probabilities: NDArray[np.float32]


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
    guids = [str(n) for n in range(rows)]
    truth = [labels[target] for target in targets]
    predictions = {}
    for arm in arms:
        logits = random.standard_normal((rows, len(labels)))
        logits[np.arange(rows), targets] += STRENGTH.get(arm, 1.0)
        odds = np.exp(logits)
        found = (odds / odds.sum(1, keepdims=True)).astype(np.float32)
        y_pred = [labels[at] for at in found.argmax(1)]
        predictions[arm] = ToyPredictions(labels, guids, truth, y_pred, found)
    centres = random.standard_normal((len(labels), 24)) * 2
    return ReportInput(
        title="made-up",
        evidence=evidence(predictions, labels, random),
        predictions=predictions,
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
            "Commands": "pairfuse run --data data/made-up --seed 0",
            "Configuration": 'seed = 0\n[features]\nencoders = ["minilm", "ngram"]\n',
            "fingerprints": "minilm 42757992\nngram 54104bba",
        },
    )


def _shares(size: int) -> NDArray[np.float64]:
    odds = 1 / np.arange(1.0, size + 1)
    return np.asarray(odds / odds.sum())


def near(value: float, width: float = 0.02) -> dict[str, float]:
    """An estimate."""
    return {"value": float(value), "low": float(value - width), "high": float(value + width)}


def evidence(
    predictions: Mapping[str, ToyPredictions], labels: Sequence[str], random: np.random.Generator
) -> dict[str, Any]:
    """What evidence.json holds; scores are those of the predictions, the rest is made up."""
    names = list(predictions)
    rows = len(next(iter(predictions.values())).guids)
    arms = [
        {
            "name": name,
            "views": [] if name in ("prior", "majority") else ["minilm", "efficientnet-lite0"],
            "heads": [] if name in ("prior", "majority") else ["concat", "gated"],
            "scores": scores(found, labels),
        }
        for name, found in predictions.items()
    ]
    f1 = {arm["name"]: arm["scores"]["macro_f1"]["value"] for arm in arms}
    first = names[0]
    return {
        "format": 1,
        "labels": list(labels),
        "rows": rows,
        "groups": rows - rows // 20,
        "folds": 5,
        "repeats": 3,
        "n_models": 3,
        "n_trials": 20,
        "nested": False,
        "seed": 0,
        "resamples": 10000,
        "verdict": {
            "outcome": "helps",
            "words": "With the image, macro-F1 is 0.060 higher than by the text alone (95 % "
            "interval 0.044 to 0.075), on 4,000 pairs. It helps most where the text is unsure, "
            "and costs 11 ms a pair. Use the fused model.",
            "use": first,
        },
        "arms": arms,
        "comparisons": [
            {
                "first": one,
                "second": other,
                "difference": near(f1[one] - f1[other], 0.016),
                "mcnemar": 1e-7 if at % 3 else 0.21,
                "permutation": 1e-4,
                "holm": 2e-3 if at % 3 else 0.6,
                "detectable": 0.022,
                "pairs_needed": 830 + at if at % 4 else None,
            }
            for at, (one, other) in enumerate(
                (a, b) for i, a in enumerate(names) for b in names[i + 1 :]
            )
        ],
        "emap": {"fused": near(0.617), "additive": near(0.611), "interaction": near(0.006, 0.004)},
        "removal": {
            name: arms[0]["scores"] | {"macro_f1": near(value)}
            for name, value in {"nothing": 0.617, "image": 0.5517, "text": 0.413}.items()
        },
        "strata": strata(labels, rows, random),
        "agreement": {"both": 0.48, "only text": 0.18, "only image": 0.14, "neither": 0.2},
        "cost": [
            {
                "name": name,
                "encode_ms": ms,
                "parameters": 210_000 + 1000 * at,
                "encoder_parameters": 22_700_000,
                "gflops": 0.4 * ms,
                "peak_mib": 740.0 + at,
                "train_seconds": 4.2 + at,
                "cache_mib": 22.4,
                "device": "cpu",
            }
            for at, (name, ms) in enumerate(
                zip(names, (14.1, 3.2, 11.0, 2.7, 0.5, 11.0, 0, 0), strict=False)
            )
        ],
        "cascade": {
            "threshold": 0.62,
            "saved": 0.41,
            "cascade": near(0.608),
            "fused": near(0.617),
            "curve": [
                {
                    "threshold": 0.3 + share / 2,
                    "saved": 1 - share,
                    "macro_f1": 0.56 + 0.06 * share**0.4,
                }
                for share in np.linspace(0, 1, 21).tolist()
            ],
        },
        "calibration": {
            "temperature": 1.31,
            "before": {"ece": 0.061, "log_loss": 0.75},
            "after": {"ece": 0.018, "log_loss": 0.71},
            "reliability": reliability(0.0),
        },
        "conformal": {
            "coverage": 0.9,
            "threshold": 0.83,
            "achieved": 0.903,
            "mean_size": 1.62,
            "sizes": {"0": 0.0, "1": 0.49, "2": 0.38, "3": 0.13},
        },
        "abstention": [
            {"answered": share, "accuracy": 0.95 - 0.25 * share, "macro_f1": 0.9 - 0.28 * share}
            for share in np.linspace(0.05, 1, 20).tolist()
        ],
    }


def scores(found: ToyPredictions, labels: Sequence[str]) -> dict[str, Any]:
    """Scores as the study writes them; the intervals are made up."""
    place = {label: at for at, label in enumerate(labels)}
    matrix = np.zeros((len(labels), len(labels)))
    for truth, guess in zip(found.truth, found.y_pred, strict=True):
        matrix[place[truth], place[guess]] += 1
    hits, total = np.diag(matrix), matrix.sum()
    precision = hits / np.maximum(matrix.sum(0), 1)
    recall = hits / np.maximum(matrix.sum(1), 1)
    f1 = 2 * hits / np.maximum(matrix.sum(0) + matrix.sum(1), 1)
    return {
        "rows": int(total),
        "accuracy": near(hits.sum() / total),
        "macro_f1": near(f1.mean()),
        "weighted_f1": near((f1 * matrix.sum(1)).sum() / total),
        "auroc": near(0.8),
        "average_precision": near(0.7),
        "log_loss": near(0.75),
        "brier": near(0.42),
        "ece": near(0.061),
        "classes": [
            {
                "label": label,
                "support": int(matrix[at].sum()),
                "precision": near(precision[at]),
                "recall": near(recall[at]),
                "f1": near(f1[at]),
            }
            for at, label in enumerate(labels)
        ],
        "confusion": matrix.tolist(),
        "reliability": reliability(0.07),
    }


def reliability(shift: float) -> list[dict[str, float]]:
    """Bins of confidence."""
    return [
        {
            "low": at / 10,
            "high": (at + 1) / 10,
            "rows": 10 * at,
            "confidence": at / 10 + 0.05,
            "accuracy": at / 10 + 0.05 - shift,
        }
        for at in range(1, 10)
    ]


def strata(labels: Sequence[str], rows: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """Parts of the pairs."""
    parts = {
        "class": list(labels),
        "text length": ["short (< 40)", "middle (40 to 90)", "long (over 90)"],
        "text-only confidence": ["unsure (< 0.5)", "middling", "sure (over 0.8)"],
        "modality": ["both", "no image"],
        "image cluster": [f"cluster {n}" for n in range(1, 7)],
        "agreement": ["the two agree", "they disagree"],
    }
    return [
        {
            "by": by,
            "name": name,
            "rows": rows // len(names),
            "text_only": 0.66,
            "fused": 0.7,
            "difference": near(random.normal(0.03, 0.03), 0.03),
            "holm": float(random.uniform() ** 4),
        }
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
    """The same study with these parts of the evidence gone."""
    kept = {key: None if key in keys else value for key, value in found.evidence.items()}
    return replace(found, evidence=kept)

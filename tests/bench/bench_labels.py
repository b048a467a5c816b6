"""Labels against the simple ways: each data set, our mixture beside the peers, on the same folds.

python tests/bench/bench_labels.py [--data DIR ...] [--cache DIR] [--trials 20] [--repeats 1]

A set may be followed by columns and `rare=merge`, as in `--data set,label=subject`. Peers are
scikit-learn's, fitted on the training and validation rows of each fold: logistic regression on
TF-IDF, on TF-IDF and the images, on everything; nearest neighbours; gradient-boosted trees; and a
`StackingClassifier` of these. Ranks are by out-of-fold macro-F1.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, StackingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, normalize

from pairfuse.commands.workspace import Workspace
from pairfuse.config import Config
from pairfuse.data.demo import draw_demo
from pairfuse.stats.bootstrap import draw_groups, in_words
from pairfuse.stats.metrics import score
from pairfuse.stats.paired import compare_all
from pairfuse.study.ablation import FUSED, baseline_arms, baseline_candidates, run_arm
from pairfuse.study.folds import outer_folds

OURS = "ours"
#: Above so many classes boosting takes minutes a fold: the peer is left out.
MOST_CLASSES = 20


def main() -> None:
    """Print a table for each set: macro-F1, accuracy, the difference to ours, the rank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="*", default=[])
    parser.add_argument("--cache", default="cache")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=1)
    asked = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        if not asked.data:
            draw_demo(Path(folder) / "demo", pairs=200, test_pairs=0)
        for given in asked.data or [f"{folder}/demo"]:
            found[given] = measured(given, asked, Path(folder))
    target = Path("cache/bench/labels.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, indent=2))


def measured(given: str, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything of one set."""
    workspace = opened(given, asked, folder)
    table, data = workspace.table, workspace.folded
    start = time.perf_counter()
    plain = baseline_arms(data, seed=0)
    candidates = baseline_candidates(FUSED, data, plain, seed=0)
    arm = run_arm(FUSED, data, workspace.search, candidates=candidates)
    seconds = time.perf_counter() - start
    every = {OURS: arm.probabilities, **{each.name: each.probabilities for each in plain}}
    every |= peers(workspace)
    draws = draw_groups(table.groups, seed=0)
    scores = {name: score(table.targets, p, table.labels, draws) for name, p in every.items()}
    compared = compare_all(every, table.targets, draws, seed=0)
    gaps = {each.second: each for each in compared if each.first == OURS}
    ranked = sorted(scores, key=lambda name: -scores[name].macro_f1.value)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in arm.shares.items())
    print(f"{given}: {len(table.targets)} pairs, {len(table.labels)} classes, {seconds:.0f} s")
    print(f"  mixture: {shares}")
    rows = []
    for rank, name in enumerate(ranked, 1):
        own, gap = scores[name], gaps.get(name)
        said = in_words(gap.difference, sign=True) if gap else ""
        accuracy = f"acc {own.accuracy.value:.3f}"
        print(f"  {rank:2} {name:28} {in_words(own.macro_f1)}  {accuracy}  {said}")
        row = {"rank": rank, "name": name, "macro_f1": own.macro_f1.value}
        row |= {"accuracy": own.accuracy.value, "ours_minus": said}
        rows.append(row)
    return {"seconds": seconds, "shares": dict(arm.shares), "rows": rows}


def opened(given: str, asked: argparse.Namespace, folder: Path) -> Workspace:
    """The workspace of a set with the default encoders and a study of its own."""
    root, *settings = given.split(",")
    options = dict(setting.split("=") for setting in settings)
    config = Config(cache=asked.cache, run=f"bench-{Path(root).name}")
    rare = options.pop("rare", "refuse")
    own = replace(config.data, root=root, columns=options, rare=rare)
    storage = str(folder / f"{Path(root).name}.log")
    study = replace(config.study, repeats=asked.repeats, n_trials=asked.trials, storage=storage)
    return Workspace(replace(config, data=own, study=study))


def peers(workspace: Workspace) -> dict[str, np.ndarray]:
    """Out-of-fold probabilities (R, N, C) of scikit-learn's models."""
    table = workspace.table
    views, targets, classes = table.views, table.targets, len(table.labels)
    texts = np.array([text or "" for text in views.texts.strings], dtype=object)
    unit = {view: normalize(values) for view, values in views.features.items()}
    folds = outer_folds(workspace.prepared)
    repeats = 1 + max(fold.repeat for fold in folds)
    out: dict[str, np.ndarray] = {}
    for fold in folds:
        inside = np.setdiff1d(
            np.arange(len(targets)),
            np.flatnonzero(np.isin(table.groups, table.groups[fold.held_out])),
        )
        words = tfidf(texts[inside], texts[fold.held_out])
        for name, model, blocks in models(views.of("image"), list(unit), classes):
            ours = [words] if "tfidf" in blocks else []
            ours += [(unit[v][inside], unit[v][fold.held_out]) for v in blocks if v in unit]
            train, held = (joined([block[side] for block in ours]) for side in (0, 1))
            fitted = model().fit(train, targets[inside])
            p = out.setdefault(name, np.zeros((repeats, len(targets), classes), np.float32))
            p[fold.repeat, fold.held_out[:, None], fitted.classes_] = fitted.predict_proba(held)
    return out


def models(
    images: Sequence[str], every: Sequence[str], classes: int
) -> list[tuple[str, Callable[[], Any], list[str]]]:
    """Name, what makes a model, and the blocks that it reads."""
    dense = list(every)
    found: list[tuple[str, Callable[[], Any], list[str]]] = [
        ("peer TF-IDF LR", logistic, ["tfidf"]),
        ("peer TF-IDF + image LR", logistic, ["tfidf", *images]),
        ("peer LR on everything", logistic, ["tfidf", *dense]),
        ("peer kNN", lambda: KNeighborsClassifier(15, weights="distance"), dense),
    ]
    if classes <= MOST_CLASSES:
        found += [
            ("peer boosting", boosted, dense),
            ("peer stacking", stacked, dense),
        ]
    return found


def logistic() -> LogisticRegression:
    """As twenty lines of scikit-learn would have it."""
    return LogisticRegression(class_weight="balanced", C=2, max_iter=300)


def boosted() -> Any:
    """Trees on 64 principal axes."""
    return make_pipeline(
        FunctionTransformer(np.asarray),
        PCA(64, random_state=0),
        HistGradientBoostingClassifier(class_weight="balanced", max_iter=60, random_state=0),
    )


def stacked() -> StackingClassifier:
    """Neighbours, trees and logistic regression under another logistic regression."""
    return StackingClassifier(
        [("lr", logistic()), ("knn", KNeighborsClassifier(15)), ("trees", boosted())],
        LogisticRegression(class_weight="balanced", max_iter=300),
        cv=3,
    )


def tfidf(train: np.ndarray, held: np.ndarray) -> tuple[Any, Any]:
    """Words and pairs of words, characters inside words; fitted on the training rows."""
    both = (
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2),
    )
    first = sparse.hstack([each.fit_transform(train) for each in both]).tocsr()
    return first, sparse.hstack([each.transform(held) for each in both]).tocsr()


def joined(blocks: Sequence[Any]) -> Any:
    """Side by side; sparse if one of them is."""
    if any(sparse.issparse(block) for block in blocks):
        return sparse.hstack(blocks).tocsr()
    return np.concatenate(blocks, axis=1)


if __name__ == "__main__":
    main()

"""A tuned, cross-validated study against the usual ways to run one, on the same folds and rows.

python tests/bench/bench_tuning.py [--data DIR] [--cache DIR] [--trials 50] [--plain 2] [--peer 4]

The plain loop (PyTorch, a DataLoader, one model at a time) and scikit-learn's `MLPClassifier` in
`RandomizedSearchCV` are timed on the first few trials of the study and scaled up; our study is run
whole. Out-of-fold macro-F1 of the best found is compared by a paired interval.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pairfuse.commands.workspace import Workspace
from pairfuse.config import Config, FeaturesConfig
from pairfuse.data.demo import draw_demo
from pairfuse.fusion.fitting import RowSet, ScaledRowSet, prepare_rows
from pairfuse.recipe import Recipe
from pairfuse.stats.bootstrap import draw_groups
from pairfuse.stats.metrics import macro_f1
from pairfuse.stats.paired import compare_all
from pairfuse.study.crossfit import Table, cross_fit
from pairfuse.study.folds import make_folds
from pairfuse.study.tuning import SearchSpec, tune

ENCODERS = ("minilm", "efficientnet-lite0")
EPOCHS, PATIENCE = 40, 15


def main() -> None:
    """Print seconds for a whole study each way, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="")
    parser.add_argument("--cache", default="cache")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--plain", type=int, default=2)
    parser.add_argument("--peer", type=int, default=4)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = load(asked.data, asked.cache, Path(folder))
        rows = make_folds(table.targets, table.groups, table.labels, folds=5, n_models=1, seed=0)
        plain_y_pred, plain = plain_study(table, rows, asked.plain)
        peer_y_pred, peer = peer_study(table, rows, asked.peer)
        our_y_pred, ours, pruned = our_study(table, rows, asked.trials, Path(folder))
    found = {
        "trials": asked.trials,
        "pruned": pruned,
        "rows": len(table.targets),
        "ours_s": ours,
        "plain_s": plain / asked.plain * asked.trials,
        "plain_trials_timed": asked.plain,
        "peer_s": peer / asked.peer * asked.trials,
        "peer_trials_timed": asked.peer,
        "macro_f1": macro_f1(table.targets, our_y_pred, len(table.labels)),
    }
    for name, y_pred, aim in (("plain", plain_y_pred, 50), ("peer", peer_y_pred, 20)):
        ratio = found[f"{name}_s"] / ours
        one_hot = np.eye(len(table.labels), dtype=np.float32)
        arms = {"ours": one_hot[our_y_pred][None], name: one_hot[y_pred][None]}
        draws = draw_groups(table.groups, seed=0)
        gap = compare_all(arms, table.targets, draws, seed=0)[0].difference
        found |= {f"{name}_ratio": ratio, f"{name}_difference": [gap.value, gap.low, gap.high]}
        print(
            f"{name}: {found[f'{name}_s']:.0f} s for {asked.trials} trials, ours {ours:.1f} s: "
            f"{ratio:.1f} times (aim >= {aim}); macro-F1 ours minus theirs {gap.value:+.3f} "
            f"({gap.low:+.3f} to {gap.high:+.3f})"
        )
    print(json.dumps(found))
    target = Path("cache/bench/tuning.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, indent=2))


def load(data: str, cache: str, folder: Path) -> Table:
    """The labelled rows of the data set, or of the demo."""
    root = data
    if not data:
        root = str(folder / "demo")
        draw_demo(Path(root))
    config = Config(features=FeaturesConfig(encoders=ENCODERS), cache=cache)
    return Workspace(replace(config, data=replace(config.data, root=root))).table


def joined(table: Table, part: RowSet) -> dict[str, torch.Tensor]:
    """All features side by side, standardised by the training rows."""
    raw = np.concatenate(list(table.views.features.values()), axis=1)
    mean, deviation = raw[part.train].mean(axis=0), raw[part.train].std(axis=0) + 1e-6
    values = ((raw - mean) / deviation).astype(np.float32)
    sides = {"train": part.train, "val": part.val, "held": part.held_out}
    return {name: torch.from_numpy(values[rows]) for name, rows in sides.items()}


def plain_study(table: Table, rows: list[RowSet], trials: int) -> tuple[np.ndarray, float]:
    """The usual loop: each trial draws a recipe, each fold trains one model after another."""
    random, best, taken = np.random.default_rng(0), (-1.0, np.empty(0)), 0.0
    for _ in range(trials):
        lr, drop = 10 ** random.uniform(-3.5, -2.5), random.uniform(0.1, 0.6)
        width = int(random.choice([64, 128, 256]))
        start = time.perf_counter()
        y_pred = np.zeros_like(table.targets)
        for fold, part in enumerate(rows):
            y_pred[part.held_out] = plain_model(table, part, lr, drop, width, fold)
        taken += time.perf_counter() - start
        best = max(
            best,
            (macro_f1(table.targets, y_pred, len(table.labels)), y_pred),
            key=lambda found: found[0],
        )
    return best[1], taken


def plain_model(
    table: Table, part: RowSet, lr: float, drop: float, width: int, seed: int
) -> np.ndarray:
    """One model: concatenation, one hidden layer, Adam, class weights, early stopping."""
    torch.manual_seed(seed)
    inputs, classes = joined(table, part), len(table.labels)
    targets = torch.from_numpy(table.targets)
    counts = torch.bincount(targets[part.train], minlength=classes)
    network = nn.Sequential(
        nn.Dropout(drop),
        nn.Linear(inputs["train"].shape[1], width),
        nn.ReLU(),
        nn.Dropout(drop),
        nn.Linear(width, classes),
    )
    criterion = nn.CrossEntropyLoss(weight=len(part.train) / (classes * counts.float()))
    adam = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01)
    loader = DataLoader(
        TensorDataset(inputs["train"], targets[part.train]), batch_size=64, shuffle=True
    )
    best, since, held = -1.0, 0, np.empty(0)
    for _ in range(EPOCHS):
        network.train()
        for batch, wanted in loader:
            adam.zero_grad()
            criterion(network(batch), wanted).backward()
            adam.step()
        network.eval()
        with torch.no_grad():
            y_pred = network(inputs["val"]).argmax(dim=1).numpy()
            score = macro_f1(table.targets[part.val], y_pred, classes)
            since += 1
            if score > best:
                best, since = score, 0
                held = network(inputs["held"]).argmax(dim=1).numpy()
        if since >= PATIENCE:
            break
    return held


def peer_study(table: Table, rows: list[RowSet], trials: int) -> tuple[np.ndarray, float]:
    """`RandomizedSearchCV` over a scaled `MLPClassifier` with its own early stopping."""
    from scipy.stats import loguniform
    from sklearn.model_selection import RandomizedSearchCV
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    raw = np.concatenate(list(table.views.features.values()), axis=1)
    splits = [(np.concatenate([part.train, part.val]), part.held_out) for part in rows]
    search = RandomizedSearchCV(
        make_pipeline(StandardScaler(), MLPClassifier(early_stopping=True, random_state=0)),
        {
            "mlpclassifier__hidden_layer_sizes": [(64,), (128,), (256,)],
            "mlpclassifier__alpha": loguniform(1e-4, 1e-1),
            "mlpclassifier__learning_rate_init": loguniform(3e-4, 5e-3),
        },
        n_iter=trials,
        scoring="f1_macro",
        cv=splits,
        n_jobs=-1,
        random_state=0,
        refit=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        search.fit(raw, table.targets)
        taken = time.perf_counter() - start
        model = search.estimator.set_params(**search.best_params_)
        y_pred = np.zeros_like(table.targets)
        for train, held in splits:
            y_pred[held] = model.fit(raw[train], table.targets[train]).predict(raw[held])
    return y_pred, taken


def our_study(
    table: Table, rows: list[RowSet], trials: int, folder: Path
) -> tuple[np.ndarray, float, int]:
    """The whole study, scaling of the folds included; the single best recipe's y_pred."""
    start = time.perf_counter()
    prepared: list[ScaledRowSet] = prepare_rows(table.views, rows, seed=0)
    search = SearchSpec(base=Recipe(), storage=str(folder / "study.log"), n_trials=trials)
    best = tune(table, prepared, search, name="bench")
    taken = time.perf_counter() - start
    [fit] = cross_fit(table, prepared, best.recipes[:1], seed=0)
    return fit.y_pred, taken, best.pruned


if __name__ == "__main__":
    main()

"""Time and memory of each stage as the data set grows, and the exponent of the growth.

python tests/bench/bench_growth.py [--sizes 1000 4000 16000 64000 256000] [--out cache/bench]

Pairs are made (two views of width 64, three classes); `features` goes through the real extraction
and store with an encoder that costs nothing. Each size runs in a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

STAGES = ("features", "tune", "train", "predict")
DIM, CLASSES, TRIALS = 64, 3, 6


def main() -> None:
    """Print a table; write growth.json and growth.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 4000, 16000, 64000, 256000])
    parser.add_argument("--out", default="cache/bench")
    parser.add_argument("--one", type=int, default=0)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.one)))
        return
    rows = []
    for size in asked.sizes:
        command = [sys.executable, __file__, "--one", str(size)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append(json.loads(said.splitlines()[-1]))
        print(json.dumps(rows[-1]), flush=True)
    found = {
        "rows": rows,
        "time_exponent": {stage: exponent(rows, stage) for stage in STAGES},
        "memory_exponent": {stage: exponent(rows, f"{stage}_mib") for stage in STAGES},
    }
    print(json.dumps({name: found[name] for name in ("time_exponent", "memory_exponent")}))
    folder = Path(asked.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "growth.json").write_text(json.dumps(found, indent=2))
    plot(rows, folder / "growth.png")


def exponent(rows: Sequence[dict[str, float]], name: str) -> float:
    """Slope of log time against log pairs over the three largest sizes, where overheads fade."""
    last = rows[-3:]
    slope, _ = np.polyfit(
        np.log([row["pairs"] for row in last]), np.log([row[name] for row in last]), 1
    )
    return round(float(slope), 3)


def measure(size: int) -> dict[str, float]:
    """Seconds of each stage, and the process's peak memory after it, in MiB."""
    from pairfuse.features.extraction import extract
    from pairfuse.features.store import open_store
    from pairfuse.features.views import Views
    from pairfuse.fusion.fitting import prepare_rows
    from pairfuse.recipe import Recipe
    from pairfuse.study.crossfit import Table, cross_fit
    from pairfuse.study.folds import make_folds
    from pairfuse.study.tuning import SearchSpec, tune

    random = np.random.default_rng(0)
    targets = random.integers(0, CLASSES, size)
    centres = random.standard_normal((CLASSES, DIM), dtype=np.float32)
    values = [
        0.4 * centres[targets] + random.standard_normal((size, DIM), dtype=np.float32)
        for _ in range(2)
    ]
    taken: dict[str, float] = {"pairs": size}

    def timed(stage: str, start: float) -> None:
        taken[stage] = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        taken[f"{stage}_mib"] = peak / 1024

    with tempfile.TemporaryDirectory() as folder:
        keys = {hashlib.sha256(b"%d" % row).digest(): str(row) for row in range(size)}
        encoder = _Given(values[0])
        start = time.perf_counter()
        store = open_store(Path(folder), encoder)
        extract(keys, encoder, store, device="cpu")
        first = open_store(Path(folder), encoder).read(list(keys))
        timed("features", start)
        present = np.ones(size, dtype=bool)
        views = Views(
            features={"text": first, "image": values[1]},
            present={"text": present, "image": present},
            modality={"text": "text", "image": "image"},
        )
        own = np.arange(size)
        labels = tuple("abc")
        guids = tuple(map(str, own.tolist()))
        table = Table(views=views, targets=targets, groups=own, guids=guids, labels=labels)
        start = time.perf_counter()
        rows = make_folds(targets, own, labels, folds=5, n_models=1, seed=0)
        prepared = prepare_rows(views, rows, seed=0)
        log = str(Path(folder) / "study.log")
        base = replace(Recipe(), epochs=4, patience=4)
        search = SearchSpec(base=base, storage=log, n_trials=TRIALS)
        best = tune(table, prepared, search, name="growth")
        timed("tune", start)
        start = time.perf_counter()
        [fit] = cross_fit(table, prepared, best.recipes[:1], seed=0)
        timed("train", start)
        start = time.perf_counter()
        fit.ensemble.predict_proba(views)
        timed("predict", start)
    return taken


@dataclass
class _Given:
    """An encoder whose features are there already."""

    values: np.ndarray
    name: str = "given"
    modality: str = "text"
    dim: int = DIM
    batch_size: int = 256

    @property
    def made_from(self) -> dict[str, Any]:
        return {"kind": "given"}

    def load(self, device: str) -> _Given:
        return self

    def prepare(self, raw: str) -> Any:
        from pairfuse.encoders.base import EncoderInput

        return EncoderInput(int(raw))

    def encode(self, batch: Sequence[Any]) -> np.ndarray:
        return self.values[[prepared.value for prepared in batch]]


def plot(rows: Sequence[dict[str, float]], path: Path) -> None:
    """Seconds and peak memory against pairs, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, suffix, label in zip(
        figure.subplots(1, 2), ("", "_mib"), ("seconds", "peak memory, MiB"), strict=True
    ):
        for stage in STAGES:
            axes.loglog(
                [row["pairs"] for row in rows],
                [row[stage + suffix] for row in rows],
                marker="o",
                label=f"{stage} (slope {exponent(rows, stage + suffix):.2f})",
            )
        axes.set_xlabel("pairs")
        axes.set_ylabel(label)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()

"""What the store's safety costs: against one .npy file, in one run, A B A B, medians.

python tests/bench/bench_cache.py [--texts 20000] [--rows 1000000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import hashlib
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pairfuse.encoders import build_encoders
from pairfuse.features.extraction import extract
from pairfuse.features.store import FeatureStore, open_store

WORDS = ("sun", "rain", "happy", "storm", "quiet", "street", "lost", "cold", "warm", "dark", "blue")


def main() -> None:
    """Print the three ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        extraction(Path(folder), asked.texts, asked.rounds)
        opening(Path(folder), asked.rows, asked.rounds)
        loading(Path(folder), asked.rounds)


def extraction(folder: Path, count: int, rounds: int) -> None:
    """A cold run of `ngram`: into the store, and into one .npy by the same loop without a store."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=14)) + f" {number}" for number in range(count)]
    wanted = {hashlib.sha256(text.encode()).digest(): text for text in texts}
    [encoder] = build_encoders(["ngram"])

    def into_store(number: int) -> None:
        extract(wanted, encoder, open_store(folder / f"store-{number}", encoder), device="cpu")

    def into_npy(number: int) -> None:
        store = _NoStore(count, encoder.dim)
        extract(wanted, encoder, store, device="cpu")  # type: ignore[arg-type]
        np.save(folder / f"plain-{number}.npy", store.rows)

    safe, plain = _alternate(into_store, into_npy, rounds)
    _print(f"features of {count} texts by ngram", safe, plain, "safe / plain, aim <= 1.03")


def opening(folder: Path, rows: int, rounds: int) -> None:
    """Open a store of many rows and read 4,096 of them by key."""
    random_ = np.random.default_rng(0)
    keys = random_.integers(0, 256, (rows, 32), dtype=np.uint8)
    place = folder / "large"
    store = FeatureStore(place, "large", "text", "f" * 64, 64)
    for start in range(0, rows, 250_000):
        part = keys[start : start + 250_000]
        values = random_.standard_normal((len(part), 64), dtype=np.float32)
        store.add([key.tobytes() for key in part], values)
    asked = [keys[row].tobytes() for row in random_.choice(rows, 4096, replace=False)]
    taken = []
    for _ in range(rounds):
        start_time = time.perf_counter()
        FeatureStore(place, "large", "text", "f" * 64, 64).read(asked)
        taken.append(time.perf_counter() - start_time)
    print(f"open {rows} rows, read 4096 by key: {statistics.median(taken):.3f} s (aim < 0.5)")


def loading(folder: Path, rounds: int) -> None:
    """Load 4,469 rows of width 1,280, every row proven, beside `np.load`."""
    random_ = np.random.default_rng(1)
    values = random_.standard_normal((4469, 1280), dtype=np.float32)
    keys = [hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(len(values))]
    place = folder / "load"
    FeatureStore(place, "load", "image", "e" * 64, 1280).add(keys, values)
    np.save(folder / "load.npy", values)
    store = FeatureStore(place, "load", "image", "e" * 64, 1280)
    safe, plain = _alternate(
        lambda _: store.read(keys), lambda _: np.load(folder / "load.npy"), 20 * rounds
    )
    _print("load 4469 x 1280", safe, plain, "safe / plain, aim <= 1.25")


class _NoStore:
    """Takes rows into one array: what a script without a cache does."""

    def __init__(self, count: int, dim: int) -> None:
        self.dim, self.token_dim, self.filled = dim, 0, 0
        self.folder = Path(tempfile.gettempdir())
        self.rows = np.empty((count, dim), dtype=np.float32)

    def missing(self, keys: list[bytes]) -> list[bytes]:
        return keys

    def add(self, keys: list[bytes], features: np.ndarray, *_: object) -> None:
        self.rows[self.filled : self.filled + len(features)] = features
        self.filled += len(features)

    def refresh(self) -> None: ...

    def sweep(self) -> None: ...

    def compact(self) -> None: ...


def _alternate(
    ours: Callable[[int], object], theirs: Callable[[int], object], rounds: int
) -> tuple[list[float], list[float]]:
    ours(-1), theirs(-1)  # imports and page cache
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for times, call in zip(taken, (ours, theirs), strict=True):
            start = time.perf_counter()
            call(number)
            times.append(time.perf_counter() - start)
    return taken


def _print(what: str, safe: list[float], plain: list[float], aim: str) -> None:
    ratio = statistics.median(safe) / statistics.median(plain)
    print(
        f"{what}: {statistics.median(safe):.3f} s, plain {statistics.median(plain):.3f} s, "
        f"ratio {ratio:.3f} ({aim})"
    )


if __name__ == "__main__":
    main()

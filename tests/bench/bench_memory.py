"""Measure the peak memory of long streams: short texts through `ngram`, rows of many images.

Each case has a process of its own, whose peak is told by the system. The store is the real one; it
lies in a temporary folder (16 GB for a million texts) and is removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from pairfuse.arrays import Floats

if TYPE_CHECKING:
    from pairfuse.encoders.base import EncoderInput, LoadedEncoder
    from pairfuse.features.store import FeatureStore

OUT = Path("cache/bench/memory.json")
TARGET_MIB = 2048
#: Rows that are asked for at a time when they are read back.
READ_ROWS = 8192
WORDS = ("sun", "rain", "city", "dog", "coffee", "match", "train", "happy", "late", "never")


@dataclass(frozen=True)
class MadeImages:
    """Stands for an image network: rows of the width of EfficientNet-Lite0's."""

    name: str = "made"
    modality: str = "text"  # the key is all that it reads
    dim: int = 1280
    batch_size: int = 64
    made_from: dict[str, Any] = field(default_factory=lambda: {"weights": "made"})

    def load(self, device: str) -> LoadedEncoder:
        return self

    def prepare(self, raw: Any) -> EncoderInput:
        from pairfuse.encoders.base import EncoderInput

        return EncoderInput(int(raw))

    def encode(self, batch: Sequence[EncoderInput]) -> Floats:
        import numpy as np

        rows = [np.random.default_rng(item.value).random(self.dim, np.float32) for item in batch]
        return np.stack(rows)


def texts(count: int) -> dict[bytes, str]:
    """Short made texts, each another, by key."""
    from pairfuse.data.pairs import text_key

    random = Random(0)
    made = (f"{' '.join(random.choices(WORDS, k=5))} {number}" for number in range(count))
    return {text_key(text): text for text in made}


def numbers(count: int) -> dict[bytes, str]:
    """A name for each of so many images, by key."""
    from pairfuse.data.pairs import text_key

    return {text_key(str(number)): str(number) for number in range(count)}


def _ngram() -> Any:
    from pairfuse.encoders.ngram import NgramEncoder

    return NgramEncoder()


#: name: (rows, what is read, the encoder)
CASES: dict[str, tuple[int, Callable[[int], dict[bytes, str]], Callable[[], Any]]] = {
    "texts": (1_000_000, texts, _ngram),
    "images": (100_000, numbers, MadeImages),
}


def measure(name: str, count: int, place: str) -> dict[str, Any]:
    """Write all rows, open the store anew, read them back in parts, in another order too."""
    from pairfuse.features.extraction import extract
    from pairfuse.features.store import open_store

    _, make, build = CASES[name]
    start = time.perf_counter()
    encoder, wanted = build(), make(count)
    found = {"case": name, "rows": count, "width": encoder.dim, "made_mib": peak_mib()}
    with tempfile.TemporaryDirectory(dir=place or None) as folder:
        begun = time.perf_counter()
        extract(wanted, encoder, open_store(Path(folder), encoder), device="cpu")
        found |= {"write_seconds": time.perf_counter() - begun, "write_mib": peak_mib()}
        begun = time.perf_counter()
        store = open_store(Path(folder), encoder)
        keys = list(wanted)
        read_back(store, keys)
        found["parts"] = len(store.parts)
        found |= {"read_seconds": time.perf_counter() - begun, "read_mib": peak_mib()}
        begun = time.perf_counter()
        read_back(store, Random(1).sample(keys, min(len(keys), 4 * READ_ROWS)))
        found |= {"shuffled_seconds": time.perf_counter() - begun, "peak_mib": peak_mib()}
    return found | {"seconds": time.perf_counter() - start}


def read_back(store: FeatureStore, keys: Sequence[bytes]) -> None:
    """Read rows in parts, as a reader that cannot hold them all does."""
    for first in range(0, len(keys), READ_ROWS):
        chosen = keys[first : first + READ_ROWS]
        if store.read(chosen).shape != (len(chosen), store.dim):
            raise RuntimeError("rows were lost")


def peak_mib() -> float:
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--share", type=float, default=1.0, help="of the rows; 1 takes all")
    parser.add_argument(
        "--place", default="", help="a folder with room; the usual one if not given"
    )
    options = parser.parse_args()
    known = {row["case"]: row for row in json.loads(OUT.read_text())} if OUT.is_file() else {}
    print("case        rows  made MiB  write MiB  peak MiB  write s  read s")
    for name in options.cases:
        count = int(CASES[name][0] * options.share)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
            row = apart.submit(measure, name, count, options.place).result()
        known[name] = row
        print(
            f"{name:8s} {count:7d} {row['made_mib']:9.0f} {row['write_mib']:10.0f} "
            f"{row['peak_mib']:9.0f} {row['write_seconds']:8.1f} {row['read_seconds']:7.1f}"
            f"{'' if row['peak_mib'] < TARGET_MIB else '  over ' + str(TARGET_MIB)}",
            flush=True,
        )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(list(known.values()), indent=2) + "\n")
    print(f"wrote {OUT}")


if __name__ == "__main__":
    main()

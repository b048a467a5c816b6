"""Extraction: what the store lacks is read, prepared in threads, encoded in batches, committed.

Identical contents are encoded once. A commit ends after `COMMIT_SECONDS` of work, so a killed run
loses at most that; the next run asks the store what it lacks and goes on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pairfuse.console import log, progress
from pairfuse.data.images import open_image
from pairfuse.data.pairs import Dataset, Modality
from pairfuse.encoders.base import Encoder, Floats, LoadedEncoder, Prepared
from pairfuse.encoders.network import resolve_device
from pairfuse.errors import DataError, EncoderError, StoreError
from pairfuse.features.store import FeatureStore

COMMIT_SECONDS = 20.0
COMMIT_BYTES = 128 * 2**20
#: Inputs prepared ahead: texts are small and sorted by length within a window, images are large.
WINDOW: Mapping[Modality, int] = {"text": 4096, "image": 64}
#: Tokens (padding included) that a text batch holds at most, for each input of the batch size.
TOKENS_PER_INPUT = 64

Content = str | Path


@dataclass
class Extraction:
    """What one encoder did: rows wanted, found in the store, computed; reasons for lost ones."""

    encoder: str
    wanted: int
    cached: int
    computed: int = 0
    truncated: int = 0
    seconds: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Rows computed a second, loading the weights included."""
        return self.computed / self.seconds if self.seconds else 0.0


def contents(dataset: Dataset, modality: Modality) -> dict[bytes, Content]:
    """Each distinct content of a modality once, by its key, in the order of the pairs."""
    found: dict[bytes, Content] = {}
    for pair in dataset.pairs:
        key = dataset.key(pair, modality)
        content = pair.text if modality == "text" else pair.image
        if key is not None and content is not None:
            found.setdefault(key, content)
    return found


def extract(
    wanted: Mapping[bytes, Content],
    encoder: Encoder,
    store: FeatureStore,
    *,
    device: str,
    batch_size: int = 0,
    workers: int = 0,
) -> Extraction:
    """Compute the rows that the store lacks and commit them part by part.

    Args:
        wanted: Key to text, or to the path of an image.
        encoder: Its weights are loaded only if a row is missing.
        store: Where rows go.
        device: A torch device's name.
        batch_size: 0 takes the encoder's own; it halves when memory runs out.
        workers: Threads that prepare inputs; 0 takes one for each core.

    Raises:
        EncoderError: Memory runs out with a batch of one.
        StoreError: A part cannot be written; what was committed before stays.
    """
    store.sweep()
    missing = {key: wanted[key] for key in store.missing(list(wanted))}
    result = Extraction(encoder.name, len(wanted), len(wanted) - len(missing))
    if not missing:
        return result
    _check_space(store, len(missing))
    start = time.perf_counter()
    loaded = encoder.load(str(resolve_device(device)))
    pending: list[tuple[bytes, Floats]] = []
    last = start
    with progress(f"features {encoder.name}", len(missing)) as bar:
        batches = _Batches(loaded, batch_size or encoder.batch_size)
        for window in _windows(missing, loaded, encoder.modality, workers, result):
            for keys, features in batches.encode(window):
                pending.extend(zip(keys, features, strict=True))
                bar.update(len(keys))
                if _due(pending, last, store.dim):
                    _commit(store, pending, result)
                    last = time.perf_counter()
        _commit(store, pending, result)
    store.compact()
    result.seconds = time.perf_counter() - start
    return result


@dataclass
class _Batches:
    """Encodes windows in batches; the size halves, and stays halved, when memory runs out."""

    loaded: LoadedEncoder
    size: int

    def encode(
        self, window: Sequence[tuple[bytes, Prepared]]
    ) -> Iterator[tuple[list[bytes], Floats]]:
        ordered = sorted(window, key=lambda item: -item[1].size)  # longest first: fails early
        start = 0
        while start < len(ordered):
            batch = ordered[start : start + self._fitting(ordered[start][1].size)]
            try:
                features = self.loaded.encode([item for _, item in batch])
            except (RuntimeError, MemoryError) as error:
                self._halve(error, len(batch))
                continue
            start += len(batch)
            yield [key for key, _ in batch], features

    def _fitting(self, longest: int) -> int:
        if longest <= 1:
            return self.size
        return max(1, min(4 * self.size, self.size * TOKENS_PER_INPUT // longest))

    def _halve(self, error: Exception, tried: int) -> None:
        if not (isinstance(error, MemoryError) or "out of memory" in str(error).lower()):
            raise error
        if tried == 1:
            raise EncoderError(
                "memory runs out with a batch of one; use --device cpu or a smaller encoder"
            ) from error
        self.size = max(1, min(self.size, tried) // 2)
        log.warning("out of memory with a batch of %d: going on with %d", tried, self.size)
        _free_device_memory()


def _windows(
    missing: Mapping[bytes, Content],
    loaded: LoadedEncoder,
    modality: Modality,
    workers: int,
    result: Extraction,
) -> Iterator[list[tuple[bytes, Prepared]]]:
    """Windows of prepared inputs; the next one is made ready while the caller encodes this one."""
    read = _READ[modality]

    def prepare(item: tuple[bytes, Content]) -> tuple[bytes, Prepared | str]:
        key, content = item
        try:
            return key, loaded.prepare(read(key, content))
        except DataError as error:
            return key, str(error)

    items = iter(missing.items())
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:

        def begin() -> list[Any]:
            return [pool.submit(prepare, item) for item in islice(items, WINDOW[modality])]

        ahead = begin()
        while ahead:
            current, ahead = ahead, begin()
            ready = []
            for future in current:
                key, prepared = future.result()
                if isinstance(prepared, str):
                    result.failed[key.hex()] = prepared
                    continue
                result.truncated += prepared.truncated
                ready.append((key, prepared))
            yield ready


def _read_text(key: bytes, content: Content) -> str:
    return str(content)


def _read_image(key: bytes, content: Content) -> Any:
    try:
        data = Path(content).read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).digest() != key:
        raise DataError("the file changed while it was read")
    return open_image(data)


_READ: Mapping[Modality, Callable[[bytes, Content], Any]] = {
    "text": _read_text,
    "image": _read_image,
}


def _due(pending: Sequence[tuple[bytes, Floats]], last: float, dim: int) -> bool:
    return time.perf_counter() - last > COMMIT_SECONDS or len(pending) * dim * 4 > COMMIT_BYTES


def _commit(store: FeatureStore, pending: list[tuple[bytes, Floats]], result: Extraction) -> None:
    if pending:
        store.add([key for key, _ in pending], np.stack([row for _, row in pending]))
        result.computed += len(pending)
        pending.clear()


def _check_space(store: FeatureStore, rows: int) -> None:
    """Refuse to begin what cannot be kept."""
    needed = rows * (store.dim * 4 + 48)
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(store.folder).free
    except OSError as error:
        raise StoreError(
            f"cannot write to {store.folder} ({error.strerror}); name another folder with --cache"
        ) from error
    if needed > free:
        raise StoreError(
            f"{store.folder} needs {needed / 2**20:.0f} MB for {rows} rows, "
            f"{free / 2**20:.0f} MB are free; make room or name another folder with --cache"
        )


def _free_device_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""Extraction: what the store lacks is read, prepared in threads, encoded in batches, committed.

Identical contents are encoded once. A commit ends after `COMMIT_SECONDS` of work, so a killed run
loses at most that; the next run asks the store what it lacks and goes on. Of two processes that
fill one store the second waits, and then computes what the first has not.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
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
from pairfuse.files import locked, read_bytes
from pairfuse.process import keep_memory

COMMIT_SECONDS = 20.0
COMMIT_BYTES = 128 * 2**20
#: Held, beside the parts, by the process that fills the store.
LOCK = ".lock"
#: Inputs prepared ahead: texts are small and sorted by length within a window, images are large.
WINDOW: Mapping[Modality, int] = {"text": 4096, "image": 64}
#: Tokens (padding included) that a text batch holds at most, for each input of the batch size.
TOKENS_PER_INPUT = 64

#: A text shorter than this part of the longest waits for the next batch, unless there are few.
LEAST_FULL, FEW = 0.9, 8
#: Inputs that a thread prepares at a time.
PORTION: Mapping[Modality, int] = {"text": 64, "image": 1}
#: How many times larger batches are on a GPU, which is idle with those that suit a CPU.
GPU_BATCHES = 8

Content = str | Path
_Outcomes = list[tuple[bytes, Prepared | str]]


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
    lacking = len(store.missing(list(wanted)))
    if not lacking:
        _tidy(store)  # a run that was killed while it joined parts left them all
        return Extraction(encoder.name, len(wanted), len(wanted))
    _check_space(store, lacking)

    def on_wait() -> None:
        log.warning("another process fills %s: waiting for it", store.folder.parent)

    with locked(store.folder.parent / LOCK, on_wait=on_wait):
        store.refresh()
        return _compute(wanted, encoder, store, device, batch_size, workers)


def _compute(
    wanted: Mapping[bytes, Content],
    encoder: Encoder,
    store: FeatureStore,
    device: str,
    batch_size: int,
    workers: int,
) -> Extraction:
    missing = {key: wanted[key] for key in store.missing(list(wanted))}
    result = Extraction(encoder.name, len(wanted), len(wanted) - len(missing))
    if not missing:
        return result
    keep_memory()
    start = time.perf_counter()
    device = resolve_device(device)
    size = batch_size or encoder.batch_size * (GPU_BATCHES if device.startswith("cuda") else 1)
    pending: list[tuple[list[bytes], Floats]] = []
    last = start
    with progress(f"features {encoder.name}", len(missing)) as bar:
        batches: _Batches | None = None
        for loaded, window in _windows(missing, encoder, device, workers, result):
            batches = batches or _Batches(loaded, size)
            for keys, features in batches.encode(window):
                pending.append((keys, features))
                bar.update(len(keys))
                if _due(pending, last, store.dim):
                    _commit(store, pending, result, len(missing))
                    last = time.perf_counter()
        _commit(store, pending, result, len(missing))
    _tidy(store)
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
            batch = _alike(ordered[start : start + self._fitting(ordered[start][1].size)])
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


def _alike(batch: Sequence[tuple[bytes, Prepared]]) -> Sequence[tuple[bytes, Prepared]]:
    """The first inputs, longest first, that are not mostly padding beside the longest."""
    shortest = LEAST_FULL * batch[0][1].size
    kept = sum(item.size >= shortest for _, item in batch)
    return batch[: max(kept, FEW)]


def _windows(
    missing: Mapping[bytes, Content],
    encoder: Encoder,
    device: str,
    workers: int,
    result: Extraction,
) -> Iterator[tuple[LoadedEncoder, list[tuple[bytes, Prepared]]]]:
    """Windows of prepared inputs; the next one is made ready while the caller encodes this one.

    The weights are read in a thread of their own, beside the first inputs.
    """
    with ThreadPoolExecutor(1) as loader, ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        loading = loader.submit(encoder.load, device)
        prepare = partial(_prepare, loading, _READ[encoder.modality])
        size = WINDOW[encoder.modality]
        items = iter(missing.items())

        def begin() -> list[Future[_Outcomes]]:
            window = list(islice(items, size))
            return [pool.submit(prepare, part) for part in _portions(window, encoder.modality)]

        ahead = begin()
        while ahead:
            loaded = loading.result()
            current, ahead = ahead, begin()
            outcomes = [outcome for future in current for outcome in future.result()]
            yield loaded, list(_kept(outcomes, result))


def _portions(
    window: Sequence[tuple[bytes, Content]], modality: Modality
) -> Iterator[Sequence[tuple[bytes, Content]]]:
    """What one thread prepares at a time: handing over a single text costs more than its tokens."""
    size = PORTION[modality]
    return (window[start : start + size] for start in range(0, len(window), size))


def _prepare(
    loading: Future[LoadedEncoder],
    read: Callable[[bytes, Content, Future[LoadedEncoder]], Any],
    items: Sequence[tuple[bytes, Content]],
) -> _Outcomes:
    outcomes: _Outcomes = []
    for key, content in items:
        try:
            raw = read(key, content, loading)
            outcomes.append((key, loading.result().prepare(raw)))
        except DataError as error:
            outcomes.append((key, str(error)))
    return outcomes


def _kept(outcomes: _Outcomes, result: Extraction) -> Iterator[tuple[bytes, Prepared]]:
    """What could be prepared; the reasons why the rest could not go into the result."""
    for key, prepared in outcomes:
        if isinstance(prepared, str):
            result.failed[key.hex()] = prepared
            continue
        result.truncated += prepared.truncated
        yield key, prepared


def _read_text(key: bytes, content: Content, loading: Future[LoadedEncoder]) -> str:
    return str(content)


def _read_image(key: bytes, content: Content, loading: Future[LoadedEncoder]) -> Any:
    try:
        data = read_bytes(Path(content))
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).digest() != key:
        raise DataError("the file changed while it was read")
    return open_image(data, draft=getattr(loading.result(), "draft", 0))


_READ: Mapping[Modality, Callable[[bytes, Content, Future[LoadedEncoder]], Any]] = {
    "text": _read_text,
    "image": _read_image,
}


def _due(pending: Sequence[tuple[list[bytes], Floats]], last: float, dim: int) -> bool:
    rows = sum(len(keys) for keys, _ in pending)
    return time.perf_counter() - last > COMMIT_SECONDS or rows * dim * 4 > COMMIT_BYTES


def _commit(
    store: FeatureStore, pending: list[tuple[list[bytes], Floats]], result: Extraction, missing: int
) -> None:
    if not pending:
        return
    try:
        keys = [key for keys, _ in pending for key in keys]
        store.add(keys, np.concatenate([features for _, features in pending]))
    except StoreError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        left = missing - result.computed
        needed = _space(store, left) / 2**20
        raise StoreError(f"{error}: {left} rows are left and need {needed:.1f} MB") from error
    result.computed += len(keys)
    pending.clear()


def _tidy(store: FeatureStore) -> None:
    """Join small parts; where there is no room for that, the rows are there all the same."""
    if not os.access(store.folder, os.W_OK):
        return
    try:
        store.compact()
    except StoreError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        log.info("small parts are left as they are: %s", error)


def _space(store: FeatureStore, rows: int) -> int:
    return rows * (store.dim * 4 + 48)


def _check_space(store: FeatureStore, rows: int) -> None:
    """Refuse to begin what cannot be kept."""
    needed = _space(store, rows)
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(store.folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "it is read-only, or of another user")
        free = shutil.disk_usage(store.folder).free
    except OSError as error:
        raise StoreError(
            f"cannot write to {store.folder} ({error.strerror}); name another folder with --cache"
        ) from error
    if needed > free:
        raise StoreError(
            f"{store.folder} needs {needed / 2**20:.1f} MB for {rows} rows, "
            f"{free / 2**20:.1f} MB are free; make room or name another folder with --cache"
        )


def _free_device_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()

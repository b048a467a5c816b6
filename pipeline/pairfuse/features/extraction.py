"""Extraction: what the store lacks is read, prepared in threads, encoded in batches, committed.

Identical contents are encoded once. A commit ends after `COMMIT_SECONDS` of work, so a killed run
loses at most that; the next run asks the store what it lacks and goes on. Of two processes that
fill one store the second waits, and then computes what the first has not.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate

from pairfuse.console import log, progress
from pairfuse.data.images import MAX_IMAGE_BYTES, MAX_PIXELS
from pairfuse.data.pairs import Dataset, Modality, Pair
from pairfuse.encoders.base import Encoder, EncoderOutput
from pairfuse.encoders.network import resolve_devices
from pairfuse.encoders.tokens import Encoded, join_found
from pairfuse.errors import StoreError
from pairfuse.features.devices import MOST_INPUTS, Device, encode_on
from pairfuse.features.prefetch import Content, PrefetchCounts, prefetch, prepare_sample, threads
from pairfuse.features.store import FeatureStore
from pairfuse.files import locked
from pairfuse.memory import keep_memory

__all__ = ["Content", "Extraction", "contents", "extract"]

#: Where more texts than this share are cut, the length is named that holds so many of them whole.
MANY_CUT, ROOMY = 0.10, 0.95
COMMIT_SECONDS = 20.0
COMMIT_BYTES = 128 * 2**20
#: Held, beside the parts, by the process that fills the store.
LOCK = ".lock"
#: Inputs of a buffer, at least: texts are small and sorted by length in it, images are large.
BUFFER: Mapping[Modality, int] = {"text": 4096, "image": 64, "joint": 64}
#: A buffer holds at least so many batches for each device, so that none waits for its end.
BATCHES_AHEAD = 2
#: How many times larger batches are on a GPU, which is idle with those that suit a CPU.
GPU_BATCHES = 8
#: Inputs that are looked at to say how many tokens there will be; all pictures of a network have
#: as many, but one of these may be unreadable.
SAMPLE: Mapping[Modality, int] = {"text": 256, "image": 4, "joint": 4}


@dataclass
class Extraction:
    """What one encoder did: rows wanted, found in the store, computed; reasons for lost ones.

    `lengths` counts the texts of each length in tokens, of those that were computed.
    """

    encoder: str
    wanted: int
    cached: int
    computed: int = 0
    truncated: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def roomy_length(self) -> int | None:
        """Tokens that hold 95 % of the texts, where more than 10 % were cut; else none.

        None too where the encoder does not say how long its texts are.
        """
        texts = self.lengths.total()
        if not texts or self.truncated <= MANY_CUT * texts:
            return None
        known = sorted(self.lengths)
        whole = accumulate(self.lengths[length] for length in known)
        return next(n for n, fit in zip(known, whole, strict=True) if fit >= ROOMY * texts)

    @property
    def per_second(self) -> float:
        """Rows computed a second, loading the weights included."""
        return self.computed / self.seconds if self.seconds else 0.0


def contents(dataset: Dataset, modality: Modality) -> dict[bytes, Content]:
    """Each distinct content of a modality once, by its key, in the order of the pairs."""
    found: dict[bytes, Content] = {}
    for pair in dataset.pairs:
        key = dataset.key(pair, modality)
        content = _content(pair, modality)
        if key is not None and content is not None:
            found.setdefault(key, content)
    return found


def _content(pair: Pair, modality: Modality) -> Content | None:
    if modality == "joint":
        return None if pair.text is None or pair.image is None else (pair.text, pair.image)
    return pair.text if modality == "text" else pair.image


def extract(
    wanted: Mapping[bytes, Content],
    encoder: Encoder,
    store: FeatureStore,
    *,
    device: str,
    batch_size: int = 0,
    workers: int = 0,
    max_pixels: int = MAX_PIXELS,
    max_image_bytes: int = MAX_IMAGE_BYTES,
    on_size: Callable[[int, int], object] = lambda rows, size: None,
) -> Extraction:
    """Compute the rows that the store lacks and commit them part by part.

    Args:
        wanted: Key to text, to the path of an image, or to both.
        encoder: Its weights are loaded only if a row is missing.
        store: Where rows go.
        device: A torch device's name, or several, as in `cuda:0,cuda:1`.
        batch_size: 0 takes the encoder's own; it halves when memory runs out.
        workers: Threads that prepare inputs; 0 takes one for each core.
        max_pixels: A larger picture is not decoded.
        max_image_bytes: A larger picture file is not read.
        on_size: Called with the rows to come and the bytes that they will take, before the first
            is computed, where tokens are kept.

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
        return _compute(
            wanted,
            encoder,
            store,
            device=device,
            batch_size=batch_size,
            workers=workers,
            max_pixels=max_pixels,
            max_image_bytes=max_image_bytes,
            on_size=on_size,
        )


def _compute(
    wanted: Mapping[bytes, Content],
    encoder: Encoder,
    store: FeatureStore,
    *,
    device: str,
    batch_size: int,
    workers: int,
    max_pixels: int,
    max_image_bytes: int,
    on_size: Callable[[int, int], object],
) -> Extraction:
    missing = {key: wanted[key] for key in store.missing(list(wanted))}
    result = Extraction(encoder.name, len(wanted), len(wanted) - len(missing))
    if not missing:
        return result
    keep_memory()
    start = time.perf_counter()
    names, counts = resolve_devices(device), PrefetchCounts(failed=result.failed)
    on_gpu = names[0].startswith("cuda")
    size = batch_size or encoder.batch_size * (GPU_BATCHES if on_gpu else 1)
    pending: list[tuple[list[bytes], EncoderOutput]] = []
    per_row = 1.0
    last = start
    with (
        threads(1) as loader,  # reads weights beside the first inputs, one network after the other
        threads(workers) as pool,
        progress(f"features {encoder.name}", len(missing)) as bar,
    ):
        devices = [Device(loader.submit(encoder.load, name), size, int(on_gpu)) for name in names]
        if store.token_dim:
            per_row = _tokens_a_row(
                missing,
                encoder.modality,
                devices[0],
                max_pixels=max_pixels,
                max_image_bytes=max_image_bytes,
            )
            on_size(len(missing), _space(store, len(missing), per_row))
            _check_space(store, len(missing), per_row)
        buffers = prefetch(
            missing,
            encoder.modality,
            devices[0].loading,
            pool,
            size=buffer_size(encoder.modality, size, len(devices)),
            counts=counts,
            max_pixels=max_pixels,
            max_image_bytes=max_image_bytes,
        )
        drop = partial(pool.shutdown, wait=False, cancel_futures=True)
        with closing(encode_on(devices, buffers, abandon=drop)) as encoded:
            for keys, features in encoded:
                pending.append((keys, features))
                bar.update(len(keys))
                if _due(pending, last):
                    _commit(store, pending, result, len(missing), per_row)
                    last = time.perf_counter()
        _commit(store, pending, result, len(missing), per_row)
    _tidy(store)
    result.truncated, result.lengths = counts.truncated, counts.lengths
    result.seconds = time.perf_counter() - start
    return result


def buffer_size(modality: Modality, batch_size: int, devices: int) -> int:
    """Inputs that are prepared, and texts that are sorted by length, together."""
    most = batch_size * (MOST_INPUTS if modality == "text" else 1)
    return max(BUFFER[modality], BATCHES_AHEAD * devices * most)


def _due(pending: Sequence[tuple[list[bytes], EncoderOutput]], last: float) -> bool:
    size = sum(found.nbytes for _, found in pending)
    return time.perf_counter() - last > COMMIT_SECONDS or size > COMMIT_BYTES


def _tokens_a_row(
    wanted: Mapping[bytes, Content],
    modality: Modality,
    device: Device,
    *,
    max_pixels: int,
    max_image_bytes: int,
) -> float:
    """Tokens of an input on average, of a sample: one is encoded, of the others the size counts."""
    sample = prepare_sample(
        wanted,
        modality,
        device.loading,
        SAMPLE[modality],
        max_pixels=max_pixels,
        max_image_bytes=max_image_bytes,
    )
    if not sample:
        return 1.0
    [(_, found)] = device.encode(iter([[(b"", sample[0])]]))
    kept = len(found.tokens.values) if isinstance(found, Encoded) else 0
    return kept / sample[0].size * sum(prepared.size for prepared in sample) / len(sample)


def _commit(
    store: FeatureStore,
    pending: list[tuple[list[bytes], EncoderOutput]],
    result: Extraction,
    missing: int,
    per_row: float,
) -> None:
    if not pending:
        return
    try:
        keys = [key for keys, _ in pending for key in keys]
        store.add(keys, *join_found([found for _, found in pending]))
    except StoreError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        left = missing - result.computed
        needed = _space(store, left, per_row) / 2**20
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


def _space(store: FeatureStore, rows: int, per_row: float = 1.0) -> int:
    """Bytes of rows with so many tokens each, if the store keeps tokens."""
    tokens = math.ceil(per_row * store.token_dim * 2) + 24 if store.token_dim else 0
    return rows * (store.dim * 4 + 48 + tokens)


def _check_space(store: FeatureStore, rows: int, per_row: float = 1.0) -> None:
    """Refuse to begin what cannot be kept."""
    needed = _space(store, rows, per_row)
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

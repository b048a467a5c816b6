"""Prefetch: contents are read and prepared in threads, one buffer ahead of the networks.

No more than two buffers of prepared inputs are in memory. What cannot be prepared is counted with
its reason and left out; it stops nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from pairfuse.data.images import MAX_IMAGE_BYTES, MAX_PIXELS, open_image, read_picture
from pairfuse.data.pairs import Modality, joint_key, text_key
from pairfuse.encoders.base import EncoderInput, LoadedEncoder
from pairfuse.errors import DataError

#: Inputs that a thread prepares at a time: to hand over a single text costs more than its tokens.
PORTION: Mapping[Modality, int] = {"text": 64, "image": 1, "joint": 1}

#: A text, the path of an image, or both for a joint encoder.
Content = str | Path | tuple[str, Path]
Buffer = list[tuple[bytes, EncoderInput]]
_Outcomes = list[tuple[bytes, EncoderInput | str]]


@dataclass
class PrefetchCounts:
    """What became of the inputs: how many were cut, how long texts are, why some were lost."""

    truncated: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)


@contextmanager
def threads(count: int | None) -> Iterator[ThreadPoolExecutor]:
    """A pool that drops what is still to be done when its owner ends early."""
    pool = ThreadPoolExecutor(count or os.cpu_count())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def prefetch(
    wanted: Mapping[bytes, Content],
    modality: Modality,
    loading: Future[LoadedEncoder],
    pool: ThreadPoolExecutor,
    *,
    size: int,
    counts: PrefetchCounts,
    max_pixels: int = MAX_PIXELS,
    max_image_bytes: int = MAX_IMAGE_BYTES,
) -> Iterator[Buffer]:
    """Buffers of prepared inputs; the next one is made ready while the caller encodes this one.

    Args:
        wanted: Key to text, to the path of an image, or to both.
        loading: The encoder that prepares them; what needs no encoder is done before it is there.
        size: Inputs of one buffer.
        counts: Filled in as buffers are given out.
        max_pixels: A larger picture is not decoded.
        max_image_bytes: A larger picture file is not read.
    """
    read = partial(_READ[modality], max_pixels=max_pixels, max_image_bytes=max_image_bytes)
    prepare = partial(_prepare, loading, read)
    items = iter(wanted.items())

    def begin() -> list[Future[_Outcomes]]:
        buffer = list(islice(items, size))
        return [pool.submit(prepare, part) for part in _portions(buffer, PORTION[modality])]

    ahead = begin()
    while ahead:
        loading.result()
        current, ahead = ahead, begin()
        outcomes = [outcome for future in current for outcome in future.result()]
        yield list(_kept(outcomes, counts))


def prepare_sample(
    wanted: Mapping[bytes, Content],
    modality: Modality,
    loading: Future[LoadedEncoder],
    count: int,
    *,
    max_pixels: int = MAX_PIXELS,
    max_image_bytes: int = MAX_IMAGE_BYTES,
) -> list[EncoderInput]:
    """Some inputs, evenly spread over those wanted; those that cannot be prepared are left out."""
    items = list(wanted.items())[:: max(1, len(wanted) // count)][:count]
    read = partial(_READ[modality], max_pixels=max_pixels, max_image_bytes=max_image_bytes)
    found = _prepare(loading, read, items)
    return [prepared for _, prepared in found if not isinstance(prepared, str)]


def _portions(
    buffer: Sequence[tuple[bytes, Content]], size: int
) -> Iterator[Sequence[tuple[bytes, Content]]]:
    return (buffer[start : start + size] for start in range(0, len(buffer), size))


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


def _kept(outcomes: _Outcomes, counts: PrefetchCounts) -> Iterator[tuple[bytes, EncoderInput]]:
    for key, prepared in outcomes:
        if isinstance(prepared, str):
            counts.failed[key.hex()] = prepared
            continue
        counts.truncated += prepared.truncated
        if prepared.length:
            counts.lengths[prepared.length] += 1
        yield key, prepared


def _read_text(
    key: bytes,
    content: Content,
    loading: Future[LoadedEncoder],
    *,
    max_pixels: int,
    max_image_bytes: int,
) -> str:
    return str(content)


def _read_image(
    key: bytes,
    content: Content,
    loading: Future[LoadedEncoder],
    *,
    max_pixels: int,
    max_image_bytes: int,
) -> Any:
    assert isinstance(content, Path)
    data = read_picture(content, max_bytes=max_image_bytes)
    if hashlib.sha256(data).digest() != key:
        raise DataError(_CHANGED)
    return open_image(data, max_pixels=max_pixels, draft=getattr(loading.result(), "draft", 0))


def _read_joint(
    key: bytes,
    content: Content,
    loading: Future[LoadedEncoder],
    *,
    max_pixels: int,
    max_image_bytes: int,
) -> tuple[str, Any]:
    assert isinstance(content, tuple)
    text, path = content
    data = read_picture(path, max_bytes=max_image_bytes)
    if joint_key(text_key(text), hashlib.sha256(data).digest()) != key:
        raise DataError(_CHANGED)
    return text, open_image(
        data, max_pixels=max_pixels, draft=getattr(loading.result(), "draft", 0)
    )


_CHANGED = "the file changed while it was read"
_READ: Mapping[Modality, Callable[..., Any]] = {
    "text": _read_text,
    "image": _read_image,
    "joint": _read_joint,
}

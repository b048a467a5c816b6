"""Inputs: contents are read and prepared in threads, one window ahead of the networks.

No more than two windows of prepared inputs are in memory. What cannot be prepared is named in the
tally and left out; it stops nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from pairfuse.data.images import MAX_PIXELS, open_image
from pairfuse.data.pairs import Modality, joint_key, text_key
from pairfuse.encoders.base import LoadedEncoder, Prepared
from pairfuse.errors import DataError
from pairfuse.files import read_bytes

#: Inputs that a thread prepares at a time: to hand over a single text costs more than its tokens.
PORTION: Mapping[Modality, int] = {"text": 64, "image": 1, "joint": 1}

#: A text, the path of an image, or both for a joint encoder.
Content = str | Path | tuple[str, Path]
Window = list[tuple[bytes, Prepared]]
_Outcomes = list[tuple[bytes, Prepared | str]]


@dataclass
class Tally:
    """What became of the inputs: how many were cut, and why some were lost."""

    truncated: int = 0
    failed: dict[str, str] = field(default_factory=dict)


@contextmanager
def threads(count: int | None) -> Iterator[ThreadPoolExecutor]:
    """A pool that drops what is still to be done when its owner ends early."""
    pool = ThreadPoolExecutor(count or os.cpu_count())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def prepared_windows(
    wanted: Mapping[bytes, Content],
    modality: Modality,
    loading: Future[LoadedEncoder],
    pool: ThreadPoolExecutor,
    *,
    size: int,
    tally: Tally,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Window]:
    """Windows of prepared inputs; the next one is made ready while the caller encodes this one.

    Args:
        wanted: Key to text, to the path of an image, or to both.
        loading: The encoder that prepares them; what needs no encoder is done before it is there.
        size: Inputs of one window.
        tally: Filled in as windows are given out.
        max_pixels: A larger picture is not decoded.
    """
    prepare = partial(_prepare, loading, partial(_READ[modality], max_pixels=max_pixels))
    items = iter(wanted.items())

    def begin() -> list[Future[_Outcomes]]:
        window = list(islice(items, size))
        return [pool.submit(prepare, part) for part in _portions(window, PORTION[modality])]

    ahead = begin()
    while ahead:
        loading.result()
        current, ahead = ahead, begin()
        outcomes = [outcome for future in current for outcome in future.result()]
        yield list(_kept(outcomes, tally))


def prepare_sample(
    wanted: Mapping[bytes, Content],
    modality: Modality,
    loading: Future[LoadedEncoder],
    count: int,
    *,
    max_pixels: int = MAX_PIXELS,
) -> list[Prepared]:
    """Some inputs, evenly spread over those wanted; those that cannot be prepared are left out."""
    items = list(wanted.items())[:: max(1, len(wanted) // count)][:count]
    found = _prepare(loading, partial(_READ[modality], max_pixels=max_pixels), items)
    return [prepared for _, prepared in found if not isinstance(prepared, str)]


def _portions(
    window: Sequence[tuple[bytes, Content]], size: int
) -> Iterator[Sequence[tuple[bytes, Content]]]:
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


def _kept(outcomes: _Outcomes, tally: Tally) -> Iterator[tuple[bytes, Prepared]]:
    for key, prepared in outcomes:
        if isinstance(prepared, str):
            tally.failed[key.hex()] = prepared
            continue
        tally.truncated += prepared.truncated
        yield key, prepared


def _read_text(
    key: bytes, content: Content, loading: Future[LoadedEncoder], *, max_pixels: int
) -> str:
    return str(content)


def _read_image(
    key: bytes, content: Content, loading: Future[LoadedEncoder], *, max_pixels: int
) -> Any:
    assert isinstance(content, Path)
    data = _image_bytes(content)
    if hashlib.sha256(data).digest() != key:
        raise DataError(_CHANGED)
    return open_image(data, max_pixels=max_pixels, draft=getattr(loading.result(), "draft", 0))


def _read_joint(
    key: bytes, content: Content, loading: Future[LoadedEncoder], *, max_pixels: int
) -> tuple[str, Any]:
    assert isinstance(content, tuple)
    text, path = content
    data = _image_bytes(path)
    if joint_key(text_key(text), hashlib.sha256(data).digest()) != key:
        raise DataError(_CHANGED)
    return text, open_image(
        data, max_pixels=max_pixels, draft=getattr(loading.result(), "draft", 0)
    )


def _image_bytes(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error


_CHANGED = "the file changed while it was read"
_READ: Mapping[Modality, Callable[..., Any]] = {
    "text": _read_text,
    "image": _read_image,
    "joint": _read_joint,
}

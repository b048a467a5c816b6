"""Image facts: every image file is looked at once, by content; later runs read what was found.

They are kept in one file, a JSON line per digest under a header that proves them; a file that was
cut or changed is made again, never trusted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from pairfuse.console import log, progress
from pairfuse.data.images import MAX_IMAGE_BYTES, MAX_PIXELS, look, read_picture
from pairfuse.data.pairs import ImageFacts
from pairfuse.errors import DataError
from pairfuse.files import read_bytes, write_bytes

#: Raised when `look` notes other things, or judges otherwise.
FACTS_VERSION = 1


def image_facts_file(cache: Path) -> Path:
    """Where a cache folder keeps them; pictures unpacked from tables lie beside it."""
    return cache / "image_facts" / "images.jsonl"


def read_image_facts(
    paths: Sequence[Path],
    file: Path | None,
    *,
    max_pixels: int = MAX_PIXELS,
    max_image_bytes: int = MAX_IMAGE_BYTES,
) -> list[ImageFacts]:
    """Facts of each image, in order; only contents that the file does not know are decoded.

    Args:
        paths: Image files; one that cannot be read gets its reason in `error`.
        file: Where the facts are kept between runs; None keeps nothing.
        max_pixels: Bound on the pixels of a picture.
        max_image_bytes: Bound on the bytes of its file; a larger one is not read.

    Raises:
        OSError: The system failed to read an image just now; nothing is kept.
    """
    known = load_facts(file, max_pixels)
    with ThreadPoolExecutor(_workers()) as pool, progress("looking at images", len(paths)) as bar:

        def one(path: Path) -> ImageFacts:
            facts = _look_once(path, known, max_pixels, max_image_bytes)
            bar.update()
            return facts

        found = list(pool.map(one, paths, chunksize=1))
    fresh = {facts.digest: facts for facts in found if facts.digest and facts.digest not in known}
    if fresh and file is not None:  # read again: another process may have added to it
        save_facts(file, {**load_facts(file, max_pixels), **fresh}, max_pixels)
    return found


def mark_unreadable(file: Path, reasons: dict[str, str], *, max_pixels: int = MAX_PIXELS) -> None:
    """Keep that these digests failed later on, when an encoder decoded them in full."""
    known = load_facts(file, max_pixels)
    for digest, reason in reasons.items():
        facts = known.get(digest) or ImageFacts(digest=digest, size=0)
        known[digest] = replace(facts, error=reason)
    save_facts(file, known, max_pixels)


def load_facts(file: Path | None, max_pixels: int) -> dict[str, ImageFacts]:
    """What earlier runs found under the same rules; empty if there is nothing to trust."""
    if file is None or not file.is_file():
        return {}
    header, _, body = read_bytes(file).partition(b"\n")
    if header != _header(body, max_pixels):
        log.warning("%s was cut, changed or made by other rules: images are looked at again", file)
        return {}
    try:
        return {facts.digest: facts for facts in map(_facts, body.splitlines())}
    except (TypeError, ValueError, RecursionError):
        log.warning("%s does not hold facts about images: they are looked at again", file)
        return {}


def save_facts(file: Path, facts: dict[str, ImageFacts], max_pixels: int) -> None:
    """Write the file whole, under a header that proves it."""
    body = b"".join(
        json.dumps(asdict(facts[digest]), separators=(",", ":")).encode() + b"\n"
        for digest in sorted(facts)
    )
    write_bytes(file, _header(body, max_pixels) + b"\n" + body)


def _facts(line: bytes) -> ImageFacts:
    facts = ImageFacts(**json.loads(line))
    texts = (facts.digest, facts.mode, facts.format, facts.error)
    numbers = (facts.size, facts.width, facts.height, facts.phash)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a text is of another type")
    if not all(type(number) is int and 0 <= number < 2**64 for number in numbers):
        raise TypeError("a number is of another type or size")
    return facts


def _look_once(
    path: Path, known: dict[str, ImageFacts], max_pixels: int, max_image_bytes: int
) -> ImageFacts:
    try:
        data = read_picture(path, max_bytes=max_image_bytes)
    except DataError as error:
        return ImageFacts(digest="", size=_size(path), error=str(error))
    return known.get(hashlib.sha256(data).hexdigest()) or look(data, max_pixels=max_pixels)


def _size(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except (OSError, ValueError):
        return 0


def _header(body: bytes, max_pixels: int) -> bytes:
    import PIL

    rules = f"version={FACTS_VERSION} pillow={PIL.__version__} max_pixels={max_pixels}"
    return f"pairfuse-image-facts {rules} sha256={hashlib.sha256(body).hexdigest()}".encode()


def _workers() -> int:
    return min(8, os.cpu_count() or 1)

"""Image census: every image file is looked at once, by content; later runs read what was noted.

The notes are one JSON line per digest under a header that proves them; a census that was cut or
changed is taken again, never trusted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from pairfuse.console import log, progress
from pairfuse.data.images import MAX_PIXELS, look
from pairfuse.data.pairs import ImageFacts
from pairfuse.files import read_bytes, write_bytes

#: Raised when `look` notes other things, or judges otherwise.
CENSUS_VERSION = 1


def take_census(
    paths: Sequence[Path], notes: Path | None, *, max_pixels: int = MAX_PIXELS
) -> list[ImageFacts]:
    """Facts of each file, in order; only contents that the notes do not know are decoded.

    Args:
        paths: Image files; one that cannot be read gets its reason in `error`.
        notes: Where to keep what was found; None keeps nothing.
        max_pixels: Bound on the pixels of a picture.
    """
    known = load_notes(notes, max_pixels)
    with ThreadPoolExecutor(_workers()) as pool, progress("looking at images", len(paths)) as bar:

        def one(path: Path) -> ImageFacts:
            facts = _look_once(path, known, max_pixels)
            bar.update()
            return facts

        found = list(pool.map(one, paths, chunksize=1))
    fresh = {facts.digest: facts for facts in found if facts.digest and facts.digest not in known}
    if fresh and notes is not None:
        save_notes(notes, {**load_notes(notes, max_pixels), **fresh}, max_pixels)
    return found


def note_bad(notes: Path, reasons: dict[str, str], *, max_pixels: int = MAX_PIXELS) -> None:
    """Keep that these digests failed later on, when an encoder decoded them in full."""
    known = load_notes(notes, max_pixels)
    for digest, reason in reasons.items():
        facts = known.get(digest) or ImageFacts(digest, 0)
        known[digest] = ImageFacts(**{**asdict(facts), "error": reason})
    save_notes(notes, known, max_pixels)


def load_notes(notes: Path | None, max_pixels: int) -> dict[str, ImageFacts]:
    """What earlier runs noted under the same rules; empty if there is nothing to trust."""
    if notes is None or not notes.is_file():
        return {}
    header, _, body = read_bytes(notes).partition(b"\n")
    if header != _header(body, max_pixels):
        log.warning("%s was cut, changed or made by other rules: images are looked at again", notes)
        return {}
    try:
        return {facts.digest: facts for facts in map(_facts, body.splitlines())}
    except (TypeError, ValueError, RecursionError):
        log.warning("%s does not hold facts about images: they are looked at again", notes)
        return {}


def save_notes(notes: Path, facts: dict[str, ImageFacts], max_pixels: int) -> None:
    """Write the notes whole, under a header that proves them."""
    body = b"".join(
        json.dumps(asdict(facts[digest]), separators=(",", ":")).encode() + b"\n"
        for digest in sorted(facts)
    )
    write_bytes(notes, _header(body, max_pixels) + b"\n" + body)


def _facts(line: bytes) -> ImageFacts:
    facts = ImageFacts(**json.loads(line))
    words, numbers = (facts.digest, facts.mode, facts.format, facts.error), asdict(facts)
    counts = [numbers[name] for name in ("size", "width", "height", "phash")]
    if not all(isinstance(word, str) for word in words):
        raise TypeError("a word is none")
    if not all(type(count) is int and 0 <= count < 2**64 for count in counts):
        raise TypeError("a number is none")
    return facts


def _look_once(path: Path, known: dict[str, ImageFacts], max_pixels: int) -> ImageFacts:
    try:
        data = read_bytes(path)
    except OSError as error:
        return ImageFacts("", 0, error=f"cannot be read ({error.strerror})")
    return known.get(hashlib.sha256(data).hexdigest()) or look(data, max_pixels=max_pixels)


def _header(body: bytes, max_pixels: int) -> bytes:
    import PIL

    rules = f"version={CENSUS_VERSION} pillow={PIL.__version__} max_pixels={max_pixels}"
    return f"pairfuse-census {rules} sha256={hashlib.sha256(body).hexdigest()}".encode()


def _workers() -> int:
    return min(8, os.cpu_count() or 1)

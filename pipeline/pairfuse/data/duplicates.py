"""Duplicates: which pairs are the same thing, so that no two folds share one.

A group is transitive: A has the text of B, B has the image of C, so all three stay together. Equal
texts are the same thing at any length; but a short one that much of the data set shares ("ok", one
emoji) says little, and pairs of it are the same only where their image is the same too.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pairfuse.arrays import Ints

if TYPE_CHECKING:
    from PIL import Image

    from pairfuse.data.pairs import Dataset

Hashes = NDArray[np.uint64]
Kind = Literal["same text", "same image bytes", "near image", "any of these"]
KINDS: tuple[Kind, ...] = ("same text", "same image bytes", "near image", "any of these")

MAX_DISTANCE = 4
#: "good morning" has twelve characters; shorter texts repeat by chance where many write them.
SHORT_TEXT = 12
#: A short text in more pairs than this share, and this number, is common.
COMMON_SHARE, COMMON_PAIRS = 0.02, 20
FLAT_HASH_BITS = 16  # a picture sets about 32 of the 64 bits, a blank one hardly any or all
FLAT_RANGE = 8  # grey levels; below it the hash is made of JPEG noise
EDGES_AT_ONCE = 2_000_000

# Twitter cuts links at the end of a text: "http://t.c…", "http:…", "htt…".
URL = re.compile(
    r"https?:[!-~]*|(?:www\.|pic\.twitter\.com/|t\.co/)[!-~]*|\bh(?:t(?:tp?s?)?)?\.{2,}|\bhttps?$"
)
RETWEET = re.compile(r"^(?:\W*rt\s+@\w+\s*:?)+")
MENTION = re.compile(r"@\w+")
NOT_WORD = re.compile(r"[\W_]+")
EMOJI_STYLE = re.compile("[\ufe00-\ufe0f]")


@dataclass(frozen=True)
class Twins:
    """Pairs that are one thing in one respect, in file order.

    `across` says that test pairs and train or val pairs are among them; `labels` are the distinct
    known labels, so more than one means that the labels disagree.
    """

    kind: Kind
    guids: tuple[str, ...]
    across: bool
    labels: tuple[str, ...]


def normalise_text(text: str) -> str:
    """Reduce a text to the words that make two copies of it equal.

    Links, retweet marks and mentions go: the same advert is sent to a hundred names. Words of
    hashtags stay. Anything that is no letter, digit or combining mark becomes one space.
    """
    plain = unicodedata.normalize("NFKC", html.unescape(text)).casefold().strip()
    plain = MENTION.sub(" ", RETWEET.sub(" ", URL.sub(" ", plain)))
    if plain.isascii():
        return NOT_WORD.sub(" ", plain).strip()
    # \w leaves out vowel signs, without which different Hindi or Thai words become equal.
    kept = (char if _is_word(char) else " " for char in EMOJI_STYLE.sub("", plain))
    return " ".join("".join(kept).split())


def perceptual_hash(image: Image.Image) -> int:
    """Hash what an image shows into 64 bits (imagehash's phash); 0 for a blank image.

    Near images differ in few bits. The image is taken as it stands: turn it upright before.
    """
    import imagehash
    from PIL import Image as Pillow

    low, high = image.convert("L").resize((32, 32), Pillow.Resampling.BOX).getextrema()
    if int(high) - int(low) < FLAT_RANGE:  # type: ignore[arg-type]  # one band: two plain numbers
        return 0
    return int(str(imagehash.phash(image)), 16)


def duplicate_groups(dataset: Dataset, *, max_distance: int = MAX_DISTANCE) -> Ints:
    """Number the groups of pairs that share a text, an image or a near image.

    Args:
        dataset: Needs no image to be opened again; the hashes are in its image facts.
        max_distance: Near images differ in at most so many of 64 bits.

    Returns:
        Shape (N,), aligned with `dataset.pairs`; numbered in order of first appearance.
    """
    found = (_same_text(dataset), _same_bytes(dataset), _near_image(dataset, max_distance))
    return reduce(_join, found)


def twins(dataset: Dataset, *, max_distance: int = MAX_DISTANCE) -> tuple[Twins, ...]:
    """List every group of two or more pairs, for each kind of relation and for all together.

    "near image" leaves out groups in which all files are equal byte for byte.
    """
    text, same = _same_text(dataset), _same_bytes(dataset)
    near = _near_image(dataset, max_distance)
    together = reduce(_join, (text, same, near))
    found: list[Twins] = []
    for kind, groups in zip(KINDS, (text, same, near, together), strict=True):
        for rows in _several(groups):
            if kind == "near image" and len(set(same[rows].tolist())) == 1:
                continue
            found.append(_twins(dataset, kind, rows))
    return tuple(found)


def _twins(dataset: Dataset, kind: Kind, rows: Ints) -> Twins:
    pairs = [dataset.pairs[row] for row in rows]
    in_test = {pair.split == "test" for pair in pairs}
    labels = {pair.label for pair in pairs if pair.label is not None}
    return Twins(kind, tuple(pair.guid for pair in pairs), len(in_test) == 2, tuple(sorted(labels)))


def _is_word(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char) in ("Mn", "Mc")


def common_texts(dataset: Dataset) -> dict[str, int]:
    """Short texts that so many pairs share that they alone make no duplicate, with how many do."""
    return _common([_text_key(pair.text) for pair in dataset.pairs])


def _text_key(text: str | None) -> str:
    """What equal texts share: their words, or where they have none (emoji alone) all of it."""
    return normalise_text(text or "") or " ".join((text or "").casefold().split())


def _common(keys: Sequence[str]) -> dict[str, int]:
    least = max(COMMON_PAIRS, COMMON_SHARE * len(keys))
    counts = Counter(key for key in keys if 0 < len(key) < SHORT_TEXT)
    return {key: count for key, count in counts.most_common() if count > least}


def _same_text(dataset: Dataset) -> Ints:
    keys = [_text_key(pair.text) for pair in dataset.pairs]
    common = _common(keys)
    # Pairs of a common text that have an image are grouped by it; those without have nothing else.
    return _same(
        key if key and (key not in common or pair.image is None) else None
        for key, pair in zip(keys, dataset.pairs, strict=True)
    )


def _same_bytes(dataset: Dataset) -> Ints:
    # Files that cannot be read tell nothing: all empty ones have the same digest.
    facts = (dataset.images.get(pair.guid) for pair in dataset.pairs)
    return _same(fact.digest or None if fact and not fact.error else None for fact in facts)


def _same(keys: Iterable[Hashable | None]) -> Ints:
    """Number rows by equal key; a row without a key is alone."""
    first: dict[Hashable, int] = {}
    rows = [row if key is None else first.setdefault(key, row) for row, key in enumerate(keys)]
    return _numbered(np.array(rows, dtype=np.int64))


def _near_image(dataset: Dataset, max_distance: int) -> Ints:
    facts = [dataset.images.get(pair.guid) for pair in dataset.pairs]
    hashes = np.array([0 if f is None or f.error else f.phash for f in facts], dtype=np.uint64)
    bits = np.bitwise_count(hashes)
    rows = np.flatnonzero((bits >= FLAT_HASH_BITS) & (bits <= 64 - FLAT_HASH_BITS))
    unique, first, inverse = np.unique(hashes[rows], return_index=True, return_inverse=True)

    groups = np.arange(len(unique), dtype=np.int64)
    for left, right in _batched(_near_links(unique, max_distance)):
        groups = _linked(groups, left, right)
    # Every row takes the first row of the first hash of its group as its name.
    leader = np.full(len(unique), len(facts), dtype=np.int64)
    np.minimum.at(leader, groups, rows[first])
    named = np.arange(len(facts), dtype=np.int64)
    named[rows] = leader[groups[inverse]]
    return _numbered(named)


def _near_links(hashes: Hashes, max_distance: int) -> Iterator[tuple[Ints, Ints]]:
    """Give links between unique hashes that differ in at most `max_distance` bits.

    Pigeonhole: cut into max_distance + 2 bands, two such hashes are equal in two of them. So for
    each two bands rows are sorted by them and each is compared with the next, the one after it,
    ... of its bucket: one vectorised step per shift, memory of the order of the rows whatever
    the buckets. (One band of max_distance + 1 makes buckets a thousand times larger.)

    Raises:
        ValueError: `max_distance` is not in [0, 31].
    """
    if not 0 <= max_distance <= 31:
        raise ValueError(f"max_distance must be from 0 to 31, found {max_distance}")
    cuts = [64 * band // (max_distance + 2) for band in range(max_distance + 3)]
    masks = [(1 << high) - (1 << low) for low, high in pairwise(cuts)]
    for one, other in combinations(masks, 2):
        bucket = hashes & np.uint64(one | other)
        order = np.argsort(bucket, kind="stable")
        ordered, bucket = hashes[order], bucket[order]
        bucket_end = np.searchsorted(bucket, bucket, side="right")
        left, shift = np.arange(len(hashes), dtype=np.int64), 0
        while len(left):
            shift += 1
            left = left[left + shift < bucket_end[left]]
            distance = np.bitwise_count(ordered[left] ^ ordered[left + shift])
            close = left[distance <= max_distance]
            if len(close):
                yield order[close], order[close + shift]


def _batched(links: Iterator[tuple[Ints, Ints]]) -> Iterator[tuple[Ints, Ints]]:
    """Collect small links into large ones, but never more than memory likes."""
    waiting: list[tuple[Ints, Ints]] = []
    size = 0
    for link in links:
        waiting.append(link)
        size += len(link[0])
        if size >= EDGES_AT_ONCE:
            yield _stacked(waiting)
            waiting, size = [], 0
    if waiting:
        yield _stacked(waiting)


def _stacked(links: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    lefts, rights = zip(*links, strict=True)
    return np.concatenate(lefts), np.concatenate(rights)


def _join(groups: Ints, others: Ints) -> Ints:
    """Merge two numberings of the same rows: rows together in either are together."""
    _, first, inverse = np.unique(others, return_index=True, return_inverse=True)
    return _numbered(_linked(groups, np.arange(len(others), dtype=np.int64), first[inverse]))


def _linked(groups: Ints, left: Ints, right: Ints) -> Ints:
    """Merge the groups of the rows `left` with those of the rows `right`."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count = int(groups.max(initial=-1)) + 1
    if count == 0:
        return groups
    ends = (groups[left], groups[right])
    graph = coo_matrix((np.ones(len(left), dtype=bool), ends), shape=(count, count))
    _, merged = connected_components(graph, directed=False)
    return np.asarray(merged, dtype=np.int64)[groups]


def _numbered(groups: Ints) -> Ints:
    """Renumber groups 0, 1, ... in order of first appearance."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _several(groups: Ints) -> list[Ints]:
    """Rows of each group that has two or more, in file order."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    return [rows for rows in np.split(order, starts[1:]) if len(rows) > 1]

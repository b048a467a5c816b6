"""TF-IDF: which terms a fold's training rows have, and how much each says; fitted without labels.

Gives what scikit-learn's `TfidfVectorizer` gives, fitted on those rows alone, but counts each text
once for all folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pairfuse.arrays import Floats, Ints
from pairfuse.features.texts import ANALYZERS, Texts, TextTable

#: Training rows that a term must be in.
MIN_ROWS = 2
#: Between terms that are stored; as white space it is in none.
_BETWEEN = "\n"


@dataclass(frozen=True)
class Terms:
    """One analyzer's terms with their inverse document frequencies."""

    names: tuple[str, ...]  # (V,), sorted
    idf: Floats  # (V,)
    #: The table that they were taken from, with `columns` of its terms, which take long to find.
    origin: tuple[TextTable, Ints] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    def columns(self, names: tuple[str, ...]) -> Ints:
        """Column of each of these terms, -1 where it is none of ours."""
        places = self._places
        return np.array([places.get(name, -1) for name in names], dtype=np.int64)

    def columns_in(self, table: TextTable, names: tuple[str, ...]) -> Ints:
        """The same of a table's terms."""
        if self.origin is not None and self.origin[0] is table:
            return self.origin[1]
        return self.columns(names)

    def weigh(self, counts: sparse.csr_array, columns: Ints) -> sparse.csr_array:
        """Counts (N, W) of terms in these columns to unit rows (N, V)."""
        found = columns[counts.indices]
        kept = found >= 0
        starts = np.concatenate([[0], np.cumsum(kept)])[counts.indptr]
        found = found[kept]
        values = (1 + np.log(counts.data[kept])) * self.idf[found]
        rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        squares = np.bincount(rows, weights=values.astype(np.float64) ** 2, minlength=len(starts))
        values = (values / np.sqrt(squares)[rows]).astype(np.float32)
        shape = (counts.shape[0], len(self.names))
        return sparse.csr_array(
            (values, found.astype(np.int32), starts.astype(np.int32)), shape=shape
        )


@dataclass(frozen=True)
class Tfidf:
    """Terms of each analyzer: words alone and in pairs, characters within words."""

    blocks: tuple[Terms, ...]

    @property
    def width(self) -> int:
        return sum(len(block.names) for block in self.blocks)

    def transform(self, texts: Texts) -> sparse.csr_array:
        """Rows (N, V), of length 1 for each analyzer; zero where there is no text."""
        parts = [
            block.weigh(counts[texts.index], block.columns_in(texts.table, names))
            for block, (counts, names) in zip(self.blocks, texts.table.counts, strict=True)
        ]
        return sparse.csr_array(sparse.hstack(parts, format="csr"))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The terms of each analyzer as bytes of UTF-8, and all frequencies."""
        out: dict[str, NDArray[Any]] = {"idf": np.concatenate([b.idf for b in self.blocks])}
        for number, block in enumerate(self.blocks):
            data = _BETWEEN.join(block.names).encode("utf-8", "surrogatepass")
            out[f"terms/{number}"] = np.frombuffer(data, dtype=np.uint8)
        return out


def fit_tfidf(texts: Texts) -> Tfidf:
    """Take the terms that at least `MIN_ROWS` of these rows have; rows without a text count not."""
    index = texts.index[texts.present]
    blocks = []
    for counts, names in texts.table.counts:
        rows = np.bincount(counts[index].indices, minlength=len(names))  # document frequencies
        kept = np.flatnonzero(rows >= MIN_ROWS)
        idf = np.log((1 + len(index)) / (1 + rows[kept])) + 1
        columns = np.full(len(names), -1, dtype=np.int64)
        columns[kept] = np.arange(len(kept))
        chosen = tuple(names[at] for at in kept.tolist())
        blocks.append(Terms(chosen, idf.astype(np.float32), (texts.table, columns)))
    return Tfidf(tuple(blocks))


def load_tfidf(arrays: Mapping[str, NDArray[Any]], sizes: list[int]) -> Tfidf:
    """Terms of `Tfidf.arrays`; `sizes` are their numbers.

    Raises:
        ValueError: They do not agree.
    """
    if len(sizes) != len(ANALYZERS) or arrays["idf"].shape != (sum(sizes),):
        raise ValueError(f"there are frequencies of {arrays['idf'].shape} for {sizes} terms")
    blocks = []
    for number, idf in enumerate(np.split(arrays["idf"], np.cumsum(sizes)[:-1])):
        stored = arrays[f"terms/{number}"]
        if stored.dtype != np.uint8:
            raise ValueError(f"terms are stored as {stored.dtype}, not as bytes")
        text = stored.tobytes().decode("utf-8", "surrogatepass")
        names = tuple(text.split(_BETWEEN)) if text else ()
        if len(set(names)) != len(idf) or len(names) != len(idf):
            raise ValueError(f"{len(names)} terms are stored, {len(idf)} different ones are meant")
        blocks.append(Terms(names, idf))
    return Tfidf(tuple(blocks))

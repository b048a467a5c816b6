"""Texts: the raw texts of N rows, counted once for all folds; nothing here looks at a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pairfuse.arrays import Bools, Ints
from pairfuse.data.pairs import one_text
from pairfuse.errors import DataError, shown

#: What is counted, in this order: scikit-learn's words, and characters within words.
ANALYZERS: tuple[dict[str, Any], ...] = (
    {"analyzer": "word", "ngram_range": (1, 2)},
    {"analyzer": "char_wb", "ngram_range": (2, 5)},
)


@dataclass(frozen=True, eq=False, repr=False)
class TextTable:
    """Different texts, the last of them empty, and how often each term is in each."""

    strings: tuple[str, ...]  # (U,)

    @cached_property
    def counts(self) -> tuple[tuple[sparse.csr_array, tuple[str, ...]], ...]:
        """For each analyzer the counts (U, V), float32, and their V terms, sorted.

        Computed when first asked for. Every term is kept, those of one text too: what a row
        becomes must not depend on the rows beside it.
        """
        return tuple(_counts(self.strings, options) for options in ANALYZERS)


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts of N rows, among those of a table that all its selections share.

    >>> texts = Texts.of(["two words", None, "words"])
    >>> len(texts), texts.present.tolist(), texts.rows([2, 1]).strings
    (3, [True, False, True], ['words', None])
    """

    table: TextTable
    index: Ints  # (N,), place in the table; -1, which is the empty text, where there is none

    @classmethod
    def of(cls, strings: Sequence[str | None]) -> Texts:
        """Texts of rows, None where there is none.

        Raises:
            DataError: One of them is something else.
        """
        places: dict[str, int] = {}
        for row, text in enumerate(strings):
            if text is not None and not isinstance(text, str):
                raise DataError(f"text {row} is {shown(text)}; give a str, or None where it lacks")
        index = [-1 if t is None else places.setdefault(t, len(places)) for t in strings]
        return cls(TextTable((*places, "")), np.array(index, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"Texts({len(self)} rows, {int(self.present.sum())} with a text)"

    @property
    def present(self) -> Bools:
        """Where there is a text, shape (N,)."""
        return np.asarray(self.index >= 0)

    @property
    def strings(self) -> list[str | None]:
        return [None if at < 0 else self.table.strings[at] for at in self.index.tolist()]

    def rows(self, index: NDArray[np.integer] | Bools | Sequence[int]) -> Texts:
        """The chosen rows, of the same table."""
        return Texts(self.table, self.index[index])

    def blank(self) -> Texts:
        """As many rows, none of which has a text."""
        return Texts(self.table, np.full_like(self.index, -1))


def _counts(
    strings: Sequence[str], options: dict[str, Any]
) -> tuple[sparse.csr_array, tuple[str, ...]]:
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(**options, dtype=np.float32)
    try:
        found = vectorizer.fit_transform([one_text(text) for text in strings])
    except ValueError:  # no text has a term
        return sparse.csr_array((len(strings), 0), dtype=np.float32), ()
    return sparse.csr_array(found), tuple(vectorizer.get_feature_names_out().tolist())

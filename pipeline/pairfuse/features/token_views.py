"""Token rows: sequences of N rows that stay on disk and are read, proven, batch by batch.

What is mapped stays readable when another process joins or removes the parts meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pairfuse.arrays import Bools, Floats, Ints
from pairfuse.encoders.tokens import Halves, Tokens
from pairfuse.features.part import Part, check_tokens
from pairfuse.features.store import FeatureStore

#: Rows that are read at a time to be held in memory.
_PIECE = 256


@dataclass(frozen=True)
class HeldTokens:
    """Sequences of N rows in memory, read and proven once."""

    values: Halves  # (S, D), all tokens, row after row
    offsets: Ints  # (N + 1,)

    def take(self, index: NDArray[np.integer]) -> tuple[Floats, Bools]:
        """As `TokenRows.take`, which gives the same numbers."""
        starts = self.offsets[index]
        lengths = self.offsets[np.asarray(index) + 1] - starts
        mask = np.arange(max(1, int(lengths.max(initial=0)))) < lengths[:, None]
        out = np.zeros((*mask.shape, self.values.shape[1]), dtype=np.float32)
        row, at = np.nonzero(mask)
        out[mask] = self.values[starts[row] + at]
        return out, mask


@dataclass(frozen=True)
class TokenRows:
    """Sequences of N rows, `{i: (T_i, D)}`; a row without one has length 0."""

    parts: tuple[tuple[Part, Tokens], ...]  # each with its tokens, memory-mapped
    part: Ints  # (N,), number of the part of each row, -1 where there is no sequence
    row: Ints  # (N,), its row in that part
    lengths: Ints  # (N,)
    dim: int
    #: From tokens as they are stored, (n, D), to those that are given, (n, dim).
    transform: Callable[[Floats], Floats] | None = None

    def __len__(self) -> int:
        return len(self.part)

    def rows(self, index: NDArray[np.integer] | Bools) -> TokenRows:
        """The chosen rows; nothing is read."""
        return replace(
            self, part=self.part[index], row=self.row[index], lengths=self.lengths[index]
        )

    def through(self, transform: Callable[[Floats], Floats], dim: int) -> TokenRows:
        """The same rows, whose tokens are transformed, one by one, when they are taken."""
        return replace(self, transform=transform, dim=dim)

    @property
    def size(self) -> int:
        """Bytes of all their tokens, as float16."""
        return 2 * int(self.lengths.sum()) * self.dim

    def held(self) -> HeldTokens:
        """Read all of them into memory, transformed.

        Raises:
            StoreError: A row is damaged.
        """
        values = np.empty((int(self.lengths.sum()), self.dim), dtype=np.float16)
        filled = 0
        for start in range(0, len(self), _PIECE):
            tokens, mask = self.take(np.arange(start, min(start + _PIECE, len(self))))
            found = tokens[mask]
            values[filled : filled + len(found)] = found
            filled += len(found)
        return HeldTokens(values, np.concatenate([[0], np.cumsum(self.lengths)]))

    def take(self, index: NDArray[np.integer]) -> tuple[Floats, Bools]:
        """Sequences of the chosen rows, padded with zeros to the longest among them.

        Returns:
            Values (B, T, D), float32 that a float16 can hold, and which of them are tokens, (B, T).
            T is at least 1; a row without a sequence has no token.

        Raises:
            StoreError: A row is damaged.
        """
        values, mask = self._stored(index)
        if self.transform is None:
            return values.astype(np.float32), mask
        out = np.zeros((*mask.shape, self.dim), dtype=np.float32)
        out[mask] = self.transform(values[mask].astype(np.float32)).astype(np.float16)
        return out, mask

    def _stored(self, index: NDArray[np.integer]) -> tuple[Halves, Bools]:
        lengths = self.lengths[index]
        longest = max(1, int(lengths.max(initial=0)))
        stored = self.parts[0][1].values.shape[1] if self.parts else self.dim
        out = np.zeros((len(index), longest, stored), dtype=np.float16)
        part, row = self.part[index], self.row[index]
        for place in np.flatnonzero(part >= 0).tolist():
            source, tokens = self.parts[part[place]]
            start, end = tokens.offsets[row[place]], tokens.offsets[row[place] + 1]
            found = out[place, : end - start]
            found[:] = tokens.values[start:end]
            # what was copied is proven, not what lies on disk by then
            own = Tokens(found, np.array([0, end - start]))
            check_tokens(source, row[place : place + 1], own)
        return out, np.arange(longest) < lengths[:, None]


def open_tokens(store: FeatureStore, keys: Sequence[bytes | None]) -> TokenRows:
    """Find the sequences of these keys; None is a row without one.

    Raises:
        StoreError: A key is not in the store, or it keeps no tokens.
    """
    there = np.array([key is not None for key in keys], dtype=bool)
    part, row = np.full(len(keys), -1, np.int64), np.zeros(len(keys), np.int64)
    lengths = np.zeros(len(keys), np.int64)
    parts, part[there], row[there] = store.mapped_tokens([key for key in keys if key is not None])
    for number, (_, tokens) in enumerate(parts):
        own = part == number
        lengths[own] = tokens.lengths[row[own]]
    return TokenRows(parts, part, row, lengths, store.token_dim)

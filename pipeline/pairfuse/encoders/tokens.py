"""Tokens: sequences of different lengths, one after the other in one array, and their pooling.

A row holds at least one token. Values are float16, as they are stored; whoever computes with them
does so in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pairfuse.arrays import Floats, Ints

Halves = NDArray[np.float16]

TokenPooling = Literal["cls", "mean", "max"]
TOKEN_POOLINGS: tuple[TokenPooling, ...] = get_args(TokenPooling)


@dataclass(frozen=True)
class Tokens:
    """Sequences of n inputs: row i is `values[offsets[i] : offsets[i + 1]]`, (T_i, D)."""

    values: Halves  # (sum T, D)
    offsets: Ints  # (n + 1,), strictly increasing from 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        return np.diff(self.offsets)

    def row(self, number: int) -> Halves:
        """One sequence, (T, D)."""
        return self.values[self.offsets[number] : self.offsets[number + 1]]

    def rows(self, index: NDArray[np.integer]) -> Tokens:
        """The chosen sequences, in this order."""
        if not len(index):
            return Tokens(self.values[:0], np.zeros(1, dtype=np.int64))
        chosen = [self.row(number) for number in index.tolist()]
        return Tokens(np.concatenate(chosen), offsets_of([len(row) for row in chosen]))


@dataclass(frozen=True)
class Encoded:
    """What an encoder that keeps its tokens gives for a batch: features (B, D) and B sequences."""

    features: Floats
    tokens: Tokens

    @property
    def nbytes(self) -> int:
        return self.features.nbytes + self.tokens.values.nbytes


def offsets_of(lengths: Sequence[int]) -> Ints:
    """Where each of n sequences begins, and where the last one ends, (n + 1,)."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def join_tokens(parts: Sequence[Tokens]) -> Tokens:
    """The sequences of all parts, one after the other."""
    lengths = np.concatenate([part.lengths for part in parts])
    return Tokens(np.concatenate([part.values for part in parts]), offsets_of(lengths.tolist()))


def join_found(parts: Sequence[Floats | Encoded]) -> tuple[Floats, Tokens | None]:
    """Batches of one encoder as one: features (n, D), and tokens where it keeps them."""
    kept = [part.tokens for part in parts if isinstance(part, Encoded)]
    features = [part.features if isinstance(part, Encoded) else part for part in parts]
    return np.concatenate(features), join_tokens(kept) if kept else None


def pool_tokens(tokens: Tokens, how: TokenPooling) -> Floats:
    """One vector a sequence, (n, D) float32: its first token, or the mean or maximum of all.

    Rows are pooled one by one, so that a row does not depend on its company.
    """
    out = np.empty((len(tokens), tokens.values.shape[1]), dtype=np.float32)
    for number in range(len(tokens)):
        row = tokens.row(number)
        if how == "cls":
            out[number] = row[0]
        elif how == "mean":
            out[number] = row.astype(np.float32).mean(axis=0)
        else:
            out[number] = row.astype(np.float32).max(axis=0)
    return out

"""Index: where the row of a key lies among the parts; sorted arrays, quick for millions of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairfuse.arrays import Bytes, Ints


@dataclass(frozen=True)
class KeyIndex:
    """Keys of all parts, ordered by their first eight bytes."""

    keys: Bytes  # (n, 32), in the order of the parts
    prefixes: NDArray[np.uint64]  # (n,), sorted
    order: Ints  # (n,), row of `keys` that each prefix belongs to
    part: Ints  # (n,), number of the part of each row of `keys`
    row: Ints  # (n,), its row in that part

    def __len__(self) -> int:
        """Distinct keys."""
        if not len(self.keys):
            return 0
        return len(np.unique(self._search(self.keys)))

    def find(self, keys: Bytes) -> Ints:
        """Rows of `self.keys` that hold these keys (m, 32), -1 if absent."""
        if not len(self.keys) or not len(keys):
            return np.full(len(keys), -1, dtype=np.int64)
        if np.array_equal(keys, self.keys):  # all rows as they lie: the usual case of one part
            return np.arange(len(keys), dtype=np.int64)
        return self._search(keys)

    def _search(self, keys: Bytes) -> Ints:
        wanted = _prefixes(keys)
        place = np.searchsorted(self.prefixes, wanted)
        found = np.full(len(keys), -1, dtype=np.int64)
        open_ = np.arange(len(keys))
        while len(open_):  # more than once only where different keys share eight bytes
            open_ = open_[place[open_] < len(self.prefixes)]
            open_ = open_[self.prefixes[place[open_]] == wanted[open_]]
            rows = self.order[place[open_]]
            same = (self.keys[rows] == keys[open_]).all(axis=1)
            found[open_[same]] = rows[same]
            open_ = open_[~same]
            place[open_] += 1
        return found


def build_index(parts: Sequence[Bytes]) -> KeyIndex:
    """Index the keys of parts, (n_p, 32) each."""
    keys = np.concatenate(parts) if parts else np.empty((0, 32), dtype=np.uint8)
    prefixes = _prefixes(keys)
    order = np.argsort(prefixes, kind="stable")
    counts = [len(part) for part in parts]
    rows = [np.arange(count, dtype=np.int64) for count in counts]
    return KeyIndex(
        keys=keys,
        prefixes=prefixes[order],
        order=order,
        part=np.repeat(np.arange(len(parts), dtype=np.int64), counts),
        row=np.concatenate(rows) if rows else np.empty(0, dtype=np.int64),
    )


def as_rows(keys: Sequence[bytes]) -> Bytes:
    """Keys as an array, (m, 32)."""
    return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), 32)


def _prefixes(keys: Bytes) -> NDArray[np.uint64]:
    return np.ascontiguousarray(keys[:, :8]).view(">u8").ravel().astype(np.uint64)

"""Feature store: one row per content hash and encoder fingerprint, written once, never rewritten.

A store is the folder `<cache>/features/<encoder>-<first 8 of the fingerprint>/parts`. Writers add
parts, whole or not at all; what is there is what the folder lists, so resuming needs no journal,
and two writers cannot harm each other.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairfuse import __version__
from pairfuse.encoders.base import Encoder, fingerprint
from pairfuse.errors import StoreError
from pairfuse.features.index import KeyIndex, as_rows, build_index
from pairfuse.features.part import (
    SUFFIX,
    Floats,
    Part,
    open_part,
    pack,
    read_rows,
)
from pairfuse.files import listed, sweep, write_bytes

#: More parts than this are joined when an extraction ends.
COMPACT_ABOVE = 8
#: A joined part grows to at most this many bytes of features.
MAX_PART_BYTES = 128 * 2**20
#: A reader whose parts go away under it, as others join them, looks again for so long.
RETRY_SECONDS = 30.0


@dataclass
class FeatureStore:
    """All rows that one encoder, known by its fingerprint, has given so far."""

    folder: Path
    encoder: str
    modality: str
    fingerprint: str
    dim: int
    made_from: str = "{}"
    _parts: dict[str, Part] = field(default_factory=dict, repr=False)
    _built: KeyIndex | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.refresh()

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, key: bytes) -> bool:
        return not self.missing([key])

    def missing(self, keys: Sequence[bytes]) -> list[bytes]:
        """Those of the keys that have no row, in their order."""
        found = self._index.find(as_rows(keys))
        return [key for key, row in zip(keys, found.tolist(), strict=True) if row < 0]

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(self._parts.values())

    def refresh(self) -> None:
        """List the parts again, until none comes or goes: others may add or join some meanwhile."""
        seen: set[str] | None = None
        while seen != (names := {path.name for path in listed(self.folder, f"*{SUFFIX}")}):
            for gone in self._parts.keys() - names:
                del self._parts[gone]
            for name in sorted(names - self._parts.keys()):
                with contextlib.suppress(FileNotFoundError):
                    self._parts[name] = self._check(open_part(self.folder / name))
            seen = names
        self._built = None

    def add(self, keys: Sequence[bytes], features: Floats) -> None:
        """Commit rows as one part: after this returns they survive a kill and a power cut.

        Raises:
            StoreError: No space, no permission; what was committed before stays.
        """
        if features.shape != (len(keys), self.dim) or not np.isfinite(features).all():
            raise StoreError(
                f"{self.encoder} gave features of shape {features.shape} or values that are no "
                f"number, expected finite ({len(keys)}, {self.dim}); try --precision fp32"
            )
        self._write(as_rows(keys), features)

    def read(self, keys: Sequence[bytes]) -> Floats:
        """Features in the order of the keys, each row proven, shape (len(keys), D).

        Raises:
            StoreError: A key is not in the store, or a part is damaged.
        """
        end = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                return self._read(keys)
            except FileNotFoundError:  # joined by another process since we listed
                if time.monotonic() > end:
                    raise
                self.refresh()

    def compact(self) -> None:
        """Join small parts into few large ones; every row is proven before its old file goes.

        Where another process joins the same parts, it is left to it. A joined part never has the
        name of one that was there before (its moment, to the microsecond, enters the name), so
        that none can be taken for a part which another process is about to remove.
        """
        row_bytes = self.dim * 4
        small = [p for p in self.parts if len(p.keys) * row_bytes < MAX_PART_BYTES // 2]
        if len(small) <= COMPACT_ABOVE:
            return
        batch: list[Part] = []
        for part in [*small, None]:
            rows = sum(len(p.keys) for p in batch)
            if part is None or (rows + len(part.keys)) * row_bytes > MAX_PART_BYTES:
                with contextlib.suppress(FileNotFoundError):
                    self._join(batch)
                batch = []
            if part is not None:
                batch.append(part)
        self.refresh()

    def sweep(self) -> None:
        """Remove temporary files that a killed writer left."""
        sweep(self.folder)

    def _read(self, keys: Sequence[bytes]) -> Floats:
        index = self._index
        found = index.find(as_rows(keys))
        lacking = int((found < 0).sum())
        if lacking:
            raise StoreError(
                f"{self.folder.parent} does not hold {lacking} of {len(keys)} rows; "
                "run `pairfuse features` again to resume"
            )
        numbers = index.part[found]
        if len(keys) and (numbers == numbers[0]).all():
            return read_rows(self.parts[int(numbers[0])], index.row[found])
        out = np.empty((len(keys), self.dim), dtype=np.float32)
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            out[places] = read_rows(self.parts[number], index.row[found[places]])
        return out

    @property
    def _index(self) -> KeyIndex:
        """Built anew after parts came or went."""
        if self._built is None:
            self._built = build_index([part.keys for part in self.parts])
        return self._built

    def _join(self, parts: Sequence[Part]) -> None:
        if len(parts) < 2:
            return
        keys = np.concatenate([part.keys for part in parts])
        features = np.concatenate(
            [read_rows(part, np.arange(len(part.keys), dtype=np.int64)) for part in parts]
        )
        _, first = np.unique(keys, axis=0, return_index=True)
        first.sort()
        joined = self._write(keys[first], features[first])
        for part in parts:
            if part.path != joined:
                part.path.unlink(missing_ok=True)

    def _write(self, keys: NDArray[np.uint8], features: Floats) -> Path:
        attributes = {
            "encoder": self.encoder,
            "modality": self.modality,
            "fingerprint": self.fingerprint,
            "made_from": self.made_from,
            "created": datetime.now(UTC).isoformat(timespec="microseconds"),
            "version": __version__,
        }
        name, data = pack(attributes, keys, features)
        path = self.folder / name
        size = sum(map(len, data)) / 2**20
        try:
            write_bytes(path, *data)
        except OSError as error:
            raise StoreError(
                f"cannot write {size:.1f} MB to {self.folder} ({error.strerror}); "
                "make room or name another folder with --cache, then run again to resume"
            ) from error
        try:
            self._parts[name] = open_part(path)
            self._built = None
        except FileNotFoundError:  # another process has joined it already
            self.refresh()
        return path

    def _check(self, part: Part) -> Part:
        if part.attributes["fingerprint"] != self.fingerprint or part.attributes["dim"] != self.dim:
            raise StoreError(
                f"{part.path} is refused: it was made by {part.attributes['encoder'][:60]} "
                f"{part.attributes['fingerprint'][:8]}, not by {self.encoder} "
                f"{self.fingerprint[:8]}; remove it"
            )
        return part


def open_store(cache: Path, encoder: Encoder) -> FeatureStore:
    """Open, or begin, the store of this encoder under `<cache>/features`.

    Raises:
        StoreError: A part of it is damaged or belongs elsewhere.
    """
    mark = fingerprint(encoder)
    folder = cache / "features" / f"{encoder.name}-{mark[:8]}" / "parts"
    made_from = json.dumps(encoder.made_from, sort_keys=True)
    return FeatureStore(folder, encoder.name, encoder.modality, mark, encoder.dim, made_from)

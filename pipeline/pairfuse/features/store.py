"""Feature store: one row per content hash and encoder fingerprint, written once, never rewritten.

A store is the folder `<cache>/features/<encoder>-<first 8 of the fingerprint>/parts`, or
`<encoder>-tokens-<first 8>` where tokens are kept beside the features. Writers add parts, whole or
not at all; what is there is what the folder lists, so resuming needs no journal, and two writers
cannot harm each other.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np

from pairfuse import __version__
from pairfuse.arrays import Bytes, Floats, Ints
from pairfuse.encoders.base import Encoder, fingerprint
from pairfuse.encoders.token_encoder import TokenEncoder
from pairfuse.encoders.tokens import TokenPooling, Tokens, join_tokens, pool_tokens
from pairfuse.errors import StoreError
from pairfuse.features.hdf5_schema import SUFFIX
from pairfuse.features.index import KeyIndex, as_rows, build_index
from pairfuse.features.part import Part, open_part, pack, read_rows, read_tokens, unchecked_tokens
from pairfuse.files import listed, sweep, write_bytes

#: More parts than this are joined when an extraction ends.
COMPACT_ABOVE = 8
#: A joined part grows to at most this many bytes of features.
MAX_PART_BYTES = 128 * 2**20
#: A reader whose parts go away under it, as others join them, looks again for so long.
RETRY_SECONDS = 30.0
#: Rows whose tokens are in memory while they are pooled.
POOLED_ROWS = 256

T = TypeVar("T")


@dataclass
class FeatureStore:
    """All rows that one encoder, known by its fingerprint, has given so far.

    With a `token_dim` each row has a sequence beside its features; `pooling` says how a view is
    pooled from it, and changes nothing that is stored.
    """

    folder: Path
    encoder: str
    modality: str
    fingerprint: str
    dim: int
    made_from: str = "{}"
    token_dim: int = 0
    pooling: TokenPooling | None = None
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
    def tokens(self) -> int:
        """Tokens of all rows; those of a row that two processes computed count twice."""
        return sum(int(part.tokens.offsets[-1]) for part in self.parts if part.tokens)

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

    def add(self, keys: Sequence[bytes], features: Floats, tokens: Tokens | None = None) -> None:
        """Commit rows as one part: after this returns they survive a kill and a power cut.

        Raises:
            StoreError: No space, no permission; what was committed before stays.
        """
        self._check_tokens(len(keys), tokens)
        if features.shape != (len(keys), self.dim) or not np.isfinite(features).all():
            raise StoreError(
                f"{self.encoder} gave features of shape {features.shape} or values that are no "
                f"number, expected finite ({len(keys)}, {self.dim}); try --precision fp32"
            )
        self._write(as_rows(keys), features, tokens)

    def read(self, keys: Sequence[bytes]) -> Floats:
        """Features in the order of the keys, each row proven, shape (len(keys), D).

        Raises:
            StoreError: A key is not in the store, or a part is damaged.
        """
        return self._again(lambda: self._read(keys))

    def read_view(self, keys: Sequence[bytes]) -> Floats:
        """What a view is made of: the features, or where a pooling is asked for the tokens, pooled.

        Raises:
            StoreError: A key is not in the store, or a part is damaged.
        """
        how = self.pooling
        if how is None:
            return self.read(keys)
        out = np.empty((len(keys), self.token_dim), dtype=np.float32)
        for start in range(0, len(keys), POOLED_ROWS):
            some = keys[start : start + POOLED_ROWS]
            out[start : start + len(some)] = pool_tokens(self.read_tokens(some), how)
        return out

    def read_tokens(self, keys: Sequence[bytes]) -> Tokens:
        """Sequences in the order of the keys, each row proven.

        Raises:
            StoreError: A key is not in the store, it keeps no tokens, or a part is damaged.
        """
        return self._again(lambda: self._read_tokens(keys))

    def mapped_tokens(
        self, keys: Sequence[bytes]
    ) -> tuple[tuple[tuple[Part, Tokens], ...], Ints, Ints]:
        """All parts with their tokens memory-mapped, not yet proven, and where each key lies.

        Raises:
            StoreError: A key is not in the store, or it keeps no tokens.
        """

        def look() -> tuple[tuple[tuple[Part, Tokens], ...], Ints, Ints]:
            parts = tuple((part, unchecked_tokens(part)) for part in self.parts)
            return parts, *self.locate(keys)

        return self._again(look)

    def locate(self, keys: Sequence[bytes]) -> tuple[Ints, Ints]:
        """Number among `parts`, and row in that part, of each key.

        Raises:
            StoreError: A key is not in the store.
        """
        index = self._index
        found = index.find(as_rows(keys))
        lacking = int((found < 0).sum())
        if lacking:
            raise StoreError(
                f"{self.folder.parent} does not hold {lacking} of {len(keys)} rows; "
                "run `pairfuse features` again to resume"
            )
        return index.part[found], index.row[found]

    def _again(self, read: Callable[[], T]) -> T:
        """Read, and once more where parts went meanwhile."""
        end = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                return read()
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
        small = [part for part in self.parts if part.nbytes < MAX_PART_BYTES // 2]
        if len(small) <= COMPACT_ABOVE:
            return
        batch: list[Part] = []
        for part in [*small, None]:
            size = sum(each.nbytes for each in batch)
            if part is None or size + part.nbytes > MAX_PART_BYTES:
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
        numbers, rows = self.locate(keys)
        if len(keys) and (numbers == numbers[0]).all():
            return read_rows(self.parts[int(numbers[0])], rows)
        out = np.empty((len(keys), self.dim), dtype=np.float32)
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            out[places] = read_rows(self.parts[number], rows[places])
        return out

    def _read_tokens(self, keys: Sequence[bytes]) -> Tokens:
        numbers, rows = self.locate(keys)
        order, found = [], []
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            order.append(places)
            found.append(read_tokens(self.parts[number], rows[places]))
        if len(found) == 1:
            return found[0]
        if not found:
            return Tokens(np.empty((0, self.token_dim), np.float16), np.zeros(1, np.int64))
        return join_tokens(found).rows(np.argsort(np.concatenate(order)))

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
        everything = [np.arange(len(part.keys), dtype=np.int64) for part in parts]
        features = np.concatenate(list(map(read_rows, parts, everything)))
        tokens = join_tokens(list(map(read_tokens, parts, everything))) if self.token_dim else None
        _, first = np.unique(keys, axis=0, return_index=True)
        first.sort()
        joined = self._write(keys[first], features[first], tokens.rows(first) if tokens else None)
        for part in parts:
            if part.path != joined:
                part.path.unlink(missing_ok=True)

    def _write(self, keys: Bytes, features: Floats, tokens: Tokens | None) -> Path:
        attributes = {
            "encoder": self.encoder,
            "modality": self.modality,
            "fingerprint": self.fingerprint,
            "made_from": self.made_from,
            "created": datetime.now(UTC).isoformat(timespec="microseconds"),
            "version": __version__,
        }
        name, data = pack(attributes, keys, features, tokens)
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

    def _check_tokens(self, rows: int, tokens: Tokens | None) -> None:
        if tokens is None and not self.token_dim:
            return
        if tokens is None or (len(tokens), tokens.values.shape[1]) != (rows, self.token_dim):
            found = "none" if tokens is None else f"{len(tokens)} of {tokens.values.shape[1]}"
            raise StoreError(
                f"{self.encoder} gave tokens of another shape ({found}), expected {rows} sequences "
                f"of width {self.token_dim}"
            )
        if not (tokens.lengths > 0).all() or not np.isfinite(tokens.values).all():
            raise StoreError(f"{self.encoder} gave an empty sequence or tokens that are no number")

    def _check(self, part: Part) -> Part:
        token_dim = part.tokens.dim if part.tokens else 0
        own = (self.fingerprint, self.dim, self.token_dim)
        if (part.attributes["fingerprint"], part.attributes["dim"], token_dim) != own:
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
    token_dim, pooling = 0, None
    if isinstance(encoder, TokenEncoder):
        token_dim, pooling = encoder.token_dim, encoder.pooling
    name = store_name(encoder.name, mark, has_tokens=token_dim > 0)
    return FeatureStore(
        folder=cache / "features" / name / "parts",
        encoder=encoder.name,
        modality=encoder.modality,
        fingerprint=mark,
        dim=encoder.dim,
        made_from=json.dumps(encoder.made_from, sort_keys=True),
        token_dim=token_dim,
        pooling=pooling,
    )


def store_name(encoder: str, mark: str, *, has_tokens: bool) -> str:
    """The name of a store's folder, of its encoder and that one's fingerprint."""
    return f"{encoder}{'-tokens' if has_tokens else ''}-{mark[:8]}"

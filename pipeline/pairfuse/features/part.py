"""Part: one immutable HDF5 file of features that says what made it and proves it on reading.

Root attributes, integers and text of fixed length: format, format_version, encoder, modality,
fingerprint, made_from (JSON), dim, rows, checksum (of all features), created, version. Datasets,
contiguous and plain: `keys` (n, 32) uint8, the sha256 of what was encoded; `features` (n, D)
float32; `checksums` (n, 16) uint8, one per row. A part of version 3 keeps tokens too: attributes
tokens (their number) and token_dim; `tokens` (sum T, D') float16, `offsets` (n + 1,) int64 and
`token_checksums` (n, 16) uint8. The file's name is the checksum of all attributes, keys, offsets
and row checksums, so that a part which was renamed, cut, or moved from another encoder's store is
refused before a row of it is used.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pairfuse.arrays import Bytes, Floats, Ints
from pairfuse.encoders.tokens import Tokens
from pairfuse.errors import DamageError, StoreError
from pairfuse.features.hdf5_schema import (
    CHECKSUM_BYTES,
    FORMAT,
    PLAIN_VERSION,
    SUFFIX,
    TOKEN_VERSION,
    attributes_of,
    check_shapes,
    datasets_of,
    plain_dataset,
    read_attributes,
)
from pairfuse.files import read_bytes

if TYPE_CHECKING:
    import h5py


#: A whole part is read, and proven, in blocks of this size; its `checksum` is that of theirs.
_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class TokenBlock:
    """Where the tokens of an open part lie, and what proves them."""

    offsets: Ints  # (n + 1,)
    checksums: Bytes  # (n, 16)
    offset: int  # of the first token in the file, in bytes
    dim: int


@dataclass(frozen=True)
class Part:
    """An open, checked part: its keys are in memory, its features are read when asked for."""

    path: Path
    attributes: Mapping[str, Any]
    keys: Bytes  # (n, 32)
    checksums: Bytes  # (n, 16)
    offset: int  # of the features in the file, in bytes
    tokens: TokenBlock | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its features and tokens."""
        block = self.tokens
        return len(self.keys) * int(self.attributes["dim"]) * 4 + (
            int(block.offsets[-1]) * block.dim * 2 if block else 0
        )


def pack(
    attributes: Mapping[str, Any], keys: Bytes, features: Floats, tokens: Tokens | None = None
) -> tuple[str, list[memoryview]]:
    """Lay out one part.

    Args:
        attributes: encoder, modality, fingerprint, made_from, created and version.
        keys: Shape (n, 32).
        features: Shape (n, D).
        tokens: n sequences, where the encoder keeps them.

    Returns:
        The file's name and its bytes, in pieces; features and tokens among them are not copied.
    """
    import h5py

    features = np.ascontiguousarray(features, dtype="<f4")
    checksums = row_checksums(keys, features)
    full = {
        "format": FORMAT,
        "format_version": PLAIN_VERSION,
        **attributes,
        "dim": int(features.shape[1]),
        "rows": len(features),
        "checksum": _digest_of(_blocks(features)),
    }
    small, large = {"keys": keys, "checksums": checksums}, {"features": features}
    if tokens is not None:
        values = np.ascontiguousarray(tokens.values, dtype="<f2")
        full |= {"format_version": TOKEN_VERSION, "tokens": len(values)}
        full |= {"token_dim": int(values.shape[1])}
        small["offsets"] = tokens.offsets.astype("<i8")
        small["token_checksums"] = _token_checksums(keys, Tokens(values, tokens.offsets))
        large["tokens"] = values
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="v110") as file:
        for name in attributes_of(full):
            value = full[name]
            file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value
        for name, array in small.items():
            file.create_dataset(name, data=array)
        places = {_reserve(file, name, array): array for name, array in large.items()}
    return part_name(full, *small.values()), _spliced(buffer.getbuffer(), places)


def _spliced(around: memoryview, places: Mapping[int, NDArray[Any]]) -> list[memoryview]:
    """The file with each array at its place, in pieces."""
    pieces, end = [], 0
    for offset, array in sorted(places.items()):
        pieces += [around[end:offset], array.data.cast("B")]
        end = offset + array.nbytes
    return [*pieces, around[end:]]


def _reserve(file: h5py.File, name: str, values: NDArray[Any]) -> int:
    """Make a dataset without writing its values; where they belong in the file."""
    import h5py

    plain = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plain.set_layout(h5py.h5d.CONTIGUOUS)
    plain.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plain.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(values.shape)
    kind = h5py.h5t.py_create(values.dtype)
    made = h5py.h5d.create(file.id, name.encode(), kind, space, plain)
    return int(made.get_offset())


def open_part(path: Path) -> Part:
    """Check a part's shape, attributes and name; its features stay on disk.

    Raises:
        DamageError: The file is not a whole, untouched part.
        StoreError: It is of a newer format than this version knows.
        OSError: The system could not read it just now; FileNotFoundError where it was removed, as
            compaction does.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe is to wait for its writer
        raise DamageError(_refused(path, "it is not a plain file"))
    part = _read_head(path)
    more = (part.tokens.offsets, part.tokens.checksums) if part.tokens else ()
    name = part_name(part.attributes, part.keys, part.checksums, *more)
    if path.stem != name.removesuffix(SUFFIX):
        raise DamageError(_refused(path, "its name is not the checksum of its content"))
    return part


def _read_head(path: Path) -> Part:
    """All of a part but its features and tokens.

    HDF5 words a read that the system failed as it words damaged bytes. So a part that it refuses is
    read by plain means, which name a system error as what it is, and judged by the bytes in memory.
    Parts never change: HDF5's lock on them is left out, since some file systems have none.
    """
    import h5py

    with contextlib.suppress(Exception), h5py.File(path, "r", locking=False) as file:
        return _head(path, file, path.stat().st_size)
    try:
        data = read_bytes(path)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise DamageError(_refused(path, f"it is {error.strerror}")) from error
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with h5py.File(h5py.h5f.open_file_image(data)) as file:
            return _head(path, file, len(data))
    except DamageError as error:
        raise DamageError(_refused(path, str(error))) from error
    except StoreError as error:
        raise StoreError(f"{path} is refused: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # HDF5 raises many kinds of error over damaged bytes
        raise DamageError(_refused(path, _one_line(error))) from error


def _head(path: Path, file: h5py.File, size: int) -> Part:
    attributes = read_attributes(file)
    kinds = datasets_of(attributes)
    datasets = {name: plain_dataset(file, name, kind) for name, kind in kinds.items()}
    check_shapes(datasets, attributes, size)
    return Part(
        path,
        attributes,
        keys=datasets["keys"][:],
        checksums=datasets["checksums"][:],
        offset=int(datasets["features"].id.get_offset()),
        tokens=_token_block(datasets, attributes),
    )


def read_rows(part: Part, rows: Ints) -> Floats:
    """Features of the named rows, each proven by its checksum, shape (len(rows), D).

    Raises:
        StoreError: A row does not match its checksum, or the file changed since it was opened.
        FileNotFoundError: The part was removed, as compaction does.
    """
    count = len(part.keys)
    if 2 * len(rows) >= count:
        whole = _read_whole(part)
        if whole is not None:
            return whole if _is_all(rows, count) else whole[rows]
    chosen = read_unchecked(part)[rows]
    found = row_checksums(part.keys[rows], chosen)
    wrong = int((found != part.checksums[rows]).any(axis=1).sum())
    if wrong:
        raise DamageError(_refused(part.path, f"{wrong} of {len(rows)} rows read are damaged"))
    return chosen


def read_tokens(part: Part, rows: Ints) -> Tokens:
    """Sequences of the named rows, each proven by its checksum.

    Raises:
        StoreError: A row does not match its checksum, or the part holds no tokens.
        FileNotFoundError: The part was removed, as compaction does.
    """
    chosen = unchecked_tokens(part).rows(rows)
    check_tokens(part, rows, chosen)
    return chosen


def check_tokens(part: Part, rows: Ints, tokens: Tokens) -> None:
    """Refuse sequences that are not those of these rows of the part.

    Raises:
        StoreError: A row does not match its checksum.
    """
    assert part.tokens is not None
    found = _token_checksums(part.keys[rows], tokens)
    wrong = int((found != part.tokens.checksums[rows]).any(axis=1).sum())
    if wrong:
        raise DamageError(
            _refused(part.path, f"the tokens of {wrong} of {len(rows)} rows read are damaged")
        )


def damaged_rows(part: Part) -> Ints:
    """Numbers of the rows whose checksum, or that of their tokens, is wrong.

    Read, not memory-mapped: a disk that fails is then an `OSError`, not the end of the process.

    Raises:
        DamageError: The file was cut off.
        OSError: The system could not read it just now.
    """
    shape = (int(part.attributes["rows"]), int(part.attributes["dim"]))
    features = _read_array(part.path, "<f4", part.offset, shape)
    wrong = (row_checksums(part.keys, features) != part.checksums).any(axis=1)
    if block := part.tokens:
        values = _read_array(part.path, "<f2", block.offset, (int(block.offsets[-1]), block.dim))
        found = _token_checksums(part.keys, Tokens(values, block.offsets))
        wrong |= (found != block.checksums).any(axis=1)
    return np.flatnonzero(wrong)


def _read_array(path: Path, kind: str, offset: int, shape: tuple[int, int]) -> NDArray[Any]:
    """An array as it lies in the file."""
    out = np.empty(shape, dtype=kind)
    rest = out.data.cast("B")
    with path.open("rb", buffering=0) as file:
        while len(rest):
            count = os.preadv(file.fileno(), [rest], offset)
            if not count:
                raise DamageError(_refused(path, "it was cut off while it was open"))
            rest, offset = rest[count:], offset + count
    return out


def unchecked_tokens(part: Part) -> Tokens:
    """All sequences of a part as they lie on disk, memory-mapped; not yet proven.

    Raises:
        StoreError: The part holds no tokens.
    """
    block = part.tokens
    if block is None:
        raise StoreError(f"{part.path} holds no tokens; run `pairfuse features --tokens`")
    shape = (int(block.offsets[-1]), block.dim)
    return Tokens(_mapped(part.path, "<f2", block.offset, shape), block.offsets)


def read_unchecked(part: Part) -> Floats:
    """All features of a part as they lie on disk, memory-mapped, shape (n, D); not yet proven."""
    shape = (int(part.attributes["rows"]), int(part.attributes["dim"]))
    return _mapped(part.path, "<f4", part.offset, shape)


def _mapped(path: Path, kind: str, offset: int, shape: tuple[int, int]) -> NDArray[Any]:
    try:
        return np.memmap(path, dtype=kind, mode="r", offset=offset, shape=shape)
    except ValueError as error:
        raise DamageError(_refused(path, "it was cut off while it was open")) from error


def _read_whole(part: Part) -> Floats | None:
    """All features (n, D), blocks read side by side, each hashed while it is in a core's cache;
    None where they are not what was written."""
    out = np.empty((int(part.attributes["rows"]), int(part.attributes["dim"])), dtype="<f4")
    with part.path.open("rb", buffering=0) as file:

        def read(number: int, block: memoryview) -> memoryview:
            os.preadv(file.fileno(), [block], part.offset + number * _BLOCK_BYTES)
            return block  # what a short read leaves out, no checksum agrees with

        found = _digest_of(_blocks(out), read)
    return out if found == part.attributes["checksum"] else None


def _blocks(features: Floats) -> list[memoryview]:
    plain = features.data.cast("B")
    return [plain[start : start + _BLOCK_BYTES] for start in range(0, len(plain), _BLOCK_BYTES)]


def _digest_of(
    blocks: Sequence[memoryview],
    before: Callable[[int, memoryview], memoryview] = lambda _, block: block,
) -> str:
    """XXH3-128 over the XXH3-128 of each block, in hex."""
    import xxhash

    def digests(share: range) -> bytes:
        return b"".join(xxhash.xxh3_128_digest(before(n, blocks[n])) for n in share)

    step = -(-len(blocks) // min(4, os.cpu_count() or 1))
    first, *rest = [
        range(start, min(start + step, len(blocks))) for start in range(0, len(blocks), step)
    ]
    with ThreadPoolExecutor() as pool:  # starts a thread only where there is a second share
        others = pool.map(digests, rest)
        return xxhash.xxh3_128_hexdigest(digests(first) + b"".join(others))


def row_checksums(keys: Bytes, features: Floats) -> Bytes:
    """XXH3-128 of each row's features, seeded by the row's key, shape (n, 16).

    It tells a flipped bit or a row of another key at the speed of memory; it is no signature.
    """
    return _checksums(keys, np.ascontiguousarray(features))


def _token_checksums(keys: Bytes, tokens: Tokens) -> Bytes:
    """The same of each row's tokens; its length enters too."""
    values = np.ascontiguousarray(tokens.values)
    return _checksums(keys, map(Tokens(values, tokens.offsets).row, range(len(tokens))))


def _checksums(keys: Bytes, rows: Iterable[Any]) -> Bytes:
    import xxhash

    seeds = np.ascontiguousarray(keys[:, :8]).view("<u8").ravel().tolist()
    digests = b"".join(
        xxhash.xxh3_128_digest(row, seed) for row, seed in zip(rows, seeds, strict=True)
    )
    return np.frombuffer(digests, dtype=np.uint8).reshape(len(keys), CHECKSUM_BYTES)


def part_name(attributes: Mapping[str, Any], *arrays: NDArray[Any]) -> str:
    """Name a part by the sha256 of its attributes, keys and row checksums.

    Args:
        attributes: All of them.
        arrays: keys and checksums; offsets and token checksums too where there are tokens.
    """
    plain = {name: attributes[name] for name in attributes_of(attributes)}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32] + SUFFIX


def _token_block(
    datasets: Mapping[str, h5py.Dataset], attributes: Mapping[str, Any]
) -> TokenBlock | None:
    """The tokens' offsets and checksums; every row holds at least one token, all lie inside."""
    if "tokens" not in datasets:
        return None
    offsets: Ints = datasets["offsets"][:]
    inside = offsets[0] == 0 and offsets[-1] == attributes["tokens"]
    if not inside or not (offsets[1:] > offsets[:-1]).all():
        raise DamageError(f"its offsets do not divide {attributes['tokens']} tokens into rows")
    place = int(datasets["tokens"].id.get_offset())
    return TokenBlock(
        offsets=offsets,
        checksums=datasets["token_checksums"][:],
        offset=place,
        dim=int(attributes["token_dim"]),
    )


def _is_all(rows: Ints, count: int) -> bool:
    return len(rows) == count and bool((rows == np.arange(count)).all())


def _refused(path: Path, reason: str) -> str:
    return f"{path} is refused: {reason}; run `pairfuse cache verify --repair`, then features again"


def _one_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160]

"""Part: one immutable HDF5 file of features that says what made it and proves it on reading.

Root attributes, integers and text of fixed length: format, format_version, encoder, modality,
fingerprint, made_from (JSON), dim, rows, checksum (of all features), created, version. Datasets,
contiguous and plain: `keys` (n, 32) uint8, the sha256 of what was encoded; `features` (n, D)
float32; `checksums` (n, 16) uint8, one per row. The file's name is the checksum of all attributes,
keys and row checksums, so that a part which was renamed, cut, or moved from another encoder's store
is refused before a row of it is used.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pairfuse.errors import StoreError, shown

if TYPE_CHECKING:
    import h5py

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

FORMAT = "pairfuse-features"
FORMAT_VERSION = 2
SUFFIX = ".h5"
KEY_BYTES = 32
CHECKSUM_BYTES = 16
#: A whole part is read, and proven, in blocks of this size; its `checksum` is that of theirs.
_BLOCK_BYTES = 2**20
_DATASETS = {"keys": np.dtype("u1"), "features": np.dtype("<f4"), "checksums": np.dtype("u1")}
_ATTRIBUTES = (
    "format",
    "format_version",
    "encoder",
    "modality",
    "fingerprint",
    "made_from",
    "dim",
    "rows",
    "checksum",
    "created",
    "version",
)
_WHOLE_NUMBERS = frozenset({"format_version", "dim", "rows"})


@dataclass(frozen=True)
class Part:
    """An open, checked part: its keys are in memory, its features are read when asked for."""

    path: Path
    attributes: Mapping[str, Any]
    keys: Bytes  # (n, 32)
    checksums: Bytes  # (n, 16)
    offset: int  # of the features in the file, in bytes


def pack(
    attributes: Mapping[str, Any], keys: Bytes, features: Floats
) -> tuple[str, list[memoryview]]:
    """Lay out one part.

    Args:
        attributes: encoder, modality, fingerprint, made_from, created and version.
        keys: Shape (n, 32).
        features: Shape (n, D).

    Returns:
        The file's name and its bytes, in pieces; the features among them are not copied.
    """
    import h5py

    features = np.ascontiguousarray(features, dtype="<f4")
    checksums = row_checksums(keys, features)
    full = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **attributes,
        "dim": int(features.shape[1]),
        "rows": len(features),
        "checksum": _digest_of(_blocks(features)),
    }
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="v110") as file:
        for name in _ATTRIBUTES:
            value = full[name]
            file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value
        file.create_dataset("keys", data=keys)
        file.create_dataset("checksums", data=checksums)
        offset = _reserve(file, features)
    around = buffer.getbuffer()
    pieces = [around[:offset], features.data.cast("B"), around[offset + features.nbytes :]]
    return part_name(full, keys, checksums), pieces


def _reserve(file: h5py.File, features: Floats) -> int:
    """Make the dataset without writing its values; where they belong in the file."""
    import h5py

    plain = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plain.set_layout(h5py.h5d.CONTIGUOUS)
    plain.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plain.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(features.shape)
    made = h5py.h5d.create(file.id, b"features", h5py.h5t.IEEE_F32LE, space, plain)
    return int(made.get_offset())


def open_part(path: Path) -> Part:
    """Check a part's shape, attributes and name; its features stay on disk.

    Raises:
        StoreError: The file is not a whole, untouched part of this format.
        FileNotFoundError: It was removed, as compaction does.
    """
    import h5py

    if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe is to wait for its writer
        raise StoreError(_refused(path, "it is not a plain file"))
    try:
        with h5py.File(path, "r") as file:
            attributes = _read_attributes(file)
            datasets = {name: _plain_dataset(file, name) for name in _DATASETS}
            _check_shapes(datasets, attributes, path.stat().st_size)
            keys, checksums = datasets["keys"][:], datasets["checksums"][:]
            offset = int(datasets["features"].id.get_offset())
    except FileNotFoundError:
        raise
    except StoreError as error:
        raise StoreError(_refused(path, str(error))) from error
    except Exception as error:  # HDF5 raises many kinds of error over damaged bytes
        _raise_if_gone(path, error)
        raise StoreError(_refused(path, _one_line(error))) from error
    if path.stem != part_name(attributes, keys, checksums).removesuffix(SUFFIX):
        raise StoreError(_refused(path, "its name is not the checksum of its content"))
    return Part(path, attributes, keys, checksums, offset)


def read_rows(part: Part, rows: NDArray[np.int64]) -> Floats:
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
        raise StoreError(_refused(part.path, f"{wrong} of {len(rows)} rows read are damaged"))
    return chosen


def damaged_rows(part: Part) -> NDArray[np.int64]:
    """Numbers of the rows whose checksum is wrong."""
    found = row_checksums(part.keys, read_unchecked(part))
    return np.flatnonzero((found != part.checksums).any(axis=1))


def read_unchecked(part: Part) -> Floats:
    """All features of a part as they lie on disk, memory-mapped, shape (n, D); not yet proven."""
    shape = (int(part.attributes["rows"]), int(part.attributes["dim"]))
    try:
        return np.memmap(part.path, dtype="<f4", mode="r", offset=part.offset, shape=shape)
    except ValueError as error:
        raise StoreError(_refused(part.path, "it was cut off while it was open")) from error


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
    import xxhash

    seeds = np.ascontiguousarray(keys[:, :8]).view("<u8").ravel().tolist()
    rows = np.ascontiguousarray(features)
    digests = b"".join(
        xxhash.xxh3_128_digest(row, seed) for row, seed in zip(rows, seeds, strict=True)
    )
    return np.frombuffer(digests, dtype=np.uint8).reshape(len(keys), CHECKSUM_BYTES)


def part_name(attributes: Mapping[str, Any], keys: Bytes, checksums: Bytes) -> str:
    """Name a part by the sha256 of its attributes, keys and row checksums."""
    plain = {name: attributes[name] for name in _ATTRIBUTES}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(keys).data)
    digest.update(np.ascontiguousarray(checksums).data)
    return digest.hexdigest()[:32] + SUFFIX


def _read_attributes(file: h5py.File) -> dict[str, Any]:
    """The attributes as plain str and int; anything else is refused.

    Text is of fixed length: text of any length lies in HDF5's global heap, and one wrong size in
    that heap keeps the library in a loop that nothing can stop.
    """
    out: dict[str, Any] = {}
    for name in _ATTRIBUTES:
        if name not in file.attrs:
            raise StoreError(f"attribute {name!r} is missing")
        kind = file.attrs.get_id(name)
        if kind.shape != () or kind.dtype.kind not in "Siu":
            raise StoreError(f"attribute {name!r} is not a plain value")
        value = file.attrs[name]
        out[name] = int(value) if isinstance(value, np.integer) else value.decode("utf-8")
        if not isinstance(out[name], int if name in _WHOLE_NUMBERS else str):
            raise StoreError(f"attribute {name!r} is not a plain value")
    if out["format"] != FORMAT or out["format_version"] != FORMAT_VERSION:
        found = f"{out['format'][:60]} version {shown(out['format_version'])}"
        raise StoreError(f"it is of format {found}, this is {FORMAT} version {FORMAT_VERSION}")
    return out


def _plain_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A dataset that lies in this very file, in one piece: no link, filter, or outside storage."""
    import h5py

    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise StoreError(f"dataset {name!r} is missing or is a link to elsewhere")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise StoreError(f"{name!r} is not a dataset")
    plist = dataset.id.get_create_plist()
    if (
        plist.get_layout() != h5py.h5d.CONTIGUOUS
        or plist.get_external_count()
        or plist.get_nfilters()
        or dataset.dtype != _DATASETS[name]
    ):
        raise StoreError(f"dataset {name!r} is not plain, contiguous {_DATASETS[name]}")
    return dataset


def _check_shapes(
    datasets: Mapping[str, h5py.Dataset], attributes: Mapping[str, Any], file_size: int
) -> None:
    """Declared shapes agree with each other and fit into the file, before a byte is read."""
    rows, dim = attributes["rows"], attributes["dim"]
    if not (isinstance(rows, int) and isinstance(dim, int) and rows > 0 and dim > 0):
        raise StoreError(f"it declares {rows} rows of width {dim}")
    widths = {"keys": KEY_BYTES, "checksums": CHECKSUM_BYTES, "features": dim}
    for name, dataset in datasets.items():
        if dataset.shape != (rows, widths[name]):
            raise StoreError(f"dataset {name!r} has shape {dataset.shape}")
        offset = dataset.id.get_offset()
        if offset is None or offset + dataset.size * dataset.dtype.itemsize > file_size:
            raise StoreError(f"dataset {name!r} reaches past the end of the file: it was cut off")


def _raise_if_gone(path: Path, error: Exception) -> None:
    """HDF5 has other words than FileNotFoundError for a part that goes while it is opened."""
    if not path.exists():
        raise FileNotFoundError(path) from error


def _is_all(rows: NDArray[np.int64], count: int) -> bool:
    return len(rows) == count and bool((rows == np.arange(count)).all())


def _refused(path: Path, reason: str) -> str:
    return f"{path} is refused: {reason}; run `pairfuse cache verify --repair`, then features again"


def _one_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160]

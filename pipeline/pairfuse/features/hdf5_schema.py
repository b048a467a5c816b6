"""Layout: what a part's file may hold, looked at before a value of it is read.

Attributes are plain numbers and text of fixed length; datasets lie in the file itself, in one piece
and of the declared shape. Anything else is refused with what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pairfuse.errors import DamageError, StoreError, shown

if TYPE_CHECKING:
    import h5py

FORMAT = "pairfuse-features"
#: Of a part without tokens, and of one with them.
PLAIN_VERSION, TOKEN_VERSION = 2, 3
#: A version beyond this is damage, one up to it the work of a newer pairfuse.
NEWEST_VERSION = 1000
SUFFIX = ".h5"
KEY_BYTES = 32
CHECKSUM_BYTES = 16
_DATASETS: dict[str, np.dtype[Any]] = {
    "keys": np.dtype("u1"),
    "features": np.dtype("<f4"),
    "checksums": np.dtype("u1"),
}
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
_TOKEN_DATASETS: dict[str, np.dtype[Any]] = {
    "tokens": np.dtype("<f2"),
    "offsets": np.dtype("<i8"),
    "token_checksums": np.dtype("u1"),
}
_TOKEN_ATTRIBUTES = ("tokens", "token_dim")
#: HDF5 itself keeps an attribute below this; a larger one is declared, not there.
_TEXT_BYTES = 2**20
_WHOLE_NUMBERS = frozenset({"format_version", "dim", "rows", *_TOKEN_ATTRIBUTES})


def attributes_of(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of all attributes of a part, in the order in which they are written."""
    has_tokens = attributes["format_version"] == TOKEN_VERSION
    return _ATTRIBUTES + (_TOKEN_ATTRIBUTES if has_tokens else ())


def datasets_of(attributes: Mapping[str, Any]) -> Mapping[str, np.dtype[Any]]:
    """Its datasets and what they hold."""
    has_tokens = attributes["format_version"] == TOKEN_VERSION
    return _DATASETS | (_TOKEN_DATASETS if has_tokens else {})


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """The attributes as plain str and int; anything else is refused.

    Text is of fixed length: text of any length lies in HDF5's global heap, and one wrong size in
    that heap keeps the library in a loop that nothing can stop.
    """
    out: dict[str, Any] = {}
    _read_into(out, file, _ATTRIBUTES)
    version = out["format_version"]
    if out["format"] != FORMAT or not PLAIN_VERSION <= version <= NEWEST_VERSION:
        found = f"{out['format'][:60]} version {shown(version)}"
        raise DamageError(f"it is of format {found}, this is {FORMAT} version {TOKEN_VERSION}")
    if version > TOKEN_VERSION:
        raise StoreError(
            f"it is of format version {version}, which a newer pairfuse wrote; this one reads up "
            f"to version {TOKEN_VERSION}: update it, or name another folder with --cache"
        )
    _read_into(out, file, attributes_of(out)[len(_ATTRIBUTES) :])
    return out


def _read_into(out: dict[str, Any], file: h5py.File, names: Sequence[str]) -> None:
    for name in names:
        if name not in file.attrs:
            raise DamageError(f"attribute {name!r} is missing")
        kind = file.attrs.get_id(name)
        if kind.shape != () or kind.dtype.kind not in "Siu" or kind.dtype.itemsize > _TEXT_BYTES:
            raise DamageError(f"attribute {name!r} is not a plain value")
        value = file.attrs[name]
        out[name] = int(value) if isinstance(value, np.integer) else value.decode("utf-8")
        if not isinstance(out[name], int if name in _WHOLE_NUMBERS else str):
            raise DamageError(f"attribute {name!r} is not a plain value")


def plain_dataset(file: h5py.File, name: str, dtype: np.dtype[Any]) -> h5py.Dataset:
    """A dataset that lies in this very file, in one piece: no link, filter, or outside storage."""
    import h5py

    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise DamageError(f"dataset {name!r} is missing or is a link to elsewhere")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise DamageError(f"{name!r} is not a dataset")
    plist = dataset.id.get_create_plist()
    if (
        plist.get_layout() != h5py.h5d.CONTIGUOUS
        or plist.get_external_count()
        or plist.get_nfilters()
        or dataset.dtype != dtype
    ):
        raise DamageError(f"dataset {name!r} is not plain, contiguous {dtype}")
    return dataset


def check_shapes(
    datasets: Mapping[str, h5py.Dataset], attributes: Mapping[str, Any], file_size: int
) -> None:
    """Declared shapes agree with each other and fit into the file, before a byte is read."""
    rows, dim = attributes["rows"], attributes["dim"]
    if not (isinstance(rows, int) and isinstance(dim, int) and rows > 0 and dim > 0):
        raise DamageError(f"it declares {rows} rows of width {dim}")
    shapes: dict[str, tuple[int, ...]] = {
        "keys": (rows, KEY_BYTES),
        "checksums": (rows, CHECKSUM_BYTES),
        "features": (rows, dim),
        "tokens": (attributes.get("tokens", 0), attributes.get("token_dim", 0)),
        "offsets": (rows + 1,),
        "token_checksums": (rows, CHECKSUM_BYTES),
    }
    for name, dataset in datasets.items():
        if dataset.shape != shapes[name]:
            raise DamageError(f"dataset {name!r} has shape {dataset.shape}")
        offset = dataset.id.get_offset()
        if offset is None or offset + dataset.size * dataset.dtype.itemsize > file_size:
            raise DamageError(f"dataset {name!r} reaches past the end of the file: it was cut off")

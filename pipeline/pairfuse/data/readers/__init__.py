"""Readers: each turns one published layout into raw rows; READERS is the table of them.

A reader is `(root, columns) -> raw rows`, with a test that knows its layout by the files that are
there. It reads label files and tables only; texts and images are opened later, by `load_dataset`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pairfuse.data.readers import folders, mvsa, parquet, published, tables, vqa
from pairfuse.data.readers.rows import NO_LABEL, RawRow
from pairfuse.errors import ConfigError, DataError

__all__ = ["DEFAULT_METRIC", "NO_LABEL", "READERS", "RawRow", "Reader", "find_reader", "read_rows"]


@dataclass(frozen=True)
class Reader:
    """One layout: how it is read, how it is known, what it is scored by.

    `parts` are what --columns may name; `metric` is what the publishers score by.
    """

    read: Callable[[Path, Mapping[str, str]], Iterable[RawRow]]
    fits: Callable[[Path], bool]
    parts: tuple[str, ...] = ()
    metric: str = "macro_f1"


_COLUMNS = ("id", "text", "image", "label")

#: In the order in which they are tried: a layout that says more of itself comes first.
READERS: Mapping[str, Reader] = {
    "guid-tag": Reader(folders.read_guid_tag, folders.is_guid_tag),
    "mvsa": Reader(mvsa.read_mvsa, mvsa.is_mvsa, metric="accuracy"),
    "hateful-memes": Reader(
        published.read_hateful_memes, published.has_hateful_memes, _COLUMNS, "auroc"
    ),
    "snli-ve": Reader(published.read_snli_ve, published.has_snli_ve, _COLUMNS, "accuracy"),
    "vqa": Reader(vqa.read_vqa, vqa.has_vqa, ("answers",), "vqa_accuracy"),
    "fakeddit": Reader(published.read_fakeddit, published.has_fakeddit, _COLUMNS, "accuracy"),
    "crisis-mmd": Reader(
        published.read_crisis_mmd,
        lambda root: bool(published.crisis_tasks(root)),
        (*_COLUMNS, "task"),
        "accuracy",
    ),
    "parquet": Reader(parquet.read_parquet, parquet.is_parquet, parquet.PARTS),
    "news": Reader(tables.read_news, tables.is_news, tables.PARTS, "accuracy"),
    "table": Reader(tables.read_table, tables.is_table, tables.PARTS),
    "class-folders": Reader(folders.read_class_folders, folders.has_class_folders),
}
#: The measure that a layout's publishers score by, which a search maximises unless told otherwise.
DEFAULT_METRIC: Mapping[str, str] = {name: reader.metric for name, reader in READERS.items()}


def find_reader(root: Path, name: str = "auto") -> str:
    """The name of the reader: the one that is named, or for "auto" the first one that fits.

    Raises:
        DataError: There is no such folder.
        ConfigError: Unknown reader.
    """
    if not _exists(root):
        raise DataError(f"no data set at {root}; name one with DATA=<folder>, or run `make demo`")
    if name not in {"auto", *READERS}:
        raise ConfigError(f"no reader {name!r}; choose one of auto, {', '.join(READERS)}")
    if name != "auto":
        return name
    return next((name for name, reader in READERS.items() if reader.fits(root)), "table")


def read_rows(root: Path, reader: str, columns: Mapping[str, str]) -> Iterable[RawRow]:
    """Read the raw rows of a data set, by the named reader or the one that fits the folder.

    Raises:
        DataError: There is no such folder, or nothing in it that a reader knows.
        ConfigError: Unknown reader or column.
    """
    name = find_reader(root, reader)
    parts = READERS[name].parts
    if columns and not parts:
        raise ConfigError(
            f"{root} is not a table: leave out --columns, or name a table file "
            f"(it is read as {name})"
        )
    unknown = sorted(columns.keys() - set(parts))
    if unknown:
        raise ConfigError(f"no column part {unknown[0]!r}; parts are {', '.join(parts)}")
    return READERS[name].read(root, columns)


def _exists(root: Path) -> bool:
    try:
        return root.exists()
    except OSError:  # a name that is too long
        return False

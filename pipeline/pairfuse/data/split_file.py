"""Split file: a published split of a data set, as a table beside it; it replaces the reader's own.

A row names a pair by its guid, or by the number of its row in the data set, and says its split.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pairfuse.console import log
from pairfuse.data.pairs import Split
from pairfuse.data.readers.rows import SPLITS, RawRow
from pairfuse.data.readers.tables import listed, open_table
from pairfuse.errors import DataError

#: Columns that may name the pair: by its guid, or by its row, counted from 1 without the header.
GUID, ROW = ("guid", "id"), ("line", "row")
NOT_LISTED = "not in the split file"


@dataclass(frozen=True)
class SplitFile:
    """Splits, and folds of pairs that are held out together, by guid or by number of the row."""

    path: Path
    by: str
    splits: Mapping[str, Split]
    folds: Mapping[str, int]


def read_split_file(path: Path) -> SplitFile:
    """Read a CSV, TSV or JSONL with a column guid (or id), or line (or row), and split or fold.

    A row with a fold and no split is a training row.

    Raises:
        DataError: It cannot be read, a column is missing, or rows of it cannot be used: all named.
    """
    header, records = open_table(path)
    spelled = {name.strip().lower(): name for name in reversed(header)}
    by = next((name for name in (*GUID, *ROW) if name in spelled), None)
    if by is None or not spelled.keys() & {"split", "fold"}:
        raise DataError(
            f"{path} needs a column guid or line, and a column split or fold; "
            f"it has {listed(header)}"
        )
    splits: dict[str, Split] = {}
    folds: dict[str, int] = {}
    errors = []
    for where, record in records:
        cells = {part: record.get(spelled.get(part, ""), "").strip() for part in ("split", "fold")}
        key = record.get(spelled[by], "").strip()
        word, fold = cells["split"].lower(), cells["fold"]
        if by in ROW:
            key = str(int(key)) if key.isdecimal() else ""
        if not key or key in splits:
            errors.append(f"{where}: {by} {key!r} is {'there twice' if key else 'no name'}")
        if word not in SPLITS and not (fold and not word):
            errors.append(f"{where}: unknown split {word[:40]!r}; use train, val or test")
        if fold and not fold.isdecimal():
            errors.append(f"{where}: fold {fold[:40]!r} is no whole number")
        splits[key] = SPLITS.get(word, "train")
        if fold.isdecimal() and splits[key] != "test":
            folds[key] = int(fold)
    if errors or not splits:
        more = [f"... and {len(errors) - 20} more"] if len(errors) > 20 else []
        shown = "\n  ".join([*errors[:20], *more]) or "no rows"
        raise DataError(f"{path}: {shown}")
    return SplitFile(path, by, splits, folds)


def with_splits(rows: Sequence[RawRow], file: SplitFile) -> list[RawRow]:
    """The rows with the splits of the file; those that it does not list are left out.

    Raises:
        DataError: It lists no row of the data set.
    """
    keys = list(_keys(rows, file))
    unknown = file.splits.keys() - set(keys)
    if len(unknown) == len(file.splits):
        found = keys[0] if keys else "nothing"
        raise DataError(
            f"{file.path} lists no pair of the data set: it has {file.by} {min(unknown)!r}, the "
            f"data set {found!r}"
        )
    if unknown:
        log.warning(
            "%s lists %d pairs that the data set has not, such as %s %s",
            file.path,
            len(unknown),
            file.by,
            min(unknown),
        )
    return [
        replace(row, split=file.splits[key], split_by_label=False)
        if key in file.splits
        else replace(row, left_out=row.left_out or NOT_LISTED)
        for row, key in zip(rows, keys, strict=True)
    ]


def folds_of(rows: Sequence[RawRow], file: SplitFile) -> dict[str, int]:
    """The fold of each guid that has one."""
    keyed = zip(rows, _keys(rows, file), strict=True)
    return {row.guid: file.folds[key] for row, key in keyed if key in file.folds}


def _keys(rows: Sequence[RawRow], file: SplitFile) -> Iterable[str]:
    """What the file would call each row; rows that the reader leaves out are counted too."""
    if file.by in GUID:
        return (row.guid for row in rows)
    return (str(number) for number in range(1, len(rows) + 1))

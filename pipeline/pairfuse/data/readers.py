"""Readers: each turns one published layout into raw rows; READERS is the table of them.

A reader is `(root, columns) -> list of RawRow`. It reads label files and tables only; texts and
images are opened later, by `load_dataset`. What it finds wrong it adds to the row, so that all
bad rows are reported at once.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pairfuse.data.decoding import decode_texts
from pairfuse.data.pairs import Split
from pairfuse.errors import ConfigError, DataError
from pairfuse.files import read_bytes

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif")
TABLE_ENDINGS = (".csv", ".tsv", ".jsonl")
#: Spellings, lower case, that say "no label".
NO_LABEL = frozenset({"", "null", "none", "nan"})
#: Names that a table's column may have when the user names none.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "guid"),
    "text": ("text",),
    "text_file": ("text_file",),
    "image": ("image", "img", "image_file"),
    "label": ("label", "tag"),
    "split": ("split",),
}
SPLITS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
_MAX_GUID = 200


@dataclass(frozen=True)
class RawRow:
    """One row as a label file has it: `where` names file and line, `errors` what is wrong."""

    where: str
    guid: str
    label: str | None
    split: Split
    text: str | None = None
    text_file: Path | None = None
    image: Path | None = None
    errors: tuple[str, ...] = field(default=())


def read_guid_tag(root: Path, columns: Mapping[str, str]) -> list[RawRow]:
    """`train.txt` and `test_without_label.txt` (`guid,tag`), `data/<guid>.txt` and an image."""
    if columns:
        raise ConfigError(f"{root} is not a table: leave out --columns, or name a table file")
    files = _files_by_name(root / "data")
    rows: list[RawRow] = []
    for name, split in _LABEL_FILES.items():
        if (root / name).is_file():
            rows += _guid_tag_rows(root / name, split, files)
    return rows


def read_table(root: Path, columns: Mapping[str, str]) -> list[RawRow]:
    """A CSV, TSV or JSONL table with a column each for id, text or text file, image, label, split.

    Paths in it are relative to the table's folder. Without a split column, a row with a label is
    a training row and a row without one a test row.
    """
    path = _table_file(root)
    header, records = _table_records(path)
    names = _column_names(path, header, columns)
    return [_table_row(path, where, record, names) for where, record in records]


Reader = Callable[[Path, Mapping[str, str]], list[RawRow]]

READERS: Mapping[str, Reader] = {"guid-tag": read_guid_tag, "table": read_table}

_LABEL_FILES: Mapping[str, Split] = {"train.txt": "train", "test_without_label.txt": "test"}


def read_rows(root: Path, reader: str, columns: Mapping[str, str]) -> list[RawRow]:
    """Read the raw rows of a data set, by the named reader or the one that fits the folder.

    Raises:
        DataError: There is no such folder, or nothing in it that a reader knows.
        ConfigError: Unknown reader or column.
    """
    if not _exists(root):
        raise DataError(f"no data set at {root}; name one with DATA=<folder>, or run `make demo`")
    if reader != "auto":
        if reader not in READERS:
            raise ConfigError(f"no reader {reader!r}; choose one of auto, {', '.join(READERS)}")
        return READERS[reader](root, columns)
    if (root / "train.txt").is_file():
        return read_guid_tag(root, columns)
    return read_table(root, columns)


def _exists(root: Path) -> bool:
    try:
        return root.exists()
    except OSError:  # a name that is too long
        return False


def guid_error(guid: str) -> str:
    """Why this cannot be a guid, or an empty string: a guid names files, so it may hold no path."""
    if not guid:
        return "the guid is empty"
    if "/" in guid or "\\" in guid or guid in {".", ".."}:
        return f"the guid {guid!r} holds a path"
    if len(guid) > _MAX_GUID or not guid.isprintable():
        return f"the guid {guid[:40]!r} is too long or holds control characters"
    return ""


def _guid_tag_rows(path: Path, split: Split, files: Mapping[str, Path]) -> Iterator[RawRow]:
    lines = _text_of(path).splitlines()
    start = next((n for n, line in enumerate(lines) if line.strip()), len(lines))
    if start == len(lines):
        raise DataError(f"{path} is empty; expected a line `guid,tag` and a row for each pair")
    if [cell.strip().lower() for cell in lines[start].split(",")] != ["guid", "tag"]:
        raise DataError(
            f"{path} line {start + 1}: expected the header `guid,tag`, found {lines[start][:60]!r}"
        )
    for number, line in enumerate(lines[start + 1 :], start + 2):
        if line.strip():
            yield _guid_tag_row(f"{path.name} line {number}", line, split, files)


def _guid_tag_row(where: str, line: str, split: Split, files: Mapping[str, Path]) -> RawRow:
    cells = [cell.strip().strip('"').strip() for cell in line.split(",")]
    if len(cells) != 2:
        wrong = f"expected `guid,tag`, found {line[:60]!r}"
        return RawRow(where, cells[0], None, split, errors=(wrong,))
    guid, tag = cells
    wrong = guid_error(guid)
    found = (files.get((guid + ending).lower()) for ending in IMAGE_ENDINGS)
    return RawRow(
        where,
        guid,
        None if tag.lower() in NO_LABEL else tag,
        split,
        text_file=files.get(f"{guid}.txt".lower()),
        image=next((path for path in found if path), None),
        errors=(wrong,) if wrong else (),
    )


def _files_by_name(folder: Path) -> dict[str, Path]:
    """Files of a folder by lower-case name, so that `7.JPG` is found for guid 7."""
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}; it should hold <guid>.txt and <guid>.jpg of each pair"
        )
    with os.scandir(folder) as entries:
        return {entry.name.lower(): Path(entry.path) for entry in entries if not entry.is_dir()}


def _table_file(root: Path) -> Path:
    if root.is_file():
        if root.suffix.lower() not in TABLE_ENDINGS:
            raise DataError(f"{root} is no table: expected a name ending in .csv, .tsv or .jsonl")
        return root
    if not root.is_dir():
        raise DataError(f"{root} is neither a folder nor a table file")
    tables = sorted(p for p in root.iterdir() if p.suffix.lower() in TABLE_ENDINGS and p.is_file())
    if len(tables) != 1:
        found = ", ".join(path.name for path in tables) or "none"
        raise DataError(
            f"{root} holds no train.txt, and not exactly one .csv, .tsv or .jsonl table "
            f"({found}); name the table itself as DATA"
        )
    return tables[0]


def _table_records(path: Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    if path.suffix.lower() == ".jsonl":
        return _jsonl_records(path)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    # newline="" leaves line ends to the csv module; str.splitlines would also cut at U+2028.
    reader = csv.reader(io.StringIO(_text_of(path), newline=""), delimiter=delimiter)
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(
            f"{path} line {reader.line_num}: not a table ({error}); check its quotes, or give the "
            "rows as .jsonl, where a cell may be of any length"
        ) from error
    if not rows:
        raise DataError(f"{path} is empty; expected a header line and a row for each pair")
    header = [cell.strip() for cell in rows[0][1]]
    records = []
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(
                f"{path} line {line}: {len(row)} cells, the header has {len(header)}; "
                "quote cells that hold the delimiter"
            )
        records.append((f"{path.name} line {line}", dict(zip(header, row, strict=True))))
    return header, records


def _jsonl_records(path: Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    header: dict[str, None] = {}
    records = []
    for number, line in enumerate(_text_of(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} line {number}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise DataError(f"{path} line {number}: expected an object, found {line[:40]!r}")
        header.update(dict.fromkeys(record))
        plain = {key: "" if value is None else str(value) for key, value in record.items()}
        records.append((f"{path.name} line {number}", plain))
    if not records:
        raise DataError(f"{path} is empty; expected one JSON object a line")
    return list(header), records


def _column_names(path: Path, header: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Which column of the table plays which part."""
    unknown = given.keys() - COLUMNS.keys()
    if unknown:
        raise ConfigError(f"no column part {min(unknown)!r}; parts are {', '.join(COLUMNS)}")
    absent = [name for name in given.values() if name not in header]
    if absent:
        raise ConfigError(f"{path} has no column {absent[0]!r}; it has {_listed(header)}")
    names = dict(given)
    for part, candidates in COLUMNS.items():
        found = next((name for name in header if name.strip().lower() in candidates), None)
        if part not in names and found:
            names[part] = found
    if "id" not in names or not names.keys() & {"text", "text_file", "image"}:
        raise DataError(
            f"{path} needs a column for id and one for text, text_file or image; it has "
            f"{_listed(header)}; name them: --columns id=... text=... image=... label=..."
        )
    return names


def _listed(header: Sequence[str]) -> str:
    """The columns of a table on one line, the first of them where they are long."""
    line = " ".join(", ".join(header).split())
    return line if len(line) <= 300 else f"{line[:300]}..."


def _table_row(
    path: Path, where: str, record: Mapping[str, str], names: Mapping[str, str]
) -> RawRow:
    def cell(part: str) -> str:
        return record.get(names.get(part, ""), "") if part in names else ""

    errors = [wrong] if (wrong := guid_error(cell("id").strip())) else []
    label = cell("label").strip()
    unlabelled = label.lower() in NO_LABEL
    word = cell("split").strip().lower() or ("test" if unlabelled else "train")
    if word not in SPLITS:
        errors.append(f"unknown split {word[:40]!r}; use train, val or test")
    files: dict[str, Path | None] = {}
    for part in ("text_file", "image"):
        name = cell(part).strip()
        inside = _inside(path.parent, name)
        files[part] = inside
        if name and inside is None:
            errors.append(f"the {part} {name[:80]!r} leaves the table's folder")
    return RawRow(
        where,
        cell("id").strip(),
        None if unlabelled else label,
        SPLITS.get(word, "train"),
        text=cell("text") if "text" in names else None,
        text_file=files["text_file"],
        image=files["image"],
        errors=tuple(errors),
    )


def _inside(folder: Path, name: str) -> Path | None:
    """The path of a file below the folder, or None if there is no name or it leads outside."""
    pure = PurePosixPath(name.replace("\\", "/"))
    if not name or "\0" in name or pure.is_absolute() or ".." in pure.parts:
        return None
    return folder / pure


def _text_of(path: Path) -> str:
    try:
        data = read_bytes(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    return decode_texts([data])[0].text

"""Tables: CSV, TSV and JSONL with one pair a row, under any column names.

Several text columns are joined in the order given, a line each: white space inside all but the
last becomes single blanks. The first and the others are a pair of sentences (`BETWEEN`).
"""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from pairfuse.console import log
from pairfuse.data.pairs import BETWEEN, Split, one_text
from pairfuse.data.readers.rows import SPLITS, RawRow, guid_error, inside, picture_file, text_of
from pairfuse.errors import ConfigError, DataError

TABLE_ENDINGS = (".csv", ".tsv", ".jsonl")
#: Names that a table's column may have when the user names none.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "guid"),
    "text": ("text", "caption"),
    "text_file": ("text_file",),
    "image": ("image", "img", "image_file"),
    "label": ("label", "tag"),
    "split": ("split",),
}
#: The parts that are read into a row; a table has a column, or several text columns, for each.
PARTS = tuple(COLUMNS)
#: Where a path's folder and name are two columns, they are joined by this: `image=folder+file`.
JOIN = "+"
#: Marks that part the cells of a .csv.
DELIMITERS = (",", ";", "\t", "|")
#: What a table of news is known by.
NEWS = ("title", "body", "category")

#: So much of a header is looked at to find the mark that parts its cells.
_HEADER_CHARACTERS = 10_000

Record = Mapping[str, str]
Records = Iterator[tuple[str, dict[str, str]]]
Names = Mapping[str, tuple[str, ...]]


def read_table(
    root: Path, columns: Mapping[str, str], image_root: Path | None = None
) -> list[RawRow]:
    """A CSV, TSV or JSONL table with a column each for id, text or text file, image, label, split.

    Paths in it are relative to the table's folder, those of images to `image_root` if that is
    given. Without an id column rows are named by table and
    number. Without a split column the names of several tables say it (`train.csv`, `dev.csv`,
    `test.csv`); in one table a row with a label is then a training row and one without a test row.
    """
    tables = [(path, split, *_whole(path)) for path, split in table_files(root)]
    rows = [
        row
        for path, split, header, records in tables
        for row in _rows(path, header, records, columns, split, image_root)
    ]
    _note_columns([(path, header) for path, _, header, _ in tables], columns)
    return rows


def read_news(
    root: Path, columns: Mapping[str, str], image_root: Path | None = None
) -> list[RawRow]:
    """A table of news: `title`, `body` and `category`, perhaps `image`, `id` and `split`.

    The text is title and body, a line each; a row without id is named by table and number.
    """
    rows: list[RawRow] = []
    for path, split in table_files(root):
        header, records = _whole(path)
        spelled = {name.strip().lower(): name for name in header}
        wanted = {"text": ("title", "body"), "label": ("category",)}
        named_columns = dict(columns)
        for part, usual in wanted.items():
            absent = [name for name in usual if name not in spelled]
            if part not in named_columns and absent:
                raise DataError(f"{path} has no column {absent[0]!r}; it has {listed(header)}")
            named_columns.setdefault(part, "+".join(spelled.get(name, "") for name in usual))
        rows += _rows(path, header, records, named_columns, split, image_root)
    return rows


def _rows(
    path: Path,
    header: Sequence[str],
    records: Sequence[tuple[str, Record]],
    columns: Mapping[str, str],
    split: Split | None,
    image_root: Path | None,
) -> Iterator[RawRow]:
    """Rows of one table; those without an id column are named by table and number."""
    numbered = "id" not in columns and not {name.strip().lower() for name in header} & set(
        COLUMNS["id"]
    )
    names = _column_names(path, [*header, "id"] if numbered else header, columns)
    for number, (where, record) in enumerate(records, 1):
        named = {**record, "id": f"{path.stem}-{number}"} if numbered else record
        yield table_row(path.parent, where, named, names, split, image_root)


def is_table(root: Path) -> bool:
    """Whether this is a table, or a folder with tables in it."""
    return bool([root] if root.is_file() else _tables_in(root))


def is_news(root: Path) -> bool:
    """Whether the first table here has the columns of news, and none that is called `text`."""
    tables = [root] if root.suffix.lower() in TABLE_ENDINGS else _tables_in(root)
    if not tables or not tables[0].is_file():
        return False
    try:
        with tables[0].open("rb") as file:
            start = file.readline(1 << 20).decode("utf-8-sig", "replace")
    except OSError:
        return False
    if tables[0].suffix.lower() == ".jsonl":
        try:
            header = list(json.loads(start))
        except (ValueError, TypeError, RecursionError):
            return False
    else:
        header = start.split(_delimiter(tables[0], start))
    found = {str(name).strip().strip('"').lower() for name in header}
    return found >= set(NEWS) and "text" not in found


def table_files(root: Path) -> list[tuple[Path, Split | None]]:
    """The tables of a data set with the split that their names say.

    Raises:
        DataError: No table, or several that are not called by splits.
    """
    if root.is_file():
        if root.suffix.lower() not in TABLE_ENDINGS:
            raise DataError(f"{root} is no table: expected a name ending in .csv, .tsv or .jsonl")
        return [(root, None)]
    if not root.is_dir():
        raise DataError(f"{root} is neither a folder nor a table file")
    tables = _tables_in(root)
    if len(tables) == 1:
        return [(tables[0], None)]
    splits = [SPLITS.get(path.stem.lower()) for path in tables]
    if not tables or not all(splits) or len(set(splits)) < len(splits):
        found = ", ".join(path.name for path in tables) or "none"
        raise DataError(
            f"{root} is of no layout that is known, and holds not exactly one .csv, .tsv or "
            f".jsonl table ({found}); name the table itself as DATA"
        )
    return list(zip(tables, splits, strict=True))


def table_row(
    folder: Path,
    where: str,
    record: Record,
    names: Names,
    split: Split | None = None,
    image_root: Path | None = None,
) -> RawRow:
    """One row of a table; `names` are the columns of each part.

    Paths are relative to `folder`, those of images to `image_root` if that is given.
    """

    def cell(part: str) -> str:
        parts = (record.get(name, "").strip() for name in names.get(part, ()))
        return "/".join(part for part in parts if part)

    errors = [wrong] if (wrong := guid_error(cell("id"), names_files=False)) else []
    label = cell("label")
    told = cell("split").lower() or split
    word = told or ("train" if label else "test")
    if word not in SPLITS:
        errors.append(f"unknown split {word[:40]!r}; use train, val or test")
    files: dict[str, Path | None] = {}
    for part, find, base in (
        ("text_file", inside, folder),
        ("image", picture_file, image_root or folder),
    ):
        files[part] = find(base, cell(part))
        if cell(part) and files[part] is None:
            place = "the table's folder" if base == folder else str(base)
            errors.append(f"the {part} {cell(part)[:80]!r} leaves {place}")
    return RawRow(
        where,
        cell("id"),
        label or None,
        SPLITS.get(word, "train"),
        text=joined([record.get(n, "") for n in names["text"]]) if "text" in names else None,
        text_file=files["text_file"],
        image=files["image"],
        errors=tuple(errors),
        split_by_label=not told,
    )


def joined(texts: Sequence[str]) -> str:
    """Several texts as one, a line each, the first parted from the others; one stays as it is."""
    *heads, last = map(one_text, texts)
    first, *others = [*(" ".join(text.split()) for text in heads), last]
    rest = "\n".join(others)
    if not others:
        return first
    return f"{first}{BETWEEN}{rest}" if first and rest.strip() else f"{first}\n{rest}"


def parted(name: str, header: Sequence[str]) -> tuple[str, ...]:
    """`title+body` as two columns, unless a column has this very name."""
    return (name,) if name in header else tuple(name.split(JOIN))


def open_table(path: Path, *, quoted: bool = True) -> tuple[list[str], Records]:
    """The columns of a table, and its rows one by one, each with the place where it stands.

    Args:
        path: A .jsonl file has an object a line, the first of which says the columns; .tsv is
            parted by tabs, .csv by that one of `DELIMITERS` which gives its header most columns.
        quoted: Whether quotation marks in a CSV or TSV enclose cells, or are mere text.

    Raises:
        DataError: It cannot be read, is empty, or a line of it is not of its format.
    """
    if path.suffix.lower() == ".jsonl":
        objects = _objects(path)
        first = next(objects, None)
        if first is None:
            raise DataError(f"{path} is empty; expected one JSON object a line")
        return list(first[1]), chain([first], objects)
    lines = _lines(path, quoted)
    head = next(lines, None)
    if head is None:
        raise DataError(f"{path} is empty; expected a header line and a row for each pair")
    header = [cell.strip() for cell in head[1]]
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"{path} has two columns {twice[0]!r}; rename or remove one")
    return header, _cells(path, header, lines)


def listed(header: Sequence[str]) -> str:
    """The columns of a table on one line, the first of them where they are long."""
    line = " ".join(", ".join(header).split())
    return line if len(line) <= 300 else f"{line[:300]}..."


def _whole(path: Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """All columns that any row has, and all rows."""
    header, rows = open_table(path)
    records = list(rows)
    columns = dict.fromkeys(header)
    for _, record in records:
        columns.update(dict.fromkeys(record))
    return list(columns), records


def _lines(path: Path, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """Lines of a CSV or TSV that are not blank, with their numbers."""
    # newline="" leaves line ends to the csv module; str.splitlines would also cut at U+2028.
    text = text_of(path)
    stream = io.StringIO(text, newline="")
    delimiter = _delimiter(path, text)
    reader = (
        csv.reader(stream, delimiter=delimiter)
        if quoted
        else csv.reader(stream, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    )
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(
            f"{path} line {reader.line_num}: not a table ({error}); check its quotes, or give the "
            "rows as .jsonl, where a cell may be of any length"
        ) from error


def _cells(path: Path, header: list[str], lines: Iterator[tuple[int, list[str]]]) -> Records:
    for number, row in lines:
        if len(row) != len(header):
            raise DataError(
                f"{path} line {number}: {len(row)} cells, the header has {len(header)}; "
                "quote cells that hold the delimiter"
            )
        yield f"{path.name} line {number}", dict(zip(header, row, strict=True))


def _objects(path: Path) -> Records:
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} line {number}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise DataError(f"{path} line {number}: expected an object, found {line[:40]!r}")
        plain = {key: "" if value is None else str(value) for key, value in record.items()}
        yield f"{path.name} line {number}", plain


def _delimiter(path: Path, text: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    header = next((line for line in text.splitlines() if line.strip()), "")[:_HEADER_CHARACTERS]
    return max(DELIMITERS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))


def _tables_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in TABLE_ENDINGS and p.is_file())


def _note_columns(
    headers: Sequence[tuple[Path, Sequence[str]]], columns: Mapping[str, str]
) -> None:
    """Say where no column of any table is taken for the text or the label, and how to name one."""
    path, header = headers[0]
    names = {name.strip().lower() for _, every in headers for name in every}
    for part, others in (("text", ("text_file",)), ("label", ())):
        if not (columns.keys() & {part, *others} or names & {*COLUMNS[part], *others}):
            log.warning(
                "%s: no column is taken for the %s; it has %s; name one: --columns %s=...",
                path,
                part,
                listed(header),
                part,
            )


def label_advice(root: Path, columns: Mapping[str, str]) -> str:
    """What to add to an error where no column is taken for the label; the one of fewest values."""
    path, _ = table_files(root)[0]
    header, records = _whole(path)
    spelled = {name.strip().lower(): name for name in header}
    if "label" in columns or spelled.keys() & {*COLUMNS["label"]}:
        return ""
    taken = {*columns.values(), *(name for names in COLUMNS.values() for name in names)}
    values = {
        name: len({record.get(name, "") for _, record in records})
        for lower, name in spelled.items()
        if not taken & {lower, name}
    }
    likely = min(values, key=lambda name: (values[name] < 2, values[name]), default="...")
    return (
        f", as no column of {path.name} is taken for the label; it has {listed(header)}: name the "
        f"one of labels, as in --columns {shlex.quote(f'label={likely}')}"
    )


def _column_names(path: Path, header: Sequence[str], named_columns: Mapping[str, str]) -> Names:
    """Which column of the table plays which part."""
    names: dict[str, tuple[str, ...]] = {part: (name,) for part, name in named_columns.items()}
    for part in ("text", "image", "text_file"):
        if part in named_columns:
            names[part] = parted(named_columns[part], header)
    absent = [name for several in names.values() for name in several if name not in header]
    if absent:
        raise ConfigError(f"{path} has no column {absent[0]!r}; it has {listed(header)}")
    for part, candidates in COLUMNS.items():
        spelled = {name.strip().lower(): name for name in reversed(header)}
        found = next((spelled[name] for name in candidates if name in spelled), None)
        if part not in names and found:
            names[part] = (found,)
    if not names.keys() & {"text", "text_file", "image"}:
        raise DataError(
            f"{path} needs a column for text, text_file or image; it has {listed(header)}; "
            "name them: --columns text=... image=... label=... id=..."
        )
    return names

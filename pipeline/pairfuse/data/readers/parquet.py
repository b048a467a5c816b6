"""Parquet and Arrow: tables of the Hugging Face `datasets` library, read without that library.

Read are a folder that `save_to_disk` wrote, with or without splits, and Parquet files whose names
begin with their split. Labels are told by the names of their `ClassLabel`. Pictures that lie inside
a table are given as bytes with each row; rows come batch by batch, so they are never all in memory.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pairfuse.data.pairs import Split
from pairfuse.data.readers.rows import SPLITS, RawRow, bytes_of, guid_error, inside, picture_file
from pairfuse.data.readers.tables import COLUMNS, Names, joined, listed, parted
from pairfuse.errors import ConfigError, DataError

PARTS = ("id", "text", "image", "label")
SUFFIXES = (".parquet", ".arrow")
_BATCH = 64
_SPLIT_WORD = re.compile(r"[a-z]+")

Tables = list[tuple[Path, Split | None]]


def read_parquet(
    root: Path, columns: Mapping[str, str], image_root: Path | None = None
) -> Iterator[RawRow]:
    """A folder of `datasets`, or Parquet files, with text, label, and an image column.

    Without a column for it, the id is the split and the number of the row. A label of -1, or none,
    is no label; where no split is told, such a row is a test row. Paths of images are relative to
    the folder, or to `image_root` if that is given.
    """
    base = image_root or root
    numbers: dict[Split | None, int] = {}
    for path, split in _tables(root):
        schema, batches = _opened(path)
        features = _features(path, schema)
        names = _names(path, schema, features, columns)
        vocabulary = features.get(names.get("label", ("",))[0], {}).get("names")
        wanted = list(dict.fromkeys(name for several in names.values() for name in several))
        for record in _records(path, batches(wanted)):
            number = numbers[split] = numbers.get(split, 0) + 1
            default = f"{split or 'row'}-{number}"
            yield _row(f"{path.name} row {number}", record, names, vocabulary, default, split, base)


def is_parquet(root: Path) -> bool:
    """Whether this is such a table, or a folder that holds some."""
    if root.is_file():
        return root.suffix.lower() in SUFFIXES
    saved = (root / "state.json").is_file() and (root / "dataset_info.json").is_file()
    return saved or (root / "dataset_dict.json").is_file() or bool(_parquet_files(root))


def _tables(root: Path) -> Tables:
    if root.is_file():
        return [(root, None)]
    if (root / "dataset_dict.json").is_file():
        splits = _json(root / "dataset_dict.json").get("splits")
        if not isinstance(splits, list) or not splits:
            raise DataError(f"{root / 'dataset_dict.json'} lists no splits")
        return [table for split in splits for table in _saved(root, str(split))]
    if (root / "state.json").is_file():
        return _saved(root, "")
    files = _parquet_files(root)
    if not files:
        raise DataError(f"{root} holds no .parquet files and nothing that save_to_disk wrote")
    return [(path, _split_of(path)) for path in files]


def _saved(root: Path, name: str) -> Tables:
    """The Arrow files that `state.json` lists, of one split or of a set without splits."""
    folder = inside(root, name) if name else root
    if folder is None or (name and _split_of(Path(name)) is None):
        raise DataError(f"{root} has the split {name[:40]!r}; use train, validation or test")
    state = _json(folder / "state.json")
    listing = state.get("_data_files")
    if not isinstance(listing, list) or state.get("_indices_data_files"):
        raise DataError(f"{folder / 'state.json'} lists no data files; save the set again")
    files = []
    for entry in listing:
        found = str(entry.get("filename", "")) if isinstance(entry, dict) else ""
        path = inside(folder, found)
        if path is None or not path.is_file():
            raise DataError(f"{folder} lacks the file {found[:80]!r} that its state.json lists")
        files.append((path, _split_of(Path(name or str(state.get("_split") or "")))))
    return files


def _parquet_files(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    found = (sorted(root.glob(f"{folder}*.parquet")) for folder in ("", "data/", "*/"))
    files = next((files for files in found if files), [])
    order = [None, *dict.fromkeys(SPLITS.values())]
    return sorted(files, key=lambda path: order.index(_split_of(path)))


def _split_of(path: Path) -> Split | None:
    """The split that a file's name begins with (`test-00000-of-00001.parquet`), or its folder's."""
    for name in (path.name, path.parent.name):
        word = _SPLIT_WORD.match(name.lower())
        if word and word[0] in SPLITS:
            return SPLITS[word[0]]
    return None


def _opened(path: Path) -> tuple[Any, Callable[[list[str]], Iterator[Any]]]:
    """Schema of a file, and what gives the batches of some of its columns."""
    pyarrow, parquet = _library()
    try:
        if path.suffix.lower() == ".parquet":
            file = parquet.ParquetFile(path)
            return file.schema_arrow, partial(file.iter_batches, _BATCH, None)
        stream = pyarrow.ipc.open_stream(pyarrow.memory_map(str(path)))
        return stream.schema, lambda names: (batch.select(names) for batch in stream)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read ({_first_line(error)})") from error


def _records(path: Path, batches: Iterator[Any]) -> Iterator[dict[str, Any]]:
    pyarrow, _ = _library()
    try:
        for batch in batches:
            for start in range(0, batch.num_rows, _BATCH):
                yield from batch.slice(start, _BATCH).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({_first_line(error)})") from error


def _library() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError("Parquet and Arrow files need pyarrow: pip install pyarrow") from error


def _features(path: Path, schema: Any) -> dict[str, dict[str, Any]]:
    """What the `datasets` library noted of each column: in the file, or beside it."""
    noted = (schema.metadata or {}).get(b"huggingface")
    found: Any = {}
    if noted:
        try:
            found = json.loads(noted)["info"]["features"]
        except (ValueError, KeyError, TypeError, RecursionError):
            found = {}
    elif (path.parent / "dataset_info.json").is_file():
        found = _json(path.parent / "dataset_info.json").get("features")
    columns = found.items() if isinstance(found, dict) else ()
    return {name: column for name, column in columns if isinstance(column, dict)}


def _names(
    path: Path,
    schema: Any,
    features: Mapping[str, dict[str, Any]],
    named_columns: Mapping[str, str],
) -> Names:
    header = list(schema.names)
    names: dict[str, tuple[str, ...]] = {part: (name,) for part, name in named_columns.items()}
    if "text" in named_columns:
        names["text"] = parted(named_columns["text"], header)
    absent = [name for several in names.values() for name in several if name not in header]
    if absent:
        raise ConfigError(f"{path} has no column {absent[0]!r}; it has {listed(header)}")
    kinds = {"image": "Image", "label": "ClassLabel"}
    for part in PARTS:
        usual = [name for name in header if name.lower() in COLUMNS[part]]
        typed = [n for n in header if features.get(n, {}).get("_type") == kinds.get(part, "-")]
        found = [*usual, *typed]
        if part not in names and found:
            names[part] = (found[0],)
    if not names.keys() & {"text", "image"}:
        raise DataError(
            f"{path} needs a column for text or image; it has {listed(header)}; "
            "name them: --columns text=... image=... label=..."
        )
    return names


def _row(
    where: str,
    record: Mapping[str, Any],
    names: Names,
    vocabulary: Any,
    default: str,
    split: Split | None,
    root: Path,
) -> RawRow:
    def cell(part: str) -> Any:
        return record[names[part][0]] if part in names else None

    guid = default if cell("id") is None else str(cell("id"))
    errors = [wrong] if (wrong := guid_error(guid, names_files=False)) else []
    label, wrong = _label(cell("label"), vocabulary)
    picture, image, amiss = _image(cell("image"), root if root.is_dir() else root.parent)
    texts = ["" if record[n] is None else str(record[n]) for n in names.get("text", ())]
    return RawRow(
        where,
        guid,
        label,
        split or ("test" if label is None else "train"),
        text=joined(texts) if texts else None,
        image=image,
        errors=(*errors, *filter(None, (wrong, amiss))),
        picture=picture,
        split_by_label=split is None,
    )


def _label(value: Any, vocabulary: Any) -> tuple[str | None, str]:
    """The label's name, and what is wrong with it."""
    if isinstance(vocabulary, list) and isinstance(value, int):
        if value == -1:
            return None, ""
        if not 0 <= value < len(vocabulary):
            return None, f"label {value} is none of the {len(vocabulary)} named ones"
        return str(vocabulary[value]), ""
    word = "" if value is None else str(value).strip()
    return word or None, ""


def _image(value: Any, folder: Path) -> tuple[bytes | None, Path | None, str]:
    """Bytes or path of an image cell, and what is wrong with it."""
    data, name = value, value
    if isinstance(value, dict):
        data, name = value.get("bytes"), value.get("path")
    if isinstance(data, bytes):
        return data, None, ""
    if name is None or name == "":
        return None, None, ""
    if not isinstance(name, str):
        return None, None, f"the image is a {type(name).__name__}; expected bytes or a path"
    path = picture_file(folder, name)
    return None, path, "" if path else f"the image {name[:80]!r} leaves the data set's folder"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(bytes_of(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no JSON object")
    return found


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__

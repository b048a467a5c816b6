"""Folders: layouts where texts and images are files of the same name, with labels beside them.

A reader here opens label files alone; which files there are is read from the folders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pairfuse.data.pairs import Split
from pairfuse.data.readers.rows import (
    IMAGE_ENDINGS,
    NO_LABEL,
    SPLITS,
    RawRow,
    guid_error,
    pair_files,
    text_of,
)
from pairfuse.errors import DataError

_LABEL_FILES: Mapping[str, Split] = {"train.txt": "train", "test_without_label.txt": "test"}


def read_guid_tag(root: Path, _: Mapping[str, str]) -> list[RawRow]:
    """`train.txt` and `test_without_label.txt` (`guid,tag`), `data/<guid>.txt` and an image."""
    rows = [
        row
        for name, split in _LABEL_FILES.items()
        if (root / name).is_file()
        for row in _guid_tag_rows(root / name, split)
    ]
    files = pair_files(root / "data", (row.guid for row in rows))
    return [
        replace(row, text_file=files[row.guid].text, image=files[row.guid].image) for row in rows
    ]


def is_guid_tag(root: Path) -> bool:
    """Whether there is a label file of this layout for training."""
    return (root / "train.txt").is_file()


def read_class_folders(root: Path, _: Mapping[str, str]) -> list[RawRow]:
    """`<class>/<name>.txt` and `<class>/<name>.jpg`, or the same below `train/`, `val/`, `test/`.

    The guid is the path without its ending, parted by dots (`train.cat.7`). Files that lie in
    `test/` itself are pairs without a label. Hidden files and folders are passed over.
    """
    splits = _split_folders(root)
    rows: list[RawRow] = []
    for folder, split in splits or [(root, SPLITS["train"])]:
        if splits and split == "test":
            rows += _class_rows(root, folder, None, split)
        for inner in _folders_in(folder):
            rows += _class_rows(root, inner, inner.name, split)
    if not rows:
        raise DataError(
            f"{root} holds no class folders; expected <class>/<name>.txt and <class>/<name>.jpg"
        )
    return rows


def has_class_folders(root: Path) -> bool:
    """Whether there are two classes or more, here or below folders of splits, that hold pairs."""
    outer = [folder for folder, _ in _split_folders(root)] or [root]
    classes = (inner for folder in outer for inner in _folders_in(folder))
    return len({inner.name for inner in classes if any(map(_is_part, inner.iterdir()))}) > 1


def _guid_tag_rows(path: Path, split: Split) -> Iterator[RawRow]:
    lines = text_of(path).splitlines()
    start = next((n for n, line in enumerate(lines) if line.strip()), len(lines))
    if start == len(lines):
        raise DataError(f"{path} is empty; expected a line `guid,tag` and a row for each pair")
    if [cell.strip().lower() for cell in lines[start].split(",")] != ["guid", "tag"]:
        raise DataError(
            f"{path} line {start + 1}: expected the header `guid,tag`, found {lines[start][:60]!r}"
        )
    for number, line in enumerate(lines[start + 1 :], start + 2):
        if line.strip():
            yield _guid_tag_row(f"{path.name} line {number}", line, split)


def _guid_tag_row(where: str, line: str, split: Split) -> RawRow:
    cells = [cell.strip().strip('"').strip() for cell in line.split(",")]
    if len(cells) != 2:
        wrong = f"expected `guid,tag`, found {line[:60]!r}"
        return RawRow(where, cells[0], None, split, errors=(wrong,))
    guid, tag = cells
    wrong = guid_error(guid)
    return RawRow(
        where,
        guid,
        None if not tag or (split == "test" and tag.lower() in NO_LABEL) else tag,
        split,
        errors=(wrong,) if wrong else (),
    )


def _split_folders(root: Path) -> list[tuple[Path, Split]]:
    """Folders that are called by splits; only where one of them is for training."""
    found = [(f, SPLITS[f.name.lower()]) for f in _folders_in(root) if f.name.lower() in SPLITS]
    return found if any(split == "train" for _, split in found) else []


def _folders_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _is_part(path: Path) -> bool:
    return path.suffix.lower() in {".txt", *IMAGE_ENDINGS} and not path.name.startswith(".")


def _class_rows(root: Path, folder: Path, label: str | None, split: Split) -> Iterator[RawRow]:
    """One row for each name in a folder, and one that is left out for each thing of no use."""
    stems: dict[str, dict[str, Path]] = {}
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        where = str(path.relative_to(root))
        if _is_part(path) and not path.is_dir():
            stems.setdefault(path.stem, {})[path.suffix.lower()] = path
        elif label is not None and path.is_dir():
            yield RawRow(where, where, label, split, left_out="a folder inside a class folder")
        elif not path.is_dir():
            yield RawRow(where, where, label, split, left_out="neither .txt nor an image")
    for stem, files in stems.items():
        where = str((folder / stem).relative_to(root))
        guid = ".".join((folder / stem).relative_to(root).parts)
        wrong = guid_error(guid)
        images = [files[ending] for ending in IMAGE_ENDINGS if ending in files]
        yield RawRow(
            where,
            guid,
            label,
            split,
            text_file=files.get(".txt"),
            image=images[0] if images else None,
            errors=(wrong,) if wrong else (),
        )
        for other in images[1:]:
            name = str(other.relative_to(root))
            yield RawRow(name, name, label, split, left_out="a second image of the same name")

"""Rows: what readers give to `load_dataset`, and what holds for every one of them.

No row may name a file outside the data set's folder. What is wrong with a row is noted in it, so
that all bad rows are reported at once.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pairfuse.data.decoding import decode_texts
from pairfuse.data.pairs import Split
from pairfuse.errors import DataError
from pairfuse.files import is_files_own, read_bytes

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif")
#: Spellings, lower case, that say "no label" in a file of pairs that are to be predicted.
NO_LABEL = frozenset({"", "null", "none", "nan"})
SPLITS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
_MAX_GUID = 200


@dataclass(frozen=True)
class RawRow:
    """One row as a label file has it: `where` names file and line, `errors` what is wrong.

    A row with `left_out` is no pair: it is counted by that reason. `picture` holds the bytes of an
    image that lies inside a table; `answers` are what several annotators said, one each. A label
    is a word of any kind, `None` and `null` too; only an empty cell is none.
    """

    where: str
    guid: str
    label: str | None
    split: Split
    text: str | None = None
    text_file: Path | None = None
    image: Path | None = None
    errors: tuple[str, ...] = field(default=())
    left_out: str = ""
    picture: bytes | None = field(default=None, repr=False)
    #: Whether the split follows from the label alone, and not from a column or a file's name.
    split_by_label: bool = False
    answers: tuple[str, ...] = ()


def guid_error(guid: str, *, names_files: bool = True) -> str:
    """Why this cannot be a guid, or an empty string: one that names files may hold no path."""
    if not guid:
        return "the guid is empty"
    if names_files and ("/" in guid or "\\" in guid or guid in {".", ".."}):
        return f"the guid {guid!r} holds a path"
    if len(guid) > _MAX_GUID or not guid.isprintable():
        return f"the guid {guid[:40]!r} is too long or holds control characters"
    return ""


def label_error(label: str, known: Sequence[str]) -> str:
    """Why this is no label of a published vocabulary, or an empty string."""
    return "" if label in known else f"label {label[:40]!r} is not one of {', '.join(known)}"


def inside(folder: Path, name: str) -> Path | None:
    """The path of a file below the folder, or None if there is no name or it leads outside."""
    pure = PurePosixPath(name.replace("\\", "/"))
    if not name or "\0" in name or ".." in pure.parts:
        return None
    if not pure.is_absolute():
        return folder / pure
    homes = (folder.absolute(), folder.resolve())  # the folder may itself be a link
    return Path(pure) if any(pure.is_relative_to(home) for home in homes) else None


def picture_file(folder: Path, name: str) -> Path | None:
    """The picture of this name below the folder; an ending that the name lacks is found.

    None if there is no name or it leads outside; a path that is not there where none is found.
    """
    path = inside(folder, name)
    if path is None or path.suffix.lower() in IMAGE_ENDINGS:
        return path
    try:
        ended = [path, *(path.with_name(path.name + ending) for ending in IMAGE_ENDINGS)]
        return next((each for each in ended if each.is_file()), path)
    except (OSError, ValueError):  # a name that no file can have: reading it will say so
        return path


def first_folder(root: Path, names: Iterable[str], holding: str) -> Path:
    """The first of these folders that is there.

    Raises:
        DataError: None is there; `holding` says what is missed.
    """
    tried = list(names)
    for name in tried:
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root} has no folder of {holding}; expected {' or '.join(tried)}")


def pair_files(folder: Path, guids: Iterable[str]) -> dict[str, PairFiles]:
    """Text file and image file of each guid, by their names.

    A guid has the files of exactly its name; only where there is none, one whose name differs in
    case alone and which no other guid has. Names are compared in Unicode's composed form, since
    some systems store them decomposed. Endings are read in any case (`7.JPG`).

    Raises:
        DataError: There is no such folder.
    """
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}; it should hold <guid>.txt and <guid>.jpg of each pair"
        )
    exact: dict[str, dict[str, Path]] = {}
    for path in sorted(_plain_files(folder)):
        stem = unicodedata.normalize("NFC", path.stem)
        exact.setdefault(stem, {}).setdefault(path.suffix.lower(), path)
    other_case: dict[str, list[str]] = {}
    for stem in exact:
        other_case.setdefault(stem.casefold(), []).append(stem)
    names = {guid: unicodedata.normalize("NFC", guid) for guid in guids}
    taken: set[Path] = set()
    found: dict[str, PairFiles] = {}
    for only_exact in (True, False):
        for guid, name in names.items():
            stems = [name] if only_exact else other_case.get(name.casefold(), [])
            files = found.get(guid, PairFiles())
            for stem in stems:
                files = files.or_else(exact.get(stem, {}), taken)
            found[guid] = files
            taken |= {path for path in (files.text, files.image) if path}
    return found


@dataclass(frozen=True)
class PairFiles:
    """The files of one pair, none where there is none."""

    text: Path | None = None
    image: Path | None = None

    def or_else(self, files: Mapping[str, Path], taken: Collection[Path]) -> PairFiles:
        """The same, with what it lacks from `files` (by ending) that are not `taken`."""
        free = {ending: path for ending, path in files.items() if path not in taken}
        images = [free[ending] for ending in IMAGE_ENDINGS if ending in free]
        return PairFiles(self.text or free.get(".txt"), self.image or next(iter(images), None))


def _plain_files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link that leads to itself: reading it will say so
                is_folder = False
            if not is_folder:
                yield Path(entry.path)


def text_of(path: Path) -> str:
    """The text of a label file or a table, whatever its encoding."""
    return decode_texts([bytes_of(path)])[0].text


def bytes_of(path: Path) -> bytes:
    """The bytes of a label file or a table.

    Raises:
        DataError: It cannot be read.
        OSError: The system failed just now, which says nothing about the file.
    """
    try:
        return read_bytes(path)
    except OSError as error:
        if not is_files_own(error):
            raise
        raise DataError(f"{path} cannot be read ({error.strerror})") from error

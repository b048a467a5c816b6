"""Loading: raw rows become a data set; every decision about bad rows is made here.

Decisions: a text that is empty, or an image that is absent, unreadable or too large, is a missing
modality. A training pair with neither is an error; a test pair with neither stays and is
predicted from the class prior. Labels are compared without case, outer spaces and characters of no
width, in Unicode's composed form, and take their most frequent spelling. A link that leads out of
the data set's folder is a bad row unless links are followed. The same guid twice, a training row
without a label, a label outside a given vocabulary and a guid that holds a path are errors; all bad
rows are reported together. A label that only test pairs have is no part of the vocabulary found:
such a pair stays, and its prediction is an error. Rows that their layout leaves out are counted and
said. Pictures inside tables are unpacked once, each under the sha256 of its bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pairfuse.console import log
from pairfuse.data.decoding import DecodedText, decode_texts
from pairfuse.data.image_facts import read_image_facts
from pairfuse.data.images import MAX_IMAGE_BYTES, MAX_PIXELS
from pairfuse.data.pairs import Dataset, Decoding, ImageFacts, Pair, Problem, one_text
from pairfuse.data.readers import find_reader, read_rows
from pairfuse.data.readers.rows import NO_LABEL, RawRow
from pairfuse.data.readers.tables import label_advice
from pairfuse.data.split_file import folds_of, read_split_file, with_splits
from pairfuse.errors import DataError
from pairfuse.files import is_files_own, read_bytes, write_bytes

_SHOWN = 20
#: Control characters, line ends and lone surrogates: no label is written with them.
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
#: Zero-width spaces, joiners and marks of direction and byte order: no eye tells labels by them.
_NO_WIDTH = re.compile("[\u200b-\u200f\u2060\ufeff]")


def load_dataset(
    root: Path,
    *,
    reader: str = "auto",
    columns: Mapping[str, str] | None = None,
    encoding: str = "auto",
    labels: Sequence[str] = (),
    strict: bool = False,
    facts_file: Path | None = None,
    max_pixels: int = MAX_PIXELS,
    max_image_bytes: int = MAX_IMAGE_BYTES,
    follow_links: bool = False,
    missing_labels: Sequence[str] = (),
    image_root: Path | None = None,
    split_file: Path | None = None,
) -> Dataset:
    """Read a data set: label files, texts and what is known of each image.

    Args:
        root: Folder of the data set, or a table file.
        reader: A name in READERS, or "auto".
        columns: For a table: part (id, text, image, ...) to column name; `title+body` joins two.
        encoding: One encoding for all texts, or "auto" to decide by the whole data set.
        labels: The label vocabulary in order; empty takes the labels found, sorted.
        strict: A missing or unreadable modality is an error.
        facts_file: Where facts about images are kept between runs (`image_facts_file`); pictures
            that lie inside tables are unpacked beside it.
        max_pixels: A larger picture counts as unreadable.
        max_image_bytes: A larger picture file is not read, and counts as unreadable.
        missing_labels: Words that stand for no label, compared without case; others, such as `None`
            or `null`, are labels.
        follow_links: Symbolic links may lead out of the data set's folder.
        split_file: A table of the split of each pair, which replaces the reader's own.
        image_root: Base folder of the paths of images in a table; None takes the table's own.

    Raises:
        DataError: Rows that cannot be used, all of them named.
        OSError: The system failed to read a file just now; none is taken for missing.
    """
    name = find_reader(root, reader)
    raw_rows = read_rows(root, name, columns or {}, image_root)
    found_rows = [_unpacked(root, row, facts_file) for row in raw_rows]
    published = read_split_file(split_file) if split_file else None
    if published:
        found_rows = with_splits(found_rows, published)
    none = {_folded(word) for word in missing_labels}
    rows = [_without_label(row, none) for row in found_rows if not row.left_out]
    _note_split_by_label(rows)
    left_out = Counter(row.left_out for row in found_rows if row.left_out)
    for reason, count in left_out.items():
        log.warning("%d of %d rows left out: %s", count, len(found_rows), reason)
    strays = [] if follow_links else _strays(root, rows, image_root, facts_file)
    _refuse(root, [*_row_errors(rows, labels), *strays])
    texts = _texts(rows, encoding)
    images = _images(rows, facts_file, max_pixels, max_image_bytes)
    _refuse(root, _absent(rows, texts, images))
    spelling = _spellings(rows, labels)
    pairs, problems = [], []
    for row in rows:
        text, facts = texts.get(row.guid), images.get(row.guid)
        usable = bool(text and text.text.strip())
        image = row.image if facts and not facts.error else None
        label = None if row.label is None else spelling[_folded(row.label)]
        pairs.append(
            Pair(
                guid=row.guid,
                text=text.text if text and usable else None,
                image=image,
                label=label,
                split=row.split,
            )
        )
        problems += _problems(row, text, facts)
    _note_spellings(rows, spelling)
    if all(pair.split == "test" for pair in pairs):
        why = label_advice(root, columns or {}) if name == "table" else ""
        raise DataError(f"{root}: no labelled pair to train on{why}")
    _refuse(root, _pair_errors(pairs, problems, strict=strict))
    found = {pair.label for pair in pairs if pair.label is not None and pair.split != "test"}
    _note_unseen(pairs, labels or found)
    return Dataset(
        root=root,
        pairs=tuple(pairs),
        labels=tuple(labels) or tuple(sorted(found)),
        problems=tuple(problems),
        decodings={guid: Decoding(text.encoding, text.replaced) for guid, text in texts.items()},
        images=images,
        reader=name,
        left_out=dict(left_out),
        answers={row.guid: row.answers for row in found_rows if row.answers},
        folds=folds_of(found_rows, published) if published else {},
    )


def _unpacked(root: Path, row: RawRow, facts_file: Path | None) -> RawRow:
    """The row with its picture as a file, named by content, so that each is written once."""
    if row.picture is None:
        return row
    if facts_file is None:
        raise DataError(
            f"{root} has its pictures inside a table; facts_file=<file> says where to put"
        )
    digest = hashlib.sha256(row.picture).hexdigest()
    path = _unpacked_folder(facts_file) / digest[:2] / digest
    try:
        if not path.is_file() or path.stat().st_size != len(row.picture):
            write_bytes(path, row.picture)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror})") from error
    return replace(row, picture=None, image=path)


def _unpacked_folder(facts_file: Path) -> Path:
    """Where pictures that lie inside tables are unpacked."""
    return facts_file.parent / "pictures"


def _without_label(row: RawRow, none: Collection[str]) -> RawRow:
    """The row, whose label is gone where it is a word that stands for none."""
    if row.label is None or _folded(row.label) not in none:
        return row
    return replace(row, label=None, split="test" if row.split_by_label else row.split)


def _note_split_by_label(rows: Sequence[RawRow]) -> None:
    """Say which rows became test rows for want of a label, and which labels look like none."""
    moved = sum(row.split_by_label and row.label is None for row in rows)
    if moved:
        log.warning("%d of %d rows have no label: they are test pairs", moved, len(rows))
    odd = Counter(row.label for row in rows if row.label and row.label.lower() in NO_LABEL)
    for label, count in odd.items():
        log.warning(
            "%d rows have the label %r; if that is none, name it: --missing-label %s",
            count,
            label,
            label,
        )


def _row_errors(rows: Sequence[RawRow], labels: Sequence[str]) -> list[str]:
    errors = [f"{row.where}: {error}" for row in rows for error in row.errors]
    seen: dict[str, str] = {}
    known = {_folded(label) for label in labels}
    for row in rows:
        if row.guid in seen:
            errors.append(f"{row.where}: guid {row.guid} was there before, in {seen[row.guid]}")
        seen.setdefault(row.guid, row.where)
        if row.label is None and row.split != "test":
            errors.append(f"{row.where}: pair {row.guid} is for training but has no label")
        if row.label is not None and _UNWRITABLE.search(row.label):
            errors.append(f"{row.where}: label {row.label[:40]!r} holds control characters")
        elif known and row.label is not None and _folded(row.label) not in known:
            errors.append(f"{row.where}: label {row.label!r} is not one of {', '.join(labels)}")
    return errors if rows else ["no rows"]


def _strays(
    root: Path, rows: Sequence[RawRow], image_root: Path | None, facts_file: Path | None
) -> list[str]:
    """Rows one of whose files is a link that leads out of the data set's folders."""
    places = [root if root.is_dir() else root.parent, *([image_root] if image_root else [])]
    unpacked = [_unpacked_folder(facts_file)] if facts_file else []
    homes = [os.path.realpath(place) for place in (*places, *unpacked)]
    inner: dict[Path, bool] = {}  # folders that lie inside, links in their paths followed
    out = []
    for row in rows:
        for path in (row.text_file, row.image):
            if path is None:
                continue
            if path.parent not in inner:
                inner[path.parent] = _is_inside(path.parent, homes)
            if not inner[path.parent] or (_is_link(path) and not _is_inside(path, homes)):
                out.append(
                    f"{row.where}: {path} is a link that leads out of the data set's folder; "
                    "put the file itself there, or allow links with --follow-links"
                )
    return out


def _is_inside(path: Path, homes: Sequence[str]) -> bool:
    real = os.path.realpath(path)
    return any(real == home or real.startswith(home.rstrip(os.sep) + os.sep) for home in homes)


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except (OSError, ValueError):  # a name that no file can have: reading it will say so
        return False


def _plain(label: str) -> str:
    """A label without characters of no width, in Unicode's composed form."""
    return _NO_WIDTH.sub("", unicodedata.normalize("NFC", label)).strip()


def _folded(label: str) -> str:
    """What is compared of a label."""
    return unicodedata.normalize("NFC", _plain(label).casefold())


def _texts(rows: Sequence[RawRow], encoding: str) -> dict[str, DecodedText]:
    """Text of each pair that has one: files are decoded together, table cells are text already."""
    cells = {row.guid: DecodedText(row.text, "table", 0) for row in rows if row.text is not None}
    files = {row.guid: row.text_file for row in rows if row.text_file and row.guid not in cells}
    raws = {guid: _bytes_of(path) for guid, path in files.items()}
    present = {guid: raw for guid, raw in raws.items() if raw is not None}
    decoded = decode_texts(list(present.values()), encoding=encoding)
    single = [replace(each, text=one_text(each.text)) for each in decoded]
    return cells | dict(zip(present, single, strict=True))


def _images(
    rows: Sequence[RawRow], facts_file: Path | None, max_pixels: int, max_image_bytes: int
) -> dict[str, ImageFacts]:
    """Facts of each pair's image; a picture that many pairs share is looked at once."""
    paths = {row.guid: row.image for row in rows if row.image is not None}
    files = list(dict.fromkeys(paths.values()))
    found = read_image_facts(
        files, facts_file, max_pixels=max_pixels, max_image_bytes=max_image_bytes
    )
    facts = dict(zip(files, found, strict=True))
    return {guid: facts[path] for guid, path in paths.items()}


def _bytes_of(path: Path) -> bytes | None:
    try:
        return read_bytes(path)
    except OSError as error:
        if not is_files_own(error):
            raise
        return None


def _problems(row: RawRow, text: DecodedText | None, facts: ImageFacts | None) -> list[Problem]:
    out = []
    if text is None:
        out.append(Problem(row.guid, "text", "missing"))
    elif not text.text.strip():
        out.append(Problem(row.guid, "text", "empty"))
    if facts is None:
        out.append(Problem(row.guid, "image", "missing"))
    elif facts.error:
        out.append(Problem(row.guid, "image", facts.error))
    if len(out) == 2:
        what = "nothing to train on" if row.split != "test" else "predicted from the class prior"
        out.append(Problem(row.guid, "pair", f"neither text nor image: {what}"))
    return out


def _absent(
    rows: Sequence[RawRow], texts: Mapping[str, DecodedText], images: Mapping[str, ImageFacts]
) -> list[str]:
    """Say where files were named and none, or less than half of them, is there."""
    named = {
        "text files": {r.guid: r.text_file for r in rows if r.text_file and r.text is None},
        "images": {row.guid: row.image for row in rows if row.image},
    }
    there = {
        "text files": texts.keys(),
        "images": {guid for guid, facts in images.items() if facts.digest or facts.size},
    }
    errors = []
    for kind, files in named.items():
        lost = [path for guid, path in files.items() if guid not in there[kind]]
        if lost and len(lost) == len(files):
            errors.append(
                f"none of the {len(files)} {kind} can be read; the first is "
                f"{str(lost[0])[:300]}, and "
                f"{_beside(lost[0])}; check the folder and the column of paths"
            )
        elif 2 * len(lost) > len(files):
            log.warning(
                "%d of %d %s cannot be read, such as %s", len(lost), len(files), kind, lost[0]
            )
    return errors


def _beside(path: Path) -> str:
    """What lies where a file was looked for, or in the nearest folder above that is there."""
    folder, names = Path(), list[str]()
    for folder in path.parents:
        with contextlib.suppress(OSError, ValueError):
            names = sorted(entry.name for entry in folder.iterdir())
            break
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{folder} holds {', '.join(names[:5]) or 'nothing'}{more}"


def _spellings(rows: Iterable[RawRow], labels: Sequence[str]) -> dict[str, str]:
    """The spelling that stands for each label, by what is compared of it."""
    if labels:
        return {_folded(label): label for label in labels}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.label is not None:
            counts[_folded(row.label)][_plain(row.label)] += 1
    return {
        folded: min(spellings, key=lambda label: (-spellings[label], label))
        for folded, spellings in counts.items()
    }


def _note_spellings(rows: Sequence[RawRow], spelling: Mapping[str, str]) -> None:
    odd = Counter(
        (row.label, spelling[_folded(row.label)])
        for row in rows
        if row.label is not None and row.label != spelling[_folded(row.label)]
    )
    for (label, taken), count in odd.items():
        log.warning("%d labels %r are taken as %r", count, label, taken)


def _note_unseen(pairs: Sequence[Pair], known: Collection[str]) -> None:
    """Say which labels stand in the test split alone: no model can predict them."""
    unseen = Counter(p.label for p in pairs if p.label is not None and p.label not in known)
    if unseen:
        log.warning(
            "%d test pairs have labels that no training pair has (%s): they count as errors",
            unseen.total(),
            ", ".join(f"{label} {count}" for label, count in unseen.most_common()),
        )


def _pair_errors(pairs: Sequence[Pair], problems: Sequence[Problem], *, strict: bool) -> list[str]:
    train = {pair.guid for pair in pairs if pair.split != "test"}
    if strict:
        return [f"pair {p.guid}: {p.modality} {p.reason} (--strict)" for p in problems]
    return [
        f"pair {p.guid}: {p.reason}; remove its row or give it a text or an image"
        for p in problems
        if p.modality == "pair" and p.guid in train
    ]


def _refuse(root: Path, errors: Sequence[str]) -> None:
    """Report all bad rows at once."""
    if not errors:
        return
    if len(errors) == 1:
        raise DataError(f"{root}: {errors[0]}")
    shown = [re.sub(r"\s+", " ", error) for error in errors[:_SHOWN]]
    more = [f"... and {len(errors) - _SHOWN} more"] if len(errors) > _SHOWN else []
    raise DataError("\n  ".join([f"{root}: {len(errors)} bad rows", *shown, *more]))

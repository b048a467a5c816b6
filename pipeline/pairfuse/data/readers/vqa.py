"""VQA v2: questions about COCO pictures; the most frequent answers are the classes.

The label is the most common of ten answers (`multiple_choice_answer`), if that is one of the most
frequent of the training questions; other questions are left out. All ten answers are kept, so that
soft targets and the official accuracy can be had (`vqa_accuracy`).
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pairfuse.data.pairs import Split, one_text
from pairfuse.data.readers.rows import RawRow, bytes_of, first_folder, guid_error
from pairfuse.errors import ConfigError, DataError, shown

#: Classes where none are ordered; the first baselines used as many (Antol et al. 2015).
ANSWERS = 1000
#: Questions file, split, and the part of COCO that the pictures are from.
PARTS: tuple[tuple[str, Split, str], ...] = (
    ("train2014", "train", "train2014"),
    ("val2014", "val", "val2014"),
    ("test2015", "test", "test2015"),
)
QUESTIONS = "v2_OpenEnded_mscoco_{}_questions.json"
ANNOTATIONS = "v2_mscoco_{}_annotations.json"


def read_vqa(root: Path, columns: Mapping[str, str]) -> Iterator[RawRow]:
    """`v2_OpenEnded_mscoco_train2014_questions.json`, its annotations and COCO's pictures.

    `--columns answers=3129` says how many of the most frequent answers are classes.
    """
    limit = _limit(columns)
    if not has_vqa(root):
        raise DataError(f"{root} holds no {QUESTIONS.format('train2014')}")
    frequent: frozenset[str] = frozenset()
    for part, split, pictures in PARTS:
        questions = root / QUESTIONS.format(part)
        if not questions.is_file():
            continue
        annotations = _annotations(root / ANNOTATIONS.format(part)) if split != "test" else {}
        if split == "train":
            frequent = _most_frequent(annotations, limit)
        folder = first_folder(
            root, (pictures, f"images/{pictures}", "images"), f"COCO {pictures} pictures"
        )
        for number, entry in enumerate(_entries(questions, "questions"), 1):
            where = f"{questions.name} question {number}"
            guid = str(_field(questions, entry, "question_id", (int, str), number))
            picture = _field(questions, entry, "image_id", (int,), number)
            annotation = annotations.pop(guid, None)
            label, own_answers = annotation or (None, ())
            errors = [wrong] if (wrong := guid_error(guid)) else []
            if annotation is None and split != "test":
                errors.append(f"question {guid[:40]} has no annotation")
            rare = label is not None and label not in frequent
            yield RawRow(
                where,
                guid,
                None if rare else label,
                split,
                text=one_text(_field(questions, entry, "question", (str,), number)),
                image=folder / f"COCO_{pictures}_{picture:012d}.jpg",
                errors=tuple(errors),
                left_out=f"not one of the {len(frequent)} most frequent answers" if rare else "",
                answers=own_answers,
            )
        if annotations:
            raise DataError(
                f"{root}: {len(annotations)} annotations of {part} are of no question; "
                "the two files do not belong together"
            )


def has_vqa(root: Path) -> bool:
    """Whether the training questions are there."""
    return (root / QUESTIONS.format("train2014")).is_file()


def _limit(columns: Mapping[str, str]) -> int:
    limit = columns.get("answers", str(ANSWERS))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 9 and int(limit) >= 2):
        raise ConfigError(f"answers is {shown(limit)}; use 2 or more, as --columns answers=1000")
    return int(limit)


def _most_frequent(
    annotations: Mapping[str, tuple[str, tuple[str, ...]]], limit: int
) -> frozenset[str]:
    """The most frequent labels; of equally frequent ones the first by name."""
    counts = Counter(label for label, _ in annotations.values())
    return frozenset(sorted(counts, key=lambda label: (-counts[label], label))[:limit])


def _annotations(path: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Question id to label and the ten answers."""
    out = {}
    for number, entry in enumerate(_entries(path, "annotations"), 1):
        answers = _field(path, entry, "answers", (list,), number)
        objects = [answer for answer in answers if isinstance(answer, dict)]
        # The same few answers come a million times: one object for each keeps memory small.
        texts = [sys.intern(a["answer"]) for a in objects if type(a.get("answer")) is str]
        if not texts or len(texts) < len(answers):
            raise DataError(f"{path} entry {number}: 'answers' should list objects with 'answer'")
        label = str(_field(path, entry, "multiple_choice_answer", (str,), number))
        out[str(_field(path, entry, "question_id", (int, str), number))] = (label, tuple(texts))
    return out


def _entries(path: Path, name: str) -> list[dict[str, Any]]:
    if not path.is_file():
        raise DataError(f"{path.parent} holds no {path.name}; {name} are needed")
    try:
        found = json.loads(bytes_of(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error})") from error
    entries = found.get(name) if isinstance(found, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path} has no list of objects {name!r}")
    return entries


def _field(
    path: Path, entry: Mapping[str, Any], name: str, kinds: tuple[type, ...], number: int
) -> Any:
    value = entry.get(name)
    if type(value) not in kinds:
        raise DataError(f"{path} entry {number}: {name!r} is {shown(value)}")
    return value

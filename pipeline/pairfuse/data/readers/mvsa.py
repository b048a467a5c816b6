"""MVSA-Single and MVSA-Multiple: tweets whose text and image were labelled apart.

The label of a pair is made from those two by the usual rule (Xu and Mao, MultiSentiNet, CIKM 2017):
text and image of one mind give that label; if one of them is neutral, the other's label is taken;
positive against negative is left out. In MVSA-Multiple three annotators labelled each pair: the
majority decides for the text and for the image first, and a pair without one is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pairfuse.data.readers.rows import (
    PairFiles,
    RawRow,
    guid_error,
    label_error,
    pair_files,
    text_of,
)
from pairfuse.errors import DataError

LABEL_FILE = "labelResultAll.txt"
LABELS = ("positive", "neutral", "negative")
#: Annotators in MVSA-Single and in MVSA-Multiple.
ANNOTATORS = (1, 3)
NO_MAJORITY = "no majority among the annotators"
CONTRADICTION = "text and image are labelled positive and negative"


def read_mvsa(root: Path, _: Mapping[str, str]) -> list[RawRow]:
    """`labelResultAll.txt` with `text,image` labels of one annotator or three; `data/<ID>.*`.

    No split lies beside them: all pairs are for training, the folds part them. Published folds are
    brought by a split file.
    """
    path = root / LABEL_FILE
    if not path.is_file():
        raise DataError(f"{root} holds no {LABEL_FILE}; give the folder where it lies as DATA")
    lines = [
        (number, line.split("\t"))
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if line.strip()
    ]
    header = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    if header[:1] != ["id"] or header[1:] not in [["text,image"] * n for n in ANNOTATORS]:
        raise DataError(
            f"{path}: expected the header `ID`, tab, `text,image` (three times in MVSA-Multiple), "
            f"found {' '.join(header)[:60]!r}"
        )
    files = pair_files(root / "data", (cells[0].strip() for _, cells in lines[1:]))
    return [_row(f"{LABEL_FILE} line {n}", cells, len(header), files) for n, cells in lines[1:]]


def is_mvsa(root: Path) -> bool:
    """Whether the label file is there."""
    return (root / LABEL_FILE).is_file()


def pair_label(text: Sequence[str], image: Sequence[str]) -> tuple[str | None, str]:
    """The label of a pair, and why there is none.

    Args:
        text: What each annotator said of the text.
        image: What each annotator said of the image.
    """
    of_text, of_image = _majority(text), _majority(image)
    if of_text is None or of_image is None:
        return None, NO_MAJORITY
    if of_text == of_image or of_image == "neutral":
        return of_text, ""
    return (of_image, "") if of_text == "neutral" else (None, CONTRADICTION)


def _majority(votes: Sequence[str]) -> str | None:
    [(label, count)] = Counter(votes).most_common(1)
    return label if 2 * count > len(votes) else None


def _row(where: str, cells: Sequence[str], width: int, files: Mapping[str, PairFiles]) -> RawRow:
    guid = cells[0].strip()
    votes = [tuple(word.strip().lower() for word in cell.split(",")) for cell in cells[1:]]
    errors = [wrong] if (wrong := guid_error(guid)) else []
    if len(cells) != width or not all(len(vote) == 2 for vote in votes):
        errors.append(f"expected {width - 1} labels as `text,image`, found {cells[1:]!r}"[:160])
        return RawRow(where, guid, None, "test", errors=tuple(errors))
    errors += sorted({w for vote in votes for word in vote if (w := label_error(word, LABELS))})
    label, reason = pair_label([vote[0] for vote in votes], [vote[1] for vote in votes])
    return RawRow(
        where,
        guid,
        label,
        "train",
        text_file=files[guid].text,
        image=files[guid].image,
        errors=tuple(errors),
        left_out="" if errors else reason,
    )

"""Predictions made outside: a CSV table of any program, checked row by row.

A table is trusted in nothing: what cannot be scored is one `DataError`, never a wrong number.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pairfuse.arrays import Doubles
from pairfuse.errors import DataError, shown
from pairfuse.files import read_bytes

#: Names that a column may have, lower case, by its part; the first that is there is taken.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "guid": ("guid", "id"),
    "y_pred": ("tag", "prediction", "label"),
    "truth": ("truth",),
    "group": ("group",),
}
#: Of a table of true labels.
TRUTH_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "guid": ("guid", "id"),
    "truth": ("truth", "tag", "label"),
    "group": ("group",),
}
#: A column of probabilities is named so, then the label.
PROBABILITY = "p_"
#: Probabilities may be rounded: their sum may be so far from 1.
SUM_TOLERANCE = 0.02
#: And the tag's so far below the largest.
TIE_TOLERANCE = 1e-3
#: Cells that stand for "no label", in lower case, unless they have a column of probabilities.
NO_LABEL = frozenset({"", "null", "none", "nan"})


@dataclass(frozen=True)
class Predictions:
    """Predictions of N pairs, in the order of the table.

    Attributes:
        labels: Those that have a column of probabilities, in its order; else all that occur.
        probabilities: Shape (N, C), rows sum to 1, the largest is the prediction; or none.
        groups: Name of each row's duplicate group, empty for a row without; or none.
    """

    name: str
    guids: tuple[str, ...]
    truth: tuple[str, ...]
    y_pred: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities: Doubles | None
    groups: tuple[str, ...] | None


def load_predictions(path: Path, truth: Path | None = None) -> Predictions:
    """Read one table of predictions.

    Args:
        path: A CSV table with a column each for guid and tag or probabilities, and if it likes for
            truth and group; see `COLUMNS`. Rows may be in any order.
        truth: A table of guid and tag, and if it likes of group, that has what this one lacks.

    Raises:
        DataError: It cannot be read, or says something that cannot be.
    """
    table = _read_table(path)
    parts = _parts(table, COLUMNS)
    guids = _guids(path, table, parts)
    columns = {name.removeprefix(PROBABILITY): name for name in table if _is_probability(name)}
    if "y_pred" not in parts and not columns:
        raise _lacks(path, table, "tag")
    labels, probabilities = tuple(columns), None
    if columns:
        probabilities = _probabilities(path, guids, [table[name] for name in columns.values()])
    known: dict[str, list[str]] = {
        part: table[parts[part]]
        for part in ("truth", "group")
        if part in parts and any(table[parts[part]])  # of pairs without a label it is empty
    }
    if truth is not None:
        whole = {part: cells for part, cells in known.items() if all(cells)}
        known |= _known_elsewhere(path, truth, guids) | whole if len(whole) < 2 else {}
    if "truth" not in known:
        raise DataError(
            f"{path} has no column 'truth'; add it, or name a table of guid and tag with the true "
            "labels"
        )
    true = _labels_of(path, guids, known["truth"], "truth", labels)
    if "y_pred" in parts:
        y_pred = _labels_of(path, guids, table[parts["y_pred"]], "tag", labels)
    else:
        assert probabilities is not None
        y_pred = [labels[at] for at in probabilities.argmax(axis=1).tolist()]
    if probabilities is None:
        labels = tuple(sorted({*true, *y_pred}))
    else:
        _check_known(path, guids, [*true, *y_pred], labels)
        _let_tag_win(path, guids, y_pred, labels, probabilities)
    return Predictions(
        name=str(path),
        guids=tuple(guids),
        truth=tuple(true),
        y_pred=tuple(y_pred),
        labels=labels,
        probabilities=probabilities,
        groups=tuple(known["group"]) if "group" in known else None,
    )


def counted(count: int) -> str:
    """A number of rows as a message says it."""
    return f"{count} row{'' if count == 1 else 's'}"


def _read_table(path: Path) -> dict[str, list[str]]:
    """Columns of a CSV table by their names, cells stripped."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 (byte {error.start + 1}); save it as CSV UTF-8"
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    rows: list[list[str]] = []
    try:
        for row in reader:
            if not any(map(str.strip, row)):
                continue
            if header and len(row) != len(header):
                raise DataError(
                    f"{path} line {reader.line_num}: {len(row)} cells, the header has "
                    f"{len(header)}; quote cells that hold a comma"
                )
            if header:
                rows.append(row)
            else:
                header = [cell.strip() for cell in row]
    except csv.Error as error:
        raise DataError(
            f"{path} line {reader.line_num}: not a table ({error}); check its quotes"
        ) from error
    if not rows:
        raise DataError(f"{path} holds no rows; expected a header line and a row for each pair")
    name, count = Counter(header).most_common(1)[0]
    if count > 1:
        raise DataError(f"{path} has the column {shown(name)} twice; name each column once")
    columns = zip(*rows, strict=True)
    return {
        name: [cell.strip() for cell in column]
        for name, column in zip(header, columns, strict=True)
    }


def _parts(table: Mapping[str, object], columns: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Which column of the table plays which part."""
    lower = {name.lower(): name for name in reversed(list(table))}
    named: dict[str, str] = {}
    for part, candidates in columns.items():
        found = next((lower[name] for name in candidates if name in lower), None)
        if found is not None:
            named[part] = found
    return named


def _is_probability(name: str) -> bool:
    return name.startswith(PROBABILITY) and len(name) > len(PROBABILITY)


def _lacks(path: Path, table: Mapping[str, object], part: str) -> DataError:
    header = " ".join(", ".join(table).split())
    return DataError(
        f"{path} has no column {part!r}; it has {shown(header)}; name the columns guid, tag, truth"
    )


def _guids(path: Path, table: Mapping[str, list[str]], parts: Mapping[str, str]) -> list[str]:
    if "guid" not in parts:
        raise _lacks(path, table, "guid")
    guids = table[parts["guid"]]
    guid, count = Counter(guids).most_common(1)[0]
    if count > 1:
        raise DataError(f"{path} has the guid {shown(guid)} {count} times; give each pair one row")
    if "" in guids:
        raise DataError(f"{path} has a row without a guid; give each pair its own")
    return guids


def _known_elsewhere(path: Path, other: Path, guids: Sequence[str]) -> dict[str, list[str]]:
    """True label, and where the other table has it group, of each guid."""
    table = _read_table(other)
    parts = _parts(table, TRUTH_COLUMNS)
    place = {guid: row for row, guid in enumerate(_guids(other, table, parts))}
    if "truth" not in parts:
        raise _lacks(other, table, "tag")
    absent = [guid for guid in guids if guid not in place]
    if absent:
        raise DataError(
            f"{other} has no label for {counted(len(absent))} of {path}, first for guid "
            f"{shown(absent[0])}; add them"
        )
    columns = {part: table[parts[part]] for part in ("truth", "group") if part in parts}
    return {part: [cells[place[guid]] for guid in guids] for part, cells in columns.items()}


def _labels_of(
    path: Path, guids: Sequence[str], cells: list[str], part: str, labels: Sequence[str]
) -> list[str]:
    empty = [
        guid
        for guid, cell in zip(guids, cells, strict=True)
        if cell.lower() in NO_LABEL and cell not in labels
    ]
    if empty:
        raise DataError(
            f"{path}: {counted(len(empty))} without a {part}, first guid {shown(empty[0])}; give "
            "each pair a label"
        )
    return cells


def _probabilities(path: Path, guids: Sequence[str], columns: Sequence[list[str]]) -> Doubles:
    """Shape (N, C), rows sum to 1."""
    table = np.empty((len(guids), len(columns)))
    for at, cells in enumerate(columns):
        try:
            table[:, at] = list(map(float, cells))
        except ValueError as error:
            raise DataError(
                f"{path}: a probability is no number ({shown(str(error))}); use numbers in [0, 1]"
            ) from error
    outside = np.flatnonzero(~((table >= 0) & (table <= 1)).all(axis=1))  # nan is outside too
    if len(outside):
        row = outside[0]
        cell = next(value for value in table[row].tolist() if not 0 <= value <= 1)
        raise DataError(
            f"{path}: {counted(len(outside))} with a probability outside [0, 1], first guid "
            f"{shown(guids[row])} with {cell:g}; give probabilities, not logits"
        )
    sums = table.sum(axis=1)
    off = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)
    if len(off):
        raise DataError(
            f"{path}: {counted(len(off))} whose probabilities do not sum to 1, first guid "
            f"{shown(guids[off[0]])} with {sums[off[0]]:.4g}; give a column for each label"
        )
    return np.asarray(table / sums[:, None])


def _check_known(
    path: Path, guids: Sequence[str], found: Sequence[str], labels: Sequence[str]
) -> None:
    known = set(labels)
    strange = next((at for at, label in enumerate(found) if label not in known), None)
    if strange is not None:
        raise DataError(
            f"{path}: guid {shown(guids[strange % len(guids)])} has the label "
            f"{shown(found[strange])}, which has no column {PROBABILITY}...; add it, or leave the "
            "probabilities out"
        )


def _let_tag_win(
    path: Path,
    guids: Sequence[str],
    y_pred: Sequence[str],
    labels: Sequence[str],
    probabilities: Doubles,
) -> None:
    """Where rounding made a tie, let the tag's probability be the largest, in place."""
    index = {label: number for number, label in enumerate(labels)}
    tags = np.array([index[label] for label in y_pred])
    rows = np.arange(len(tags))
    tops = probabilities.argmax(axis=1)
    own, top = probabilities[rows, tags], probabilities[rows, tops]
    wrong = np.flatnonzero(own < top - TIE_TOLERANCE)
    if len(wrong):
        row = wrong[0]
        raise DataError(
            f"{path}: {counted(len(wrong))} whose tag is not the most probable label, first guid "
            f"{shown(guids[row])} with {own[row]:.3g} for its tag and {top[row]:.3g} for "
            f"{shown(labels[tops[row]])}; leave out the tag or the probabilities"
        )
    ties = np.flatnonzero(tags != tops)
    probabilities[ties, tops[ties]] = own[ties]
    probabilities[ties, tags[ties]] = top[ties] + 1e-6  # survives float32

"""Compare models on the same rows: each one's scores, and every two of them tested in pairs.

Any model's probabilities or labels will do; nothing here needs to know what made them.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pairfuse.arrays import Doubles, Floats, Ints
from pairfuse.errors import DataError, PairfuseError, shown
from pairfuse.stats.bootstrap import RESAMPLES, Estimate, draw_groups, in_words
from pairfuse.stats.metrics import Scores, score
from pairfuse.stats.paired import MOST_PAIRS, Comparison, compare_all
from pairfuse.stats.predictions import SUM_TOLERANCE, Predictions, counted

#: Adjusted p-values below this are called a difference.
LEVEL = 0.05
#: Scores of the printed table; `ModelComparison.scores` has them all.
SHOWN = {"macro_f1": "macro-F1", "accuracy": "accuracy"}


@dataclass(frozen=True)
class ModelComparison:
    """Scores of each model, and the difference of every two; print it to read it.

    Attributes:
        rows: N.
        groups: Groups of duplicates among them; they are resampled and swapped whole.
        scores: By the model's name, in the order given.
        comparisons: Every two models, the earlier one first.
    """

    rows: int
    groups: int
    scores: Mapping[str, Scores]
    comparisons: tuple[Comparison, ...]

    def __str__(self) -> str:
        width = 2 + max(len(name) for name in self.scores)
        lines = [
            self._heading(),
            "",
            " " * width + "".join(f"{name:<24}" for name in SHOWN.values()),
        ]
        for name, scores in self.scores.items():
            cells = "".join(f"{in_words(getattr(scores, key)):<24}" for key in SHOWN)
            lines.append(f"{name:<{width}}{cells}")
        lines = [*(line.rstrip() for line in lines), ""]
        return "\n".join([*lines, *self.sentences()])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("model", *SHOWN.values()))
        rows = [
            [html.escape(name), *(in_words(getattr(scores, key)) for key in SHOWN)]
            for name, scores in self.scores.items()
        ]
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        said = "".join(f"<p>{html.escape(line)}</p>" for line in self.sentences())
        return f"<p>{self._heading()}</p><table><tr>{head}</tr>{body}</table>{said}"

    def sentences(self) -> list[str]:
        """What each comparison shows, and what so many rows can show."""
        return [line for found in self.comparisons for line in self._told(found)]

    def to_frame(self) -> Any:
        """The comparisons as a pandas DataFrame, one row each.

        Raises:
            PairfuseError: pandas is not installed.
        """
        return _pandas().DataFrame(
            [
                {
                    "first": found.first,
                    "second": found.second,
                    "first_macro_f1": self.scores[found.first].macro_f1.value,
                    "second_macro_f1": self.scores[found.second].macro_f1.value,
                    "difference": found.difference.value,
                    "low": found.difference.low,
                    "high": found.difference.high,
                    "p_permutation": found.p_permutation,
                    "p_holm": found.p_holm,
                    "p_accuracy": found.p_accuracy,
                    "detectable": found.detectable,
                    "pairs_needed": found.pairs_needed,
                }
                for found in self.comparisons
            ]
        )

    def _heading(self) -> str:
        joined = f" ({self.groups:,} after joining duplicates)" * (self.groups != self.rows)
        return f"{self.rows:,} pairs{joined}, with 95 % intervals in brackets"

    def _told(self, found: Comparison) -> list[str]:
        gap = found.difference
        better, other = found.first, found.second
        if gap.value < 0:
            better, other, gap = other, better, Estimate(-gap.value, -gap.high, -gap.low)
        numbers = in_words(gap, sign=True)
        if not found.error:
            why = "all pairs are in one group" if gap.value else "no resample tells them apart"
            return [
                f"Which of {found.first} and {found.second} is better cannot be determined: "
                f"{better} minus {other} is {numbers} macro-F1, and {why}."
            ]
        certain = gap.low > 0 and found.p_holm < LEVEL
        if certain:
            head = f"{better} is better than {other}: its macro-F1 is higher by {numbers}."
        else:
            head = (
                f"Which of {found.first} and {found.second} is better cannot be determined: "
                f"{better} minus {other} is {numbers} macro-F1."
            )
        power = (
            f"With {self.rows:,} pairs, differences of {found.detectable:.3f} or more are detected "
            "with 80 % power"
        )
        if found.pairs_needed is not None and not certain:
            more = " or more" if found.pairs_needed == MOST_PAIRS else ""
            power += f"; a difference of {gap.value:.3f} needs {found.pairs_needed:,}{more} pairs"
        return [head, f"  {self._tests(found)}", f"  {power}."]

    def _tests(self, found: Comparison) -> str:
        count = len(self.comparisons)
        adjusted = (
            f" ({_p_value(found.p_holm)} adjusted for {count} comparisons)" if count > 1 else ""
        )
        whole = " (of whole groups)" * (self.groups != self.rows)
        return (
            f"Permutation test on macro-F1: {_p_value(found.p_permutation)}{adjusted}; "
            f"exact McNemar test on accuracy{whole}: {_p_value(found.p_accuracy)}."
        )


@dataclass(frozen=True)
class Aligned:
    """Two tables of predictions over the same pairs: `arms` are probabilities (N, C) by name."""

    labels: tuple[str, ...]
    targets: Ints
    groups: Ints
    arms: Mapping[str, Floats]


def compare(
    y_true: ArrayLike,
    predictions: Mapping[str, ArrayLike],
    *,
    groups: ArrayLike | None = None,
    labels: Sequence[Any] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> ModelComparison:
    """Score models on the same rows and compare every two of them, by macro-F1.

    Intervals are bootstrap intervals over whole groups; tests swap the predictions of whole
    groups; with more than two models the p-values are adjusted (Holm 1979).

    Args:
        y_true: True labels, strings or integers, shape (N,).
        predictions: For each model's name its labels (N,), or its probabilities (N, C), or those of
            R repeats of a cross-validation (R, N, C).
        groups: Shape (N,); rows that belong together, such as duplicates; none is one for each row.
        labels: The C classes in the order of the columns; none is sorted order, as in scikit-learn.
        seed: Same seed, same result.
        resamples: Of the bootstrap, and swaps of the test.

    Raises:
        DataError: The arrays do not fit each other, or hold what is neither label nor probability.

    >>> y_true = ["cat", "dog", "cat", "dog"] * 25
    >>> print(compare(y_true, {"right": y_true, "always cat": ["cat"] * 100}).sentences()[0])
    right is better than always cat: its macro-F1 is higher by +0.667 (+0.625 to +0.714).
    """
    truth = _label_list(y_true, "y_true")
    given = {str(name): _array(values, str(name), truth) for name, values in predictions.items()}
    if len(given) < 2:
        raise DataError(f"a comparison needs two models, and predictions has {len(given)}")
    classes = _classes(truth, given, labels)
    index = {label: number for number, label in enumerate(classes)}
    targets = np.array([index[label] for label in truth], dtype=np.int64)
    tables = {name: _table(values, name, index) for name, values in given.items()}
    repeats = max(len(table) for table in tables.values())
    for name, table in tables.items():
        if len(table) not in (1, repeats):
            raise DataError(
                f"{name} has {len(table)} repeats, another model {repeats}; give each the same "
                "number, or one"
            )
    arms = {name: np.repeat(t, repeats // len(t), axis=0) for name, t in tables.items()}
    draws = draw_groups(_groups(groups, len(targets)), seed=seed, resamples=resamples)
    names = [str(label) for label in classes]
    return ModelComparison(
        rows=len(targets),
        groups=draws.groups,
        scores={name: score(targets, arm, names, draws) for name, arm in arms.items()},
        comparisons=tuple(compare_all(arms, targets, draws, seed=seed)),
    )


def compare_predictions(
    first: Predictions, second: Predictions, *, seed: int, resamples: int = RESAMPLES
) -> ModelComparison:
    """Score two tables of predictions and compare them pair by pair.

    Raises:
        DataError: They are not of the same pairs with the same true labels.
    """
    aligned = align(first, second)
    return compare(
        [aligned.labels[target] for target in aligned.targets.tolist()],
        aligned.arms,
        groups=aligned.groups,
        labels=aligned.labels,
        seed=seed,
        resamples=resamples,
    )


def align(first: Predictions, second: Predictions) -> Aligned:
    """Bring two tables of predictions into one order of pairs and of labels.

    Groups are the first's, or the second's where the first has none; else every pair is its own.

    Raises:
        DataError: They are not of the same pairs with the same true labels.
    """
    if first.name == second.name:
        raise DataError(f"both predictions are named {first.name}; name two different ones")
    place = {guid: row for row, guid in enumerate(second.guids)}
    _check_same_guids(first, second, place)
    order = np.array([place[guid] for guid in first.guids], dtype=np.int64)
    wrong = [row for row, at in enumerate(order.tolist()) if first.truth[row] != second.truth[at]]
    if wrong:
        row = wrong[0]
        raise DataError(
            f"{first.name} and {second.name} disagree on the truth of {counted(len(wrong))}, first "
            f"of guid {shown(first.guids[row])}: {shown(first.truth[row])} and "
            f"{shown(second.truth[int(order[row])])}; compare predictions of the same labels"
        )
    given = [each.labels for each in (first, second) if each.probabilities is not None]
    ordered = dict.fromkeys(label for labels in given for label in labels)
    labels = tuple(ordered | dict.fromkeys(sorted({*first.labels, *second.labels})))
    index = {label: number for number, label in enumerate(labels)}
    if len(labels) < 2:
        raise DataError(
            f"{first.name} and {second.name} know one label, {shown(labels[0])}; a comparison "
            "needs two"
        )
    names = first.groups
    if names is None and second.groups is not None:
        names = tuple(second.groups[at] for at in order.tolist())
    return Aligned(
        labels=labels,
        targets=np.array([index[label] for label in first.truth], dtype=np.int64),
        groups=_group_numbers(names, len(first.guids)),
        arms={
            first.name: _rows_of(first, index),
            second.name: _rows_of(second, index)[order],
        },
    )


def _label_list(values: ArrayLike, name: str) -> list[Any]:
    """Labels as plain strings and integers."""
    array: NDArray[Any] = np.asarray(values)
    if array.ndim != 1 or not len(array):
        raise DataError(f"{name} has the shape {array.shape}; give one label for each row, (N,)")
    if array.dtype.kind == "f" and (array == np.floor(array)).all():
        array = array.astype(np.int64)
    found: list[Any] = array.tolist()
    if strange := [label for label in found if not isinstance(label, str | int)]:
        raise DataError(f"{name} holds {shown(strange[0])}; labels are strings or integers")
    return found


def _array(values: ArrayLike, name: str, truth: Sequence[Any]) -> list[Any] | Doubles:
    """One model's labels as a list, or its probabilities (R, N, C)."""
    array = np.asarray(values)
    if array.ndim < 2:
        labels = _label_list(values, name)
        if len(labels) != len(truth):
            raise DataError(f"{name} has {counted(len(labels))}, y_true {len(truth)}")
        return labels
    table = array[None] if array.ndim == 2 else array
    if table.ndim != 3 or table.dtype.kind not in "fiub" or table.shape[1] != len(truth):
        raise DataError(
            f"{name} has the shape {array.shape} of {array.dtype}; with {counted(len(truth))} of "
            "y_true, give labels (N,) or probabilities (N, C) or (R, N, C)"
        )
    return table.astype(np.float64)


def _classes(
    truth: Sequence[Any],
    given: Mapping[str, list[Any] | Doubles],
    labels: Sequence[Any] | None,
) -> list[Any]:
    predicted = {label for each in given.values() if isinstance(each, list) for label in each}
    widths = {name: each.shape[2] for name, each in given.items() if not isinstance(each, list)}
    if labels is not None:
        classes: list[Any] = np.asarray(labels).tolist()
    elif len({isinstance(label, str) for label in {*truth, *predicted}}) > 1:
        raise DataError("y_true and predictions mix strings and integers; use one kind of label")
    else:
        classes = sorted({*truth, *predicted})
        width = max(widths.values(), default=0)
        if len(classes) < width and all(label in range(width) for label in classes):
            classes = list(range(width))  # integers of which some class has no row
    if len(classes) < 2:
        raise DataError(f"there is one label, {shown(classes[0])}; a comparison needs two")
    for name, width in widths.items():
        if width != len(classes):
            raise DataError(
                f"{name} has {width} columns for {len(classes)} labels; name the columns with "
                "labels=[...]"
            )
    unknown = next((label for label in (*truth, *predicted) if label not in classes), None)
    if unknown is not None:
        raise DataError(f"the label {shown(unknown)} is not among labels={shown(classes)}")
    return classes


def _table(values: list[Any] | Doubles, name: str, index: Mapping[Any, int]) -> Floats:
    """Probabilities (R, N, C), rows sum to 1; a label alone has probability 1."""
    if isinstance(values, list):
        table = np.zeros((1, len(values), len(index)), dtype=np.float32)
        table[0, np.arange(len(values)), [index[label] for label in values]] = 1
        return table
    sums = values.sum(axis=-1, keepdims=True)
    inside = (values >= 0).all() and (values <= 1 + SUM_TOLERANCE).all()  # nan is outside too
    if not inside or (np.abs(sums - 1) > SUM_TOLERANCE).any():
        raise DataError(
            f"{name} holds no probabilities: each row is to be in [0, 1] with the sum 1; pass "
            "logits through a softmax first"
        )
    return np.asarray(values / sums, dtype=np.float32)


def _groups(groups: ArrayLike | None, rows: int) -> Ints:
    if groups is None:
        return np.arange(rows, dtype=np.int64)
    array = np.asarray(groups)
    if array.shape != (rows,):
        raise DataError(f"groups has the shape {array.shape}; give one for each row, ({rows},)")
    names = array.astype(str) if array.dtype == object else array
    return np.unique(names, return_inverse=True)[1]


def _p_value(p: float) -> str:
    return f"p = {p:.4f}" if p >= 5e-5 else "p < 0.0001"


def _pandas() -> Any:
    try:
        import pandas  # type: ignore[import-untyped]
    except ImportError as error:
        raise PairfuseError("to_frame needs pandas; run `pip install pandas`") from error
    return pandas


def _check_same_guids(first: Predictions, second: Predictions, place: Mapping[str, int]) -> None:
    known = set(first.guids)
    for one, other, absent in (
        (second, first, [guid for guid in first.guids if guid not in place]),
        (first, second, [guid for guid in second.guids if guid not in known]),
    ):
        if absent:
            raise DataError(
                f"{one.name} lacks {counted(len(absent))} of {other.name}, first guid "
                f"{shown(absent[0])}; compare predictions of the same pairs"
            )


def _rows_of(predictions: Predictions, index: Mapping[str, int]) -> Floats:
    """Probabilities (N, C) by the common labels; a label alone has probability 1."""
    out = np.zeros((len(predictions.guids), len(index)), dtype=np.float32)
    if predictions.probabilities is None:
        out[np.arange(len(out)), [index[label] for label in predictions.y_pred]] = 1
    else:
        out[:, [index[label] for label in predictions.labels]] = predictions.probabilities
    return out


def _group_numbers(names: Sequence[str] | None, rows: int) -> Ints:
    """Number of each row's group; a row whose group has no name is its own."""
    if names is None:
        return np.arange(rows, dtype=np.int64)
    numbers: dict[str, int] = {}
    return np.array(
        [
            numbers.setdefault(name, row) if name else row  # the row of its first member
            for row, name in enumerate(names)
        ],
        dtype=np.int64,
    )

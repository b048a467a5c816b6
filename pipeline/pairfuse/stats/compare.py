"""Two sets of predictions, by our runs or by any program, aligned by guid and compared in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pairfuse.arrays import Floats, Ints
from pairfuse.errors import DataError, shown
from pairfuse.stats.bootstrap import RESAMPLES, draw_groups
from pairfuse.stats.metrics import Scores, score
from pairfuse.stats.paired import MOST_PAIRS, Comparison, compare_all
from pairfuse.stats.predictions import Predictions, counted


@dataclass(frozen=True)
class Aligned:
    """Two arms over the same pairs: `arms` are probabilities (1, N, C) by name."""

    labels: tuple[str, ...]
    targets: Ints
    groups: Ints
    arms: Mapping[str, Floats]


@dataclass(frozen=True)
class Compared:
    """Two sets of predictions: scores by name, and their difference."""

    groups: int
    scores: Mapping[str, Scores]
    comparison: Comparison


def align(first: Predictions, second: Predictions) -> Aligned:
    """Bring two sets of predictions into one order of pairs and of labels.

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
        labels,
        targets=np.array([index[label] for label in first.truth], dtype=np.int64),
        groups=_group_numbers(names, len(first.guids)),
        arms={
            first.name: _rows_of(first, index)[None],
            second.name: _rows_of(second, index)[order][None],
        },
    )


def compare_predictions(
    first: Predictions, second: Predictions, *, seed: int, resamples: int = RESAMPLES
) -> Compared:
    """Score two sets of predictions and compare them pair by pair.

    Raises:
        DataError: They are not of the same pairs with the same true labels.
    """
    aligned = align(first, second)
    draws = draw_groups(aligned.groups, seed=seed, resamples=resamples)
    scores = {
        name: score(aligned.targets, arm, aligned.labels, draws)
        for name, arm in aligned.arms.items()
    }
    comparison = compare_all(aligned.arms, aligned.targets, draws, seed=seed)[0]
    return Compared(draws.groups, scores, comparison)


def comparison_lines(compared: Compared) -> list[str]:
    """A comparison in words, for the screen."""
    found = compared.comparison
    rows = compared.scores[found.first].rows
    lines = [f"{rows} pairs in {compared.groups} groups, 95 % intervals in brackets"]
    for name, scores in compared.scores.items():
        parts = [("accuracy", scores.accuracy), ("macro-F1", scores.macro_f1)]
        words = ", ".join(f"{part} {e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" for part, e in parts)
        lines.append(f"{name}: {words}")
    gap = found.difference
    lines.append(
        f"macro-F1 of the first less that of the second: {gap.value:+.3f} "
        f"[{gap.low:+.3f}, {gap.high:+.3f}]"
    )
    lines.append(
        f"permutation test p {_chance(found.permutation)}, exact McNemar p {_chance(found.mcnemar)}"
    )
    if found.error:
        lines.append(
            f"with so many pairs, 80 % of studies show a difference of {found.detectable:.3f} or "
            "more"
        )
    if found.pairs_needed is not None:
        more = " or more" if found.pairs_needed == MOST_PAIRS else ""
        lines.append(
            f"a difference of {abs(gap.value):.3f} shows in 80 % of studies from "
            f"{found.pairs_needed:,}{more} pairs"
        )
    return lines


def _chance(p: float) -> str:
    return f"= {p:.4f}" if p >= 5e-5 else "< 0.0001"


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
    """Probabilities (N, C) by the common labels; a guess alone has probability 1."""
    out = np.zeros((len(predictions.guids), len(index)), dtype=np.float32)
    if predictions.probabilities is None:
        out[np.arange(len(out)), [index[guess] for guess in predictions.y_pred]] = 1
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

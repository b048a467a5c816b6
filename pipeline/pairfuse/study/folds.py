"""Folds: stratified, duplicates kept together, the same for every arm and trial of a seed.

Each fold has three sets of rows: held-out rows, which only give scores; validation rows, taken
from the others, which decide when training stops; and training rows. So no score was ever chosen
on the rows that it is computed from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pairfuse.arrays import Doubles, Ints
from pairfuse.errors import DataError
from pairfuse.fusion.fitting import RowSet

#: One row in so many of a fold's training side decides when to stop.
VAL_SHARE = 8


def make_folds(
    targets: Ints,
    groups: Ints,
    labels: Sequence[str],
    *,
    folds: int,
    members: int,
    seed: int,
    repeats: int = 1,
) -> list[RowSet]:
    """Split N rows into folds, `repeats` times, with `members` validation sets for each fold.

    Args:
        targets: Shape (N,).
        groups: Shape (N,); rows of one group are never on two sides.
        labels: The vocabulary, for messages.
        folds: K.
        members: Models for each fold.
        seed: Seed of the draws.
        repeats: R; each deals the rows anew.

    Returns:
        R * K * members row sets, repeat by repeat and fold by fold.

    Raises:
        DataError: A class has fewer groups than there are folds (two folds need four).
    """
    counts = [len(np.unique(groups[targets == t])) for t in range(len(labels))]
    scarce = int(np.argmin(counts))
    needed = 4 if folds == 2 else folds  # one side of two must leave some to train and to watch
    if counts[scarce] < needed:
        raise DataError(
            f"label {labels[scarce]!r} has {counts[scarce]} different pairs, {folds} folds need "
            f"{needed}; label more, merge labels, or use --folds 2"
        )
    return [
        rows
        for repeat in range(repeats)
        for rows in _one_repeat(targets, groups, folds, members, seed + 1009 * repeat, repeat)
    ]


def _one_repeat(
    targets: Ints, groups: Ints, folds: int, members: int, seed: int, repeat: int
) -> list[RowSet]:
    out = []
    for outer, held in enumerate(_split(targets, groups, folds, seed)):
        inside = np.setdiff1d(np.arange(len(targets)), held)
        parts = max(2, min(VAL_SHARE, _fewest(targets[inside], groups[inside])))
        inner = _split(targets[inside], groups[inside], parts, seed + 1 + outer)
        for member in range(members):
            val = inside[inner[member % parts]]
            out.append(RowSet(np.setdiff1d(inside, val), val, held, repeat))
    return out


def _split(targets: Ints, groups: Ints, parts: int, seed: int) -> list[Ints]:
    """The rows of each of the parts.

    Groups of several rows are dealt as in scikit-learn's StratifiedGroupKFold, which takes
    minutes for a hundred thousand groups; the many rows without a twin then even out each class.
    """
    random = np.random.default_rng(seed)
    _, classes = np.unique(targets, return_inverse=True)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    part_of = np.full(len(targets), -1)
    held = np.zeros((parts, int(classes.max()) + 1))  # rows of each class by part
    shared = np.flatnonzero(sizes[group] > 1)
    if len(shared):
        part_of[shared] = _deal(group[shared], classes[shared], held, np.bincount(classes), random)
    for each in range(held.shape[1]):
        alone = random.permutation(np.flatnonzero((part_of < 0) & (classes == each)))
        part_of[alone] = _fill(held[:, each], len(alone), random)
    return [np.flatnonzero(part_of == part) for part in range(parts)]


def _deal(
    group: Ints, classes: Ints, held: Doubles, totals: Ints, random: np.random.Generator
) -> Ints:
    """Part of each of these rows: group by group, the most lopsided first, where it evens most."""
    _, group = np.unique(group, return_inverse=True)
    table = np.zeros((int(group.max()) + 1, held.shape[1]))
    np.add.at(table, (group, classes), 1)
    order = random.permutation(len(table))
    order = order[np.argsort(-table[order].std(axis=1), kind="stable")]
    chosen = np.empty(len(table), dtype=np.int64)
    own = np.eye(len(held))[:, :, None]  # (parts, parts, 1)
    for number in order.tolist():
        after = held + own * table[number]  # (choice, parts, C)
        uneven = (after / totals).std(axis=1).mean(axis=1) + 1e-9 * held.sum(axis=1)
        chosen[number] = uneven.argmin()
        held[chosen[number]] += table[number]
    return chosen[group]


def _fill(levels: Doubles, count: int, random: np.random.Generator) -> Ints:
    """Part of each of so many rows of one class, so that all parts get as level as can be."""
    parts = random.permutation(len(levels))  # who gets one more is drawn
    heights = levels[parts] + np.arange(count)[:, None]  # (count, parts)
    lowest = np.argsort(heights, axis=None, kind="stable")[:count]
    return np.asarray(parts[lowest % len(levels)], dtype=np.int64)


def _fewest(targets: Ints, groups: Ints) -> int:
    return min(len(np.unique(groups[targets == t])) for t in np.unique(targets))

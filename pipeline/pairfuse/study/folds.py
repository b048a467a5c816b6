"""Folds: stratified, duplicates kept together, the same for every arm and trial of a seed.

Each fold has three sets of rows: held-out rows, which only give scores; validation rows, taken
from the others, which decide when training stops; and training rows. So no score was ever chosen
on the rows that it is computed from.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from pairfuse.errors import DataError
from pairfuse.features.table import Ints
from pairfuse.fusion.ensemble import Rows

#: One row in so many of a fold's training side decides when to stop.
VAL_SHARE = 8


def make_folds(
    targets: Ints, groups: Ints, labels: Sequence[str], *, folds: int, members: int, seed: int
) -> list[Rows]:
    """Split N rows into folds, with `members` different validation sets for each.

    Args:
        targets: Shape (N,).
        groups: Shape (N,); rows of one group are never on two sides.
        labels: The vocabulary, for messages.
        folds: K.
        members: Models for each fold.
        seed: Seed of the draws.

    Returns:
        K * members row sets, fold by fold.

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
    out = []
    for outer, held in enumerate(_split(targets, groups, folds, seed)):
        inside = np.setdiff1d(np.arange(len(targets)), held)
        parts = max(2, min(VAL_SHARE, _fewest(targets[inside], groups[inside])))
        inner = _split(targets[inside], groups[inside], parts, seed + 1 + outer)
        for member in range(members):
            val = inside[inner[member % parts]]
            out.append(Rows(np.setdiff1d(inside, val), val, held))
    return out


def _split(targets: Ints, groups: Ints, parts: int, seed: int) -> list[Ints]:
    """The rows of each of the parts."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the smallest class was checked above
        return [
            held.astype(np.int64)
            for _, held in splitter.split(np.zeros(len(targets)), targets, groups)
        ]


def _fewest(targets: Ints, groups: Ints) -> int:
    return min(len(np.unique(groups[targets == t])) for t in np.unique(targets))

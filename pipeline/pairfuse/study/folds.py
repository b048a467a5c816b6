"""Folds: stratified, duplicates kept together, the same for every arm and trial of a seed.

Each fold has three sets of rows: held-out rows, which only give scores; validation rows, taken
from the others, which decide when training stops; and training rows. So no score was ever chosen
on the rows that it is computed from. One such triple is a row set; a fold has as many as it has
models, which differ in their validation rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pairfuse.arrays import Doubles, Ints
from pairfuse.data.rare_labels import check_labels, pairs_needed
from pairfuse.errors import DataError
from pairfuse.fusion.fitting import RowSet, ScaledRowSet

#: One in eight of the rows that a fold does not hold out decides when to stop: with five folds
#: 10 % of all rows, as scikit-learn's `validation_fraction=0.1`.
VAL_SHARE = 8
#: Repeats are seeded this far apart, a prime well above any number of folds, since the split inside
#: fold k is seeded by its repeat's seed + 1 + k.
SEED_STEP = 1009


@dataclass(frozen=True)
class Fold:
    """Rows that were held out together, and the numbers of the row sets that held them out."""

    repeat: int
    held_out: Ints
    sets: tuple[int, ...]


def make_folds(
    targets: Ints,
    groups: Ints,
    labels: Sequence[str],
    *,
    folds: int,
    n_models: int,
    seed: int,
    repeats: int = 1,
    keep_rare: bool = False,
    published: Ints | None = None,
) -> list[RowSet]:
    """Split N rows into folds, `repeats` times, with `n_models` validation sets for each fold.

    Args:
        targets: Shape (N,).
        groups: Shape (N,); rows of one group are never on two sides.
        labels: The vocabulary, for messages.
        folds: K.
        n_models: Models for each fold.
        seed: Seed of the draws.
        repeats: R; each splits the rows anew.
        keep_rare: A class may have fewer groups than that; its groups are then spread as evenly as
            they can be, and no validation set takes the last of them from the training rows.
        published: Shape (N,), the fold of each row in place of a draw. Rows of the group of one
            that is held out do not train then: published folds may have twins on two sides.

    Returns:
        R * K * n_models row sets, repeat by repeat and fold by fold.

    Raises:
        DataError: A class has fewer groups than there are folds (two folds need four), or there is
            one class, or the published folds are more or fewer.
    """
    counts = [len(np.unique(groups[targets == t])) for t in range(len(labels))]
    check_labels(dict(zip(labels, counts, strict=True)), folds, keep_rare=keep_rare)
    common = np.flatnonzero(np.array(counts) >= pairs_needed(folds))
    given = [] if published is None else _published(published, folds)
    out = []
    for repeat in range(repeats):
        own_seed = seed + SEED_STEP * repeat
        for number, held in enumerate(given or _split(targets, groups, folds, own_seed)):
            inside = np.flatnonzero(~np.isin(groups, groups[held]))
            # No validation set without each class, as far as the rarest one's groups reach.
            usual = inside[np.isin(targets[inside], common)]
            fewest = _fewest(targets[usual], groups[usual])
            parts = max(2, min(VAL_SHARE, fewest))
            inner = _split(targets[inside], groups[inside], parts, own_seed + 1 + number)
            for model in range(n_models):
                val = inside[inner[model % parts]]
                if len(common) < len(labels):
                    val = _without_last(val, inside, targets, groups)
                out.append(
                    RowSet(train=np.setdiff1d(inside, val), val=val, held_out=held, repeat=repeat)
                )
    return out


def _published(numbers: Ints, folds: int) -> list[Ints]:
    """The rows of each published fold."""
    found = np.unique(numbers)
    if len(found) != folds:
        raise DataError(f"the split file has {len(found)} folds; use --folds {len(found)}")
    return [np.flatnonzero(numbers == number) for number in found]


def count_repeats(prepared: Sequence[ScaledRowSet]) -> int:
    """How often the rows were split into folds, R."""
    return 1 + max(part.rows.repeat for part in prepared)


def outer_folds(prepared: Sequence[ScaledRowSet]) -> list[Fold]:
    """Group the row sets that hold the same rows out in the same repeat."""
    folds: list[Fold] = []
    for number, part in enumerate(prepared):
        held, repeat = part.rows.held_out, part.rows.repeat
        if folds and folds[-1].repeat == repeat and np.array_equal(folds[-1].held_out, held):
            folds[-1] = Fold(repeat, held, (*folds[-1].sets, number))
        else:
            folds.append(Fold(repeat, held, (number,)))
    return folds


def fold_numbers(folds: Sequence[Fold], rows: int) -> Ints:
    """The fold that held each row out, in each repeat, shape (R, N)."""
    out = np.zeros((1 + max(fold.repeat for fold in folds), rows), dtype=np.int64)
    for number, fold in enumerate(folds):
        out[fold.repeat, fold.held_out] = number
    return out


def _split(targets: Ints, groups: Ints, parts: int, seed: int) -> list[Ints]:
    """The rows of each of the parts, stratified by class, no group in two parts.

    Groups of several rows are assigned as in scikit-learn's StratifiedGroupKFold, whose loop over
    all groups takes minutes for a hundred thousand of them. So only groups of several rows go
    through it here; the many rows that are alone in their group then even out each class.
    """
    random = np.random.default_rng(seed)
    _, classes = np.unique(targets, return_inverse=True)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    part_of = np.full(len(targets), -1)
    counts = np.zeros((parts, int(classes.max()) + 1))  # rows of each class by part
    shared = np.flatnonzero(sizes[group] > 1)
    if len(shared):
        part_of[shared] = _assign_groups(
            group[shared],
            classes[shared],
            counts=counts,
            totals=np.bincount(classes),
            random=random,
        )
    for number in range(counts.shape[1]):
        alone = random.permutation(np.flatnonzero((part_of < 0) & (classes == number)))
        part_of[alone] = _assign_single_rows(counts[:, number], len(alone), random)
    return [np.flatnonzero(part_of == part) for part in range(parts)]


def _assign_groups(
    group: Ints, classes: Ints, *, counts: Doubles, totals: Ints, random: np.random.Generator
) -> Ints:
    """Assign whole groups to parts, each to the part where it evens the classes most.

    Groups whose classes differ most in number go first, while all parts can still take them.

    Args:
        group: Shape (n,), the group of each row.
        classes: Shape (n,).
        counts: Shape (parts, C), rows assigned so far; the groups' rows are added to it.
        totals: Shape (C,), rows of each class in all.
        random: Breaks ties of that order.

    Returns:
        The part of each row, shape (n,).
    """
    _, group = np.unique(group, return_inverse=True)
    by_group = np.zeros((int(group.max()) + 1, counts.shape[1]))
    np.add.at(by_group, (group, classes), 1)
    order = random.permutation(len(by_group))
    order = order[np.argsort(-by_group[order].std(axis=1), kind="stable")]
    chosen = np.empty(len(by_group), dtype=np.int64)
    own = np.eye(len(counts))[:, :, None]  # (parts, parts, 1)
    for number in order.tolist():
        after = counts + own * by_group[number]  # (choice, parts, C)
        # Mean over classes of the spread over parts; of equal choices the part with fewest rows.
        uneven = (after / totals).std(axis=1).mean(axis=1) + 1e-9 * counts.sum(axis=1)
        chosen[number] = uneven.argmin()
        counts[chosen[number]] += by_group[number]
    return chosen[group]


def _assign_single_rows(counts: Doubles, rows: int, random: np.random.Generator) -> Ints:
    """Assign single rows of one class so that all parts end as equal in number as can be.

    Args:
        counts: Shape (parts,), rows of the class in each part so far.
        rows: How many to assign.
        random: Draws which parts get one more.

    Returns:
        The part of each row, shape (rows,).
    """
    parts = random.permutation(len(counts))
    # A part that is filled row by row passes these levels; the lowest of all are taken.
    levels = counts[parts] + np.arange(rows)[:, None]  # (rows, parts)
    lowest = np.argsort(levels, axis=None, kind="stable")[:rows]
    return np.asarray(parts[lowest % len(counts)], dtype=np.int64)


def _fewest(targets: Ints, groups: Ints) -> int:
    """Groups of the class that has the fewest; none of no rows."""
    return min((len(np.unique(groups[targets == t])) for t in np.unique(targets)), default=0)


def _without_last(val: Ints, inside: Ints, targets: Ints, groups: Ints) -> Ints:
    """The validation rows without groups that hold all rows of a class of those inside."""
    train = np.setdiff1d(inside, val)
    lost = np.setdiff1d(targets[val], targets[train])
    return val[~np.isin(groups[val], groups[val[np.isin(targets[val], lost)]])]

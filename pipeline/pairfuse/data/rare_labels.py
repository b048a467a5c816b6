"""Rare labels: those with too few different pairs for folds are all named, dropped or merged.

Pairs of one group of duplicates are one pair here, as they are for the folds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from pairfuse.console import log
from pairfuse.data.duplicates import duplicate_groups
from pairfuse.data.pairs import Dataset
from pairfuse.errors import DataError

#: The class that `merge` makes of all rare labels.
OTHER = "other"


def pairs_needed(folds: int) -> int:
    """Different pairs that each label needs, so that every side of every fold has one.

    Of two folds, each side has half of a class: one group to train on and one to validate on.
    """
    return 4 if folds == 2 else folds


def different_pairs(dataset: Dataset) -> dict[str, int]:
    """How many different labelled pairs each label of the vocabulary has."""
    groups = duplicate_groups(dataset).tolist()
    found = {
        (pair.label, group)
        for pair, group in zip(dataset.pairs, groups, strict=True)
        if pair.split != "test"
    }
    counts = Counter(label for label, _ in found)
    return {label: counts[label] for label in dataset.labels}


def rare_labels(counts: Mapping[str, int], folds: int) -> dict[str, int]:
    """The labels that have too few different pairs, with how many they have; rarest first."""
    few = {label: count for label, count in counts.items() if count < pairs_needed(folds)}
    return dict(sorted(few.items(), key=lambda item: item[1]))


def check_labels(counts: Mapping[str, int], folds: int, *, keep_rare: bool = False) -> None:
    """Refuse a vocabulary that cannot be trained on in folds; all that is wrong is named at once.

    Args:
        counts: Different pairs of each label.
        folds: K.
        keep_rare: Rare labels are allowed.

    Raises:
        DataError: There is one label, or a label has too few different pairs.
    """
    if len(counts) < 2:
        raise DataError(
            f"all labelled pairs have one label, {', '.join(map(repr, counts)) or 'none'}; "
            "a classifier needs two labels or more"
        )
    rare = rare_labels(counts, folds)
    if rare and not keep_rare:
        raise DataError(f"{_named(rare, folds)}; {advice(rare, folds)}")


def check_used(counts: Mapping[str, int]) -> None:
    """Refuse a vocabulary with labels that no training pair has.

    Raises:
        DataError: All of them are named.
    """
    unused = [
        f"label {label!r} has no training pair" for label, count in counts.items() if not count
    ]
    if unused:
        raise DataError(f"{', '.join(unused)}; leave out of the labels what has none")


def note_rare(counts: Mapping[str, int], folds: int) -> None:
    """Warn of rare labels that are kept."""
    if rare := rare_labels(counts, folds):
        log.warning(
            "%s: some folds train on, or score, no pair of such a label", _named(rare, folds)
        )


def _named(rare: Mapping[str, int], folds: int) -> str:
    (label, count), *others = rare.items()
    named = f"label {label!r} has {count} different pairs"
    named += "".join(f", label {label!r} has {count}" for label, count in others)
    return f"{named}; {folds} folds need {pairs_needed(folds)}"


def advice(rare: Mapping[str, int], folds: int) -> str:
    """What can be done about these labels; fewer folds only where they are enough."""
    enough = (k for k in range(folds - 1, 1, -1) if pairs_needed(k) <= min(rare.values()))
    fewer = next(enough, None)
    return (
        "label more, leave their pairs out (--rare drop), make them one class "
        f'"{OTHER}" (--rare merge), or train on them as they are (--rare keep)'
        + (f"; --folds {fewer} is enough for all" if fewer else "")
    )


def rare_changes(dataset: Dataset, how: str, folds: int) -> dict[str, str]:
    """What each rare label becomes: `OTHER` by "merge", nothing by "drop"; else all stay."""
    if how not in ("drop", "merge"):
        return {}
    rare = rare_labels(different_pairs(dataset), folds)
    return dict.fromkeys(rare, OTHER if how == "merge" else "")


def change_labels(dataset: Dataset, changes: Mapping[str, str], needed: int) -> Dataset:
    """The data set after `rare_changes`, which it remembers.

    Training pairs of a label that is dropped are left out and counted. Test pairs stay: they keep a
    label that was dropped, and are then counted as errors.
    """
    if not changes:
        return dataset
    pairs = []
    for pair in dataset.pairs:
        label = pair.label if pair.label is None else changes.get(pair.label, pair.label)
        if label != "":
            pairs.append(replace(pair, label=label))
        elif pair.split == "test":
            pairs.append(pair)
    kept = [label for label in dataset.labels if label not in changes]
    dropped = len(dataset.pairs) - len(pairs)
    reason = f"their label has fewer than {needed} different pairs"
    log.warning(
        "%d labels have fewer than %d different pairs and are %s: %s",
        len(changes),
        needed,
        f"left out, with {dropped} pairs" if dropped else f"merged into {OTHER!r}",
        ", ".join(changes),
    )
    merged = [OTHER] if OTHER in changes.values() and OTHER not in kept else []
    return replace(
        dataset,
        pairs=tuple(pairs),
        labels=(*kept, *merged),
        left_out={**dataset.left_out, **({reason: dropped} if dropped else {})},
        rare=dict(changes),
    )

"""SoftLabels: how right each class is for a pair that several annotators answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pairfuse.arrays import Floats, Ints
from pairfuse.data.pairs import Pair
from pairfuse.data.readers.vqa_accuracy import answer_accuracy, normalised, soft_targets


@dataclass(frozen=True)
class SoftLabels:
    """The classes that the annotators of N pairs named, at most A a pair, -1 where there are fewer.

    `right` is the VQA accuracy of guessing that class; `shares` are the classes' soft scores,
    min(1, n / 3) where n annotators gave the answer, over their sum. A pair without any class has
    its label alone.
    """

    classes: Ints  # (N, A)
    right: Floats  # (N, A)
    shares: Floats  # (N, A), rows sum to 1

    def rows(self, index: Ints) -> SoftLabels:
        """The chosen rows."""
        return SoftLabels(self.classes[index], self.right[index], self.shares[index])

    def and_labels(self, targets: Ints) -> SoftLabels:
        """More rows behind these, each of which has its target alone."""
        width = self.classes.shape[1]
        classes = np.full((len(targets), width), -1, dtype=np.int64)
        classes[:, 0] = targets
        alone = np.zeros((len(targets), width), dtype=np.float32)
        alone[:, 0] = 1
        return SoftLabels(
            np.concatenate([self.classes, classes]),
            np.concatenate([self.right, alone]),
            np.concatenate([self.shares, alone]),
        )

    def right_of(self, y_pred: Ints) -> Floats:
        """How right each pair's guess is, shape (N,)."""
        same = self.classes == y_pred[:, None]
        return np.asarray((self.right * same).sum(axis=1), dtype=np.float32)


def soft_labels_of(
    pairs: Sequence[Pair], labels: Sequence[str], answers: Mapping[str, Sequence[str]]
) -> SoftLabels:
    """What each class is worth for each labelled pair.

    Args:
        pairs: N of them.
        labels: The vocabulary; a label stands for each answer of the same normal form.
        answers: Guid to what the annotators said, as `Dataset.answers` holds it.
    """
    named: dict[str, list[int]] = {}
    for target, label in enumerate(labels):
        named.setdefault(normalised(label), []).append(target)
    place = {label: target for target, label in enumerate(labels)}
    rows = []
    for pair in pairs:
        given = answers.get(pair.guid, ())
        soft = soft_targets(given).items()
        worth = [(target, share) for form, share in soft for target in named.get(form, ())]
        alone = [] if pair.label is None else [(place[pair.label], 1.0)]
        rows.append((given, worth or alone))
    width = max([1, *(len(worth) for _, worth in rows)])
    classes = np.full((len(rows), width), -1, dtype=np.int64)
    right, shares = np.zeros((2, len(rows), width), dtype=np.float32)
    for row, (given, worth) in enumerate(rows):
        total = sum(share for _, share in worth)
        for column, (target, share) in enumerate(worth):
            classes[row, column], shares[row, column] = target, share / total
            right[row, column] = answer_accuracy(labels[target], given)
    return SoftLabels(classes, right, shares)

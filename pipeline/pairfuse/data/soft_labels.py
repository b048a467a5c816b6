"""Soft labels: what each class is worth for a pair that several annotators labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pairfuse.arrays import Floats, Ints
from pairfuse.data.pairs import Pair
from pairfuse.data.readers.vqa_accuracy import answer_accuracy, normalised, soft_targets


@dataclass(frozen=True)
class SoftLabels:
    """The classes that the annotators of N pairs gave, at most A a pair, -1 where there are fewer.

    `accuracy` is the VQA accuracy of predicting that class; `shares` are the classes' soft scores,
    min(1, n / 3) where n annotators gave the answer, divided by their sum: the training targets. A
    pair none of whose answers is a class has its label alone.
    """

    classes: Ints  # (N, A)
    accuracy: Floats  # (N, A)
    shares: Floats  # (N, A), rows sum to 1

    def rows(self, index: Ints) -> SoftLabels:
        """The chosen rows."""
        return SoftLabels(
            classes=self.classes[index], accuracy=self.accuracy[index], shares=self.shares[index]
        )

    def with_labels(self, targets: Ints) -> SoftLabels:
        """These rows, followed by one with a hard label for each target."""
        width = self.classes.shape[1]
        classes = np.full((len(targets), width), -1, dtype=np.int64)
        classes[:, 0] = targets
        alone = np.zeros((len(targets), width), dtype=np.float32)
        alone[:, 0] = 1
        return SoftLabels(
            classes=np.concatenate([self.classes, classes]),
            accuracy=np.concatenate([self.accuracy, alone]),
            shares=np.concatenate([self.shares, alone]),
        )

    def accuracy_of(self, y_pred: Ints) -> Floats:
        """VQA accuracy of each pair's prediction, shape (N,)."""
        same = self.classes == y_pred[:, None]
        return np.asarray((self.accuracy * same).sum(axis=1), dtype=np.float32)


def soft_labels_of(
    pairs: Sequence[Pair], labels: Sequence[str], answers: Mapping[str, Sequence[str]]
) -> SoftLabels:
    """What each class is worth for each labelled pair.

    Args:
        pairs: N of them.
        labels: The vocabulary; a label stands for each answer of the same normal form.
        answers: Guid to the annotators' answers, as `Dataset.answers` holds it.
    """
    targets_of: dict[str, list[int]] = {}
    for target, label in enumerate(labels):
        targets_of.setdefault(normalised(label), []).append(target)
    place = {label: target for target, label in enumerate(labels)}
    rows = []
    for pair in pairs:
        own = answers.get(pair.guid, ())
        soft = soft_targets(own).items()
        scored = [(target, score) for form, score in soft for target in targets_of.get(form, ())]
        label_alone = [] if pair.label is None else [(place[pair.label], 1.0)]
        rows.append((own, scored or label_alone))
    width = max([1, *(len(scored) for _, scored in rows)])
    classes = np.full((len(rows), width), -1, dtype=np.int64)
    accuracy, shares = np.zeros((2, len(rows), width), dtype=np.float32)
    for row, (own, scored) in enumerate(rows):
        total = sum(score for _, score in scored)
        for column, (target, score) in enumerate(scored):
            classes[row, column], shares[row, column] = target, score / total
            accuracy[row, column] = answer_accuracy(labels[target], own)
    return SoftLabels(classes=classes, accuracy=accuracy, shares=shares)

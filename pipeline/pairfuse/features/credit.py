"""Credit: how right each class is for a pair that several annotators answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pairfuse.data.pairs import Pair
from pairfuse.data.vqa_accuracy import answer_accuracy, normalised
from pairfuse.features.table import Floats, Ints


@dataclass(frozen=True)
class Credit:
    """The classes that the annotators of N pairs named, at most A a pair, -1 where there are fewer.

    `right` is the VQA accuracy of guessing that class.
    """

    classes: Ints  # (N, A)
    right: Floats  # (N, A)

    def rows(self, index: Ints) -> Credit:
        """The chosen rows."""
        return Credit(self.classes[index], self.right[index])

    def right_of(self, guesses: Ints) -> Floats:
        """How right each pair's guess is, shape (N,)."""
        same = self.classes == guesses[:, None]
        return np.asarray((self.right * same).sum(axis=1), dtype=np.float32)


def credit_of(
    pairs: Sequence[Pair], labels: Sequence[str], answers: Mapping[str, Sequence[str]]
) -> Credit:
    """What each class is worth for each pair.

    Args:
        pairs: N of them.
        labels: The vocabulary; a label stands for each answer of the same normal form.
        answers: Guid to what the annotators said, as `Dataset.answers` holds it.
    """
    named: dict[str, list[int]] = {}
    for target, label in enumerate(labels):
        named.setdefault(normalised(label), []).append(target)
    rows = [_worth(answers.get(pair.guid, ()), labels, named) for pair in pairs]
    width = max(map(len, rows), default=0)
    credit = Credit(
        np.full((len(rows), width), -1, dtype=np.int64),
        np.zeros((len(rows), width), dtype=np.float32),
    )
    for row, worth in enumerate(rows):
        credit.classes[row, : len(worth)] = list(worth)
        credit.right[row, : len(worth)] = list(worth.values())
    return credit


def _worth(
    given: Sequence[str], labels: Sequence[str], named: Mapping[str, Sequence[int]]
) -> dict[int, float]:
    forms = dict.fromkeys(map(normalised, given))
    classes = [target for form in forms for target in named.get(form, ())]
    return {target: answer_accuracy(labels[target], given) for target in classes}

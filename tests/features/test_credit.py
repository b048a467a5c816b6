"""Credit: a class is worth what the official measure gives for guessing it."""

from __future__ import annotations

import numpy as np

from pairfuse.data.pairs import Pair
from pairfuse.data.vqa_accuracy import answer_accuracy
from pairfuse.features.credit import credit_of

LABELS = ("2", "no", "yes")
ANSWERS = {
    "1": ("yes",) * 2 + ("no",) * 8,
    "2": ("two",) * 9 + ("the two",),
    "3": ("Yes",) * 10,
    "4": ("perhaps",) * 10,
}


def _pairs(*guids: str) -> list[Pair]:
    return [Pair(guid, "", None, None, "train") for guid in guids]


def test_each_class_is_worth_its_official_accuracy() -> None:
    guids = ["1", "2", "3", "4", "unanswered"]
    credit = credit_of(_pairs(*guids), LABELS, ANSWERS)
    for target, label in enumerate(LABELS):
        found = credit.right_of(np.full(len(guids), target))
        wanted = [answer_accuracy(label, ANSWERS.get(guid, ())) for guid in guids]
        assert np.allclose(found, wanted)


def test_rows_keep_their_answers_in_any_order() -> None:
    credit = credit_of(_pairs("1", "2", "4"), LABELS, ANSWERS)
    some = credit.rows(np.array([2, 0]))
    assert np.array_equal(some.right_of(np.array([0, 1])), np.array([0, 1], dtype=np.float32))


def test_without_any_answer_every_guess_is_wrong() -> None:
    credit = credit_of(_pairs("x", "y"), LABELS, {})
    assert credit.right_of(np.array([0, 1])).tolist() == [0, 0]

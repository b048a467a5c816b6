"""SoftLabels: a class is worth what the official measure gives for guessing it."""

from __future__ import annotations

import numpy as np
import pytest

from pairfuse.data.pairs import Pair
from pairfuse.data.readers.vqa_accuracy import answer_accuracy
from pairfuse.data.soft_labels import SoftLabels, soft_labels_of

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
    soft = soft_labels_of(_pairs(*guids), LABELS, ANSWERS)
    for target, label in enumerate(LABELS):
        found = soft.accuracy_of(np.full(len(guids), target))
        wanted = [answer_accuracy(label, ANSWERS.get(guid, ())) for guid in guids]
        assert np.allclose(found, wanted)


def test_rows_keep_their_answers_in_any_order() -> None:
    soft = soft_labels_of(_pairs("1", "2", "4"), LABELS, ANSWERS)
    some = soft.rows(np.array([2, 0]))
    assert np.array_equal(some.accuracy_of(np.array([0, 1])), np.array([0, 1], dtype=np.float32))


def test_without_any_answer_every_guess_is_wrong() -> None:
    soft = soft_labels_of(_pairs("x", "y"), LABELS, {})
    assert soft.accuracy_of(np.array([0, 1])).tolist() == [0, 0]


def _shares(soft: SoftLabels, row: int) -> dict[int, float]:
    found = zip(soft.classes[row].tolist(), soft.shares[row].tolist(), strict=True)
    return {target: share for target, share in found if target >= 0}


def test_shares_are_the_soft_scores_of_the_classes_over_their_sum() -> None:
    answers = {"1": ("yes",) * 2 + ("no",) * 6 + ("red",) * 2, "2": ("The Two",) * 10}
    soft = soft_labels_of(_pairs("1", "2"), LABELS, answers)
    assert _shares(soft, 0) == pytest.approx({2: 2 / 5, 1: 3 / 5})
    assert _shares(soft, 1) == {0: 1.0}


def test_a_pair_of_whose_answers_none_is_a_class_has_its_label_alone() -> None:
    pairs = [Pair(guid, "", None, "no", "train") for guid in ("4", "unanswered")]
    soft = soft_labels_of(pairs, LABELS, ANSWERS)
    assert [_shares(soft, row) for row in range(2)] == [{1: 1.0}] * 2


def test_more_rows_have_their_labels_alone() -> None:
    soft = soft_labels_of(_pairs("1"), LABELS, ANSWERS).with_labels(np.array([2, 0]))
    assert [_shares(soft, row) for row in (1, 2)] == [{2: 1.0}, {0: 1.0}]
    assert _shares(soft, 0).keys() == {1, 2}

"""VQA v2: the reader of questions and annotations, and the official measure."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairfuse.data.loading import load_dataset
from pairfuse.data.readers import read_rows
from pairfuse.data.readers.vqa_accuracy import (
    answer_accuracy,
    normalised,
    soft_targets,
    vqa_accuracy,
)
from pairfuse.errors import ConfigError, DataError
from toys.published import TRAIN_ANSWERS, write_annotations, write_questions, write_vqa

QUESTIONS = "v2_OpenEnded_mscoco_train2014_questions.json"
ANNOTATIONS = "v2_mscoco_train2014_annotations.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_vqa(tmp_path / "vqa")


def test_the_most_frequent_answers_are_classes_and_other_questions_are_left_out(root: Path) -> None:
    dataset = load_dataset(root, columns={"answers": "2"})
    assert dataset.labels == ("no", "yes")
    assert "25001" not in {pair.guid for pair in dataset.pairs}
    assert dataset.left_out == {"not one of the 2 most frequent answers": 1}


def test_which_answers_are_frequent_is_decided_by_the_training_questions_alone(root: Path) -> None:
    annotations = {number: (42, "blue", ["blue"] * 10) for number in range(100, 120)}
    write_questions(root, "val2014", dict.fromkeys(annotations, 42))
    write_annotations(root, "val2014", annotations)
    dataset = load_dataset(root, columns={"answers": "2"})
    assert dataset.labels == ("no", "yes")
    assert sum(dataset.left_out.values()) == 21


def test_of_equally_frequent_answers_the_first_by_name_is_a_class(root: Path) -> None:
    annotations = {n: (9, a, [a] * 10) for n, a in enumerate(("b", "a", "c", "d", "d"))}
    write_questions(root, "train2014", dict.fromkeys(annotations, 9))
    write_annotations(root, "train2014", annotations)
    rows = list(read_rows(root, "auto", {"answers": "3"}))
    assert {row.label for row in rows if row.split == "train"} == {"a", "b", "d", None}


def test_a_number_of_answers_that_is_none_is_an_error(root: Path) -> None:
    for word in ("1", "0", "-5", "many", "", "1.5", "9" * 20, "²"):
        with pytest.raises(ConfigError, match=r"answers is .*; use 2 or more"):
            list(read_rows(root, "auto", {"answers": word}))


def test_pictures_have_the_names_that_coco_gives_them(root: Path) -> None:
    first, *_ = read_rows(root, "auto", {})
    assert first.image == root / "train2014" / "COCO_train2014_000000000009.jpg"


@pytest.mark.parametrize("folder", ["images/train2014", "images"])
def test_pictures_are_found_below_a_folder_of_images(folder: str, root: Path) -> None:
    (root / folder).parent.mkdir(exist_ok=True)
    (root / "train2014").rename(root / folder)
    rows = [row for row in read_rows(root, "auto", {}) if row.split == "train"]
    assert all(row.image and row.image.is_file() for row in rows)


def test_questions_alone_for_testing_are_optional(root: Path) -> None:
    for name in ("v2_OpenEnded_mscoco_test2015_questions.json", QUESTIONS.replace("train", "val")):
        (root / name).unlink()
    assert {row.split for row in read_rows(root, "auto", {})} == {"train"}


def test_all_ten_answers_are_kept_of_left_out_questions_too(root: Path) -> None:
    dataset = load_dataset(root, columns={"answers": "2"})
    assert dataset.answers["9000"] == ("yes",) * 8 + ("no",) * 2
    assert len(dataset.answers) == 6
    assert "25001" in dataset.answers
    assert "1000" not in dataset.answers


def spoiled(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


BROKEN = {
    "no json": (QUESTIONS, "}", "", "is not JSON"),
    "no questions": (QUESTIONS, '"questions"', '"items"', "has no list of objects 'questions'"),
    "no id": (QUESTIONS, '"question_id"', '"nr"', "entry 1: 'question_id' is None"),
    "no text": (QUESTIONS, '"question": "', '"q": "', "entry 1: 'question' is None"),
    "picture a path": (QUESTIONS, '"image_id": 9', '"image_id": "../9"', "'image_id' is '../9'"),
    "no label": (ANNOTATIONS, "multiple_choice", "mc", "entry 1: 'multiple_choice_answer' is"),
    "no answers": (ANNOTATIONS, '"answers"', '"a"', "entry 1: 'answers' is None"),
    "answer a number": (ANNOTATIONS, '"answer": "yes"', '"answer": 7', "should list objects"),
    "a stranger": (ANNOTATIONS, '"question_id": 9000', '"question_id": 1', "of no question"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_of_another_form_is_an_error_that_names_the_entry(case: str, root: Path) -> None:
    file, old, new, message = BROKEN[case]
    spoiled(root / file, old, new)
    with pytest.raises(DataError) as caught:
        list(read_rows(root, "auto", {}))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_question_without_annotation_is_named(root: Path) -> None:
    rest = {n: TRAIN_ANSWERS[n] for n in TRAIN_ANSWERS if n != 25000}
    write_annotations(root, "train2014", rest)
    with pytest.raises(DataError, match=r"question 3: question 25000 has no annotation"):
        load_dataset(root)


@pytest.mark.parametrize("file", [ANNOTATIONS, ANNOTATIONS.replace("train", "val")])
def test_missing_annotations_are_an_error(file: str, root: Path) -> None:
    (root / file).unlink()
    with pytest.raises(DataError, match=f"holds no {file}; annotations are needed"):
        list(read_rows(root, "auto", {}))


def test_without_pictures_it_is_said_where_they_should_be(root: Path) -> None:
    (root / "train2014").rename(root / "pictures")
    with pytest.raises(DataError, match="no folder of COCO train2014 pictures; expected train2014"):
        list(read_rows(root, "auto", {}))


NORMAL_FORMS = {
    "The cat": "cat",
    "TWO dogs": "2 dogs",
    "none": "0",
    "dont know": "don't know",
    "don't know": "don't know",
    "couldnt've": "couldn't've",
    "yes.": "yes",
    "2.5": "2.5",
    "1,000": "1000",
    "red, white": "red white",
    "red,white": "red white",
    "t-shirt": "t shirt",
    "black/white": "black white",
    " a\tbig\nhouse ": "big house",
    "what?": "what",
    "its 5 oclock": "its 5 o'clock",
}


@pytest.mark.parametrize("answer", NORMAL_FORMS)
def test_answers_are_brought_into_the_form_of_the_official_evaluation(answer: str) -> None:
    assert normalised(answer) == NORMAL_FORMS[answer]


def test_soft_targets_are_full_from_three_annotators_on() -> None:
    answers = ["yes"] * 5 + ["no"] * 3 + ["The cat", "cat"]
    assert soft_targets(answers) == {"yes": 1.0, "no": 1.0, "cat": pytest.approx(2 / 3)}


@given(st.lists(st.sampled_from(["red", "blue", "a cat", "2"]), min_size=10, max_size=10))
def test_an_answer_counts_as_averaged_over_all_nine_of_ten_annotators(given: list[str]) -> None:
    def over_nine(nine: tuple[str, ...]) -> float:
        return min(1.0, sum(answer == "red" for answer in nine) / 3)

    scores = [over_nine(nine) for nine in combinations(given, 9)]
    assert answer_accuracy("red", given) == pytest.approx(sum(scores) / 10)


def test_answers_that_are_all_alike_are_compared_as_they_are() -> None:
    assert answer_accuracy("The Cat", ["The Cat"] * 10) == 1.0
    assert answer_accuracy("cat", ["The Cat"] * 10) == 0.0
    assert answer_accuracy("cat", ["The Cat"] * 9 + ["dog"]) == 1.0


def test_accuracy_is_over_all_questions_and_a_missing_guess_is_wrong() -> None:
    answers = {"1": ["yes"] * 10, "2": ["no"] * 10, "3": ["yes"] * 2 + ["no"] * 8}
    assert vqa_accuracy({"1": "yes", "2": "no", "3": "no"}, answers) == 1.0
    assert vqa_accuracy({"1": "yes", "2": "no"}, answers) == pytest.approx(2 / 3)
    assert vqa_accuracy({"1": "yes", "2": "no", "3": "yes"}, answers) == pytest.approx(2.6 / 3)
    assert vqa_accuracy({"9": "yes"}, answers) == 0.0


def test_the_label_scores_well_on_the_answers_that_were_read(root: Path) -> None:
    dataset = load_dataset(root)
    y_pred = {pair.guid: pair.label for pair in dataset.pairs if pair.label}
    assert vqa_accuracy(y_pred, dataset.answers) == 1.0
    assert json.dumps(dataset.answers)

"""MVSA: the label rule, for one annotator and for three, and the forms of its label file."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from pairfuse.data.loading import load_dataset
from pairfuse.data.readers import read_rows
from pairfuse.data.readers.mvsa import CONTRADICTION, LABELS, NO_MAJORITY, pair_label
from pairfuse.errors import DataError
from toys.published import write_mvsa, write_mvsa_single

MULTIPLE = "ID\t" + "\t".join(["text,image"] * 3)

SINGLE = {
    ("positive", "positive"): "positive",
    ("neutral", "neutral"): "neutral",
    ("negative", "negative"): "negative",
    ("positive", "neutral"): "positive",
    ("neutral", "positive"): "positive",
    ("negative", "neutral"): "negative",
    ("neutral", "negative"): "negative",
    ("positive", "negative"): None,
    ("negative", "positive"): None,
}


@pytest.mark.parametrize(("text", "image"), list(product(LABELS, LABELS)))
def test_the_label_of_a_pair_is_made_of_those_of_text_and_image(text: str, image: str) -> None:
    label = SINGLE[text, image]
    assert pair_label([text], [image]) == (label, "" if label else CONTRADICTION)


VOTES = {
    "all agree": (["positive,positive"] * 3, "positive"),
    "two of three": (["positive,neutral", "positive,neutral", "negative,negative"], "positive"),
    "each modality by its own two": (
        ["neutral,negative", "neutral,positive", "positive,negative"],
        "negative",
    ),
    "no majority for the text": (["positive,neutral", "neutral,neutral", "negative,neutral"], None),
    "no majority for the image": (
        ["neutral,positive", "neutral,neutral", "neutral,negative"],
        None,
    ),
    "majorities contradict": (["positive,negative"] * 3, None),
}


@pytest.mark.parametrize("case", VOTES)
def test_of_three_annotators_the_majority_decides_for_text_and_image(
    case: str, tmp_path: Path
) -> None:
    votes, label = VOTES[case]
    [row] = read_rows(write_mvsa(tmp_path, {"1": votes}, MULTIPLE), "auto", {})
    assert row.label == label
    reasons = {True: "", False: CONTRADICTION if "contradict" in case else NO_MAJORITY}
    assert row.left_out == reasons[label is not None]


def test_left_out_pairs_are_counted_by_reason(tmp_path: Path) -> None:
    votes = {name: given for name, (given, _) in VOTES.items()}
    rows = {str(number): given for number, given in enumerate(votes.values())}
    dataset = load_dataset(write_mvsa(tmp_path, rows, MULTIPLE))
    assert dataset.left_out == {NO_MAJORITY: 2, CONTRADICTION: 1}
    assert [pair.label for pair in dataset.pairs] == ["positive", "positive", "negative"]


def test_texts_and_pictures_are_found_by_id(tmp_path: Path) -> None:
    dataset = load_dataset(write_mvsa_single(tmp_path))
    assert [pair.text for pair in dataset.pairs] == ["tweet 1\n", "tweet 2\n"]
    assert {pair.split for pair in dataset.pairs} == {"train"}


HEADERS = ["ID,text,image", "ID\ttext\timage", "ID\ttext,image\ttext,image", "1\tpositive,positive"]


@pytest.mark.parametrize("header", HEADERS)
def test_another_header_is_an_error_that_says_what_is_expected(header: str, tmp_path: Path) -> None:
    root = write_mvsa(tmp_path, {"1": ["positive,positive"]}, header)
    with pytest.raises(DataError, match="expected the header `ID`, tab, `text,image`"):
        read_rows(root, "auto", {})


def test_an_empty_label_file_is_an_error(tmp_path: Path) -> None:
    (write_mvsa_single(tmp_path) / "labelResultAll.txt").write_text("")
    with pytest.raises(DataError, match="expected the header"):
        read_rows(tmp_path, "auto", {})


BAD_ROWS = {
    "unknown label": ("1\tpositive,happy", "label 'happy' is not one of positive, neutral, neg"),
    "one label": ("1\tpositive", "expected 1 labels as `text,image`"),
    "annotator too many": ("1\tneutral,neutral\tneutral,neutral", "expected 1 labels"),
    "no id": ("\tpositive,positive", "the guid is empty"),
    "a path": ("../1\tpositive,positive", "the guid '../1' holds a path"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_row_that_cannot_be_used_is_named_by_its_line(case: str, tmp_path: Path) -> None:
    line, message = BAD_ROWS[case]
    root = write_mvsa_single(tmp_path)
    (root / "labelResultAll.txt").write_text(f"ID\ttext,image\n{line}\n")
    with pytest.raises(DataError) as caught:
        load_dataset(root)
    assert f"labelResultAll.txt line 2: {message}" in str(caught.value)


def test_a_missing_data_folder_is_an_error(tmp_path: Path) -> None:
    (write_mvsa_single(tmp_path) / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"no folder .*data; it should hold"):
        read_rows(tmp_path, "auto", {})

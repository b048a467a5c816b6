from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from pathlib import Path

import pytest

from pairfuse.data.loading import load_dataset
from pairfuse.data.pairs import BETWEEN, Dataset, text_key
from pairfuse.data.profile import profile
from pairfuse.errors import DataError
from toys.data import picture, saved, write_labels, write_set
from toys.fusion import warnings_logged


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", {"1": "positive", "2": "negative", "3": "neutral"}, ["4"])


def reasons(dataset: Dataset) -> list[tuple[str, str, str]]:
    return [(problem.guid, problem.modality, problem.reason) for problem in dataset.problems]


def table(folder: Path, *records: dict[str, str]) -> Path:
    path = folder / "set.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records), "utf-8")
    return path


def test_a_whole_set_has_its_pairs_in_file_order_and_no_problem(root: Path) -> None:
    dataset = load_dataset(root)
    assert [pair.guid for pair in dataset.pairs] == ["1", "2", "3", "4"]
    assert [pair.label for pair in dataset.pairs] == ["positive", "negative", "neutral", None]
    assert [pair.guid for pair in dataset.split("test")] == ["4"]
    assert dataset.pairs[0].text == "positive text 1"
    assert reasons(dataset) == []


def test_labels_are_sorted_when_none_are_given_and_kept_in_order_when_they_are(root: Path) -> None:
    assert load_dataset(root).labels == ("negative", "neutral", "positive")
    given = ("positive", "neutral", "negative", "mixed")
    assert load_dataset(root, labels=given).labels == given


MISSING = {
    "text absent": ("1.txt", None, ("1", "text", "missing")),
    "text empty": ("1.txt", b"", ("1", "text", "empty")),
    "text blank": ("1.txt", b" \r\n\t ", ("1", "text", "empty")),
    "image absent": ("1.png", None, ("1", "image", "missing")),
    "image empty": ("1.png", b"", ("1", "image", "the file is empty")),
    "image no picture": ("1.png", b"GIF?", ("1", "image", "not a JPEG, PNG, WebP or GIF picture")),
    "image too large": (
        "1.png",
        saved(picture(0, (101, 100))),
        ("1", "image", "101x100 pixels are over the bound of 0.01 million"),
    ),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_modality_that_cannot_be_used_is_missing_and_the_pair_is_kept(
    name: str, root: Path
) -> None:
    file, content, problem = MISSING[name]
    (root / "data" / file).unlink()
    if content is not None:
        (root / "data" / file).write_bytes(content)
    dataset = load_dataset(root, max_pixels=10_000)
    assert reasons(dataset) == [problem]
    pair = dataset.pairs[0]
    gone, kept = (pair.text, pair.image) if file == "1.txt" else (pair.image, pair.text)
    assert gone is None
    assert kept is not None


@pytest.mark.parametrize("name", MISSING)
def test_strict_makes_a_missing_modality_an_error(name: str, root: Path) -> None:
    file, content, (guid, modality, reason) = MISSING[name]
    (root / "data" / file).unlink()
    if content is not None:
        (root / "data" / file).write_bytes(content)
    with pytest.raises(DataError, match=rf"pair {guid}: {modality} {reason[:20]}.*--strict"):
        load_dataset(root, max_pixels=10_000, strict=True)


def test_strict_has_nothing_against_a_whole_set(root: Path) -> None:
    assert len(load_dataset(root, strict=True).pairs) == 4


def test_a_training_pair_with_neither_is_an_error(root: Path) -> None:
    (root / "data" / "2.txt").write_text("")
    (root / "data" / "2.png").unlink()
    with pytest.raises(DataError, match=r"pair 2: neither text nor image.*; remove its row"):
        load_dataset(root)


def test_a_test_pair_with_neither_stays_with_a_problem(root: Path) -> None:
    (root / "data" / "4.txt").unlink()
    (root / "data" / "4.png").write_bytes(b"")
    dataset = load_dataset(root)
    [pair] = dataset.split("test")
    assert (pair.guid, pair.text, pair.image) == ("4", None, None)
    told = ("4", "pair", "neither text nor image: predicted from the class prior")
    assert reasons(dataset)[-1] == told
    assert dataset.key(pair, "text") is dataset.key(pair, "image") is None


def test_labels_are_compared_without_case_and_outer_spaces(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "train.txt").write_text("guid,tag\n1,Positive\n2, positive \n3,positive\n")
    with caplog.at_level(logging.WARNING, "pairfuse"):
        dataset = load_dataset(root)
    assert dataset.labels == ("positive",)
    assert {pair.label for pair in dataset.split("train")} == {"positive"}
    assert "1 labels 'Positive' are taken as 'positive'" in caplog.text


def test_labels_take_the_spelling_of_the_given_vocabulary(root: Path) -> None:
    dataset = load_dataset(root, labels=("Positive", "NEGATIVE", "neutral"))
    assert [pair.label for pair in dataset.pairs[:3]] == ["Positive", "NEGATIVE", "neutral"]


BAD_ROWS = {
    "guid twice in one file": (
        {"train.txt": "guid,tag\n1,positive\n2,negative\n1,positive\n"},
        "train.txt line 4: guid 1 was there before, in train.txt line 2",
    ),
    "guid twice across files": (
        {"test_without_label.txt": "guid,tag\n4,null\n1,null\n"},
        "test_without_label.txt line 3: guid 1 was there before, in train.txt line 2",
    ),
    "no label": (
        {"train.txt": "guid,tag\n1,positive\n2,\n3,null\n"},
        "train.txt line 3: pair 2 is for training but has no label",
    ),
    "label outside the vocabulary": (
        {"train.txt": "guid,tag\n1,positive\n2,happy\n"},
        "train.txt line 3: label 'happy' is not one of positive, negative, neutral",
    ),
    "guid with a path": (
        {"train.txt": "guid,tag\n../1,positive\n"},
        "train.txt line 2: the guid '../1' holds a path",
    ),
    "no rows": (
        {"train.txt": "guid,tag\n", "test_without_label.txt": "guid,tag\n"},
        "no rows",
    ),
    "nothing labelled": ({"train.txt": "guid,tag\n"}, "no labelled pair to train on"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_row_that_cannot_be_used_is_an_error_that_names_it(name: str, root: Path) -> None:
    files, message = BAD_ROWS[name]
    for file, content in files.items():
        (root / file).write_text(content)
    with pytest.raises(DataError) as caught:
        load_dataset(root, labels=("positive", "negative", "neutral"))
    assert message in str(caught.value)


def test_all_bad_rows_are_named_in_one_message(root: Path) -> None:
    (root / "train.txt").write_text("guid,tag\n1,positive\n../2,negative\n3,\n1,neutral\n5\n")
    with pytest.raises(DataError) as caught:
        load_dataset(root)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{root}: 5 bad rows"
    assert {line.split(": ")[0].strip() for line in lines[1:]} == {
        f"train.txt line {number}" for number in (3, 4, 5, 6)
    }


def test_of_very_many_bad_rows_twenty_are_shown_and_the_rest_counted(root: Path) -> None:
    write_labels(root / "train.txt", {f"a/{number}": "positive" for number in range(50)})
    with pytest.raises(DataError) as caught:
        load_dataset(root)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[-1].strip() == "... and 30 more"


def test_a_bad_row_is_refused_before_any_image_is_looked_at(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pairfuse.data.loading.read_image_facts", lambda *_, **__: pytest.fail("looked at images")
    )
    write_labels(root / "train.txt", {"a/b": "positive"})
    with pytest.raises(DataError):
        load_dataset(root)


def test_a_label_in_the_test_file_is_kept_and_does_not_train(root: Path) -> None:
    write_labels(root / "test_without_label.txt", {"4": "positive"})
    dataset = load_dataset(root)
    assert dataset.pairs[3].label == "positive"
    assert [pair.guid for pair in dataset.split("train")] == ["1", "2", "3"]


TEXT = "这部电影很好看，我非常喜欢它的故事"


def test_the_encoding_of_every_text_is_found_and_noted(root: Path) -> None:
    (root / "data" / "1.txt").write_bytes(TEXT.encode("gb18030"))
    (root / "data" / "2.txt").write_bytes(TEXT.encode("utf-8"))
    dataset = load_dataset(root)
    assert [pair.text for pair in dataset.pairs[:2]] == [TEXT, TEXT]
    found = [dataset.decodings[guid].encoding for guid in "1234"]
    assert found == ["gb18030", "utf-8", "ascii", "ascii"]


def test_one_encoding_can_be_ordered_for_all_texts(root: Path) -> None:
    for guid in "123":
        (root / "data" / f"{guid}.txt").write_bytes(TEXT.encode("gb18030"))
    dataset = load_dataset(root, encoding="latin-1")
    assert dataset.pairs[0].text == TEXT.encode("gb18030").decode("latin-1")
    assert {decoding.encoding for decoding in dataset.decodings.values()} == {"iso8859-1"}


def test_an_encoding_that_does_not_fit_is_counted_not_fatal(root: Path) -> None:
    (root / "data" / "1.txt").write_bytes(b"caf\xe9 \xff bar")
    dataset = load_dataset(root, encoding="utf-8")
    assert dataset.decodings["1"].replaced == 2
    assert dataset.pairs[0].text == "caf\ufffd \ufffd bar"


def test_an_unknown_encoding_is_an_error(root: Path) -> None:
    with pytest.raises(DataError, match="'klingon' is not a text encoding"):
        load_dataset(root, encoding="klingon")


def test_text_in_a_table_is_taken_before_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("from a file")
    row = {"id": "1", "text": "from the table", "text_file": "1.txt", "label": "a"}
    dataset = load_dataset(table(tmp_path, row))
    assert dataset.pairs[0].text == "from the table"
    assert dataset.decodings["1"].encoding == "table"


def test_a_table_row_can_be_for_validation(tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": "x", "label": "a", "split": s} for n, s in enumerate("tv")]
    rows[0]["split"], rows[1]["split"] = "train", "val"
    dataset = load_dataset(table(tmp_path, *rows))
    assert [pair.split for pair in dataset.pairs] == ["train", "val"]


def test_all_errors_of_a_table_are_named_together(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "text": "x", "image": "../1.png", "label": "a"},
        {"id": "2", "text": "x", "label": "a", "split": "holdout"},
        {"id": "", "text": "x", "label": "a"},
    ]
    with pytest.raises(DataError) as caught:
        load_dataset(table(tmp_path, *rows))
    for line, word in enumerate(("leaves the table's folder", "holdout", "guid is empty"), 1):
        assert f"set.jsonl line {line}" in str(caught.value)
        assert word in str(caught.value)


def test_a_second_load_with_notes_is_the_same_data_set(root: Path, tmp_path: Path) -> None:
    (root / "data" / "2.png").write_bytes(b"broken")
    first = load_dataset(root, facts_file=tmp_path / "notes")
    assert load_dataset(root, facts_file=tmp_path / "notes") == first


def test_the_key_of_content_depends_on_content_alone(root: Path, tmp_path: Path) -> None:
    (root / "data" / "2.txt").write_bytes((root / "data" / "1.txt").read_bytes())
    (root / "data" / "2.png").write_bytes((root / "data" / "1.png").read_bytes())
    dataset = load_dataset(root)
    one, two, three, _ = dataset.pairs
    for modality in ("text", "image"):
        assert dataset.key(one, modality) == dataset.key(two, modality)
        assert dataset.key(one, modality) != dataset.key(three, modality)


def test_a_single_text_that_holds_what_parts_pairs_is_no_pair(root: Path) -> None:
    (root / "data" / "1.txt").write_text(f"left{BETWEEN}right")
    assert load_dataset(root).pairs[0].text == "left\nright"


def test_a_pair_of_sentences_has_a_key_of_its_own(tmp_path: Path) -> None:
    row = {"id": "1", "title": "left", "body": "right", "label": "x"}
    columns = {"text": "title+body"}
    dataset = load_dataset(table(tmp_path, row), reader="table", columns=columns)
    [pair] = dataset.pairs
    assert pair.text == f"left{BETWEEN}right"
    joined = [f"left{between}right" for between in (BETWEEN, "\n", " ", "")]
    keys = [hashlib.sha256(text.encode()).digest() for text in joined]
    assert dataset.key(pair, "text") not in keys
    assert [text_key(text) for text in joined[1:]] == keys[1:]
    assert text_key(f"lef{BETWEEN}tright") != dataset.key(pair, "text")


ODD_LABELS = ("None", "null", "nan")


def test_words_for_nothing_are_labels_and_are_said(tmp_path: Path) -> None:
    rows = [f"{n},text {n},{label}" for n, label in enumerate([*ODD_LABELS, "a", ""])]
    (tmp_path / "set.csv").write_text("\n".join(["id,text,label", *rows]) + "\n")
    with warnings_logged() as told:
        dataset = load_dataset(tmp_path)
    assert dataset.labels == ("None", "a", "nan", "null")
    assert told[0] == "1 of 5 rows have no label: they are test pairs"
    assert [line for line in told if "--missing-label None" in line]


def test_words_that_are_said_to_mean_nothing_make_test_pairs(tmp_path: Path) -> None:
    rows = [f"{n},text {n},{label}" for n, label in enumerate([*ODD_LABELS, "a", ""])]
    (tmp_path / "set.csv").write_text("\n".join(["id,text,label", *rows]) + "\n")
    dataset = load_dataset(tmp_path, missing_labels=("NONE", "nan"))
    assert dataset.labels == ("a", "null")
    assert [pair.split for pair in dataset.pairs] == ["test", "train", "test", "train", "test"]


def test_a_modality_that_is_wholly_absent_is_an_error_that_says_what_lies_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "0.jpg").touch()
    rows = [f"{n},text {n},photos/{n}.jpg,a" for n in range(4)]
    (tmp_path / "set.csv").write_text("\n".join(["id,text,image,label", *rows]) + "\n")
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path)
    assert "none of the 4 images can be read; the first is" in str(caught.value)
    assert "photos/0.jpg" in str(caught.value)
    assert "holds pictures, set.csv" in str(caught.value)


def test_more_than_half_absent_is_a_warning(tmp_path: Path) -> None:
    root = write_set(tmp_path, {str(n): "pn"[n % 2] for n in range(4)})
    rows = [f"{n},text {n},data/{n if n == 1 else 'x'}.png,a" for n in range(4)]
    (root / "train.txt").unlink()
    (root / "set.csv").write_text("\n".join(["id,text,image,label", *rows]) + "\n")
    with warnings_logged() as told:
        load_dataset(root / "set.csv")
    assert told == [f"3 of 4 images cannot be read, such as {root / 'data' / 'x.png'}"]


def test_an_image_file_over_the_bound_on_bytes_is_missing_with_its_reason(root: Path) -> None:
    (root / "data" / "1.png").write_bytes(bytes(5_000))
    dataset = load_dataset(root, max_image_bytes=4_000)
    reason = "the file is over the bound of 0.004 MB (0.0 MB)"
    assert reasons(dataset) == [("1", "image", reason)]
    assert profile(dataset).problems == {"image: the file is over the bound of 0.004 MB": 1}


@pytest.mark.parametrize("name", ["train.txt", "data/1.txt"])
def test_a_passing_error_of_the_system_makes_no_text_missing_and_no_table_wrong(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path == root / name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(OSError, match="Input/output error") as raised:
        load_dataset(root)
    assert raised.value.filename == str(root / name)

"""A folder for each class, with or without splits above."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairfuse.data.loading import load_dataset
from pairfuse.data.profile import profile, summary
from pairfuse.data.readers import find_reader, read_rows
from pairfuse.errors import DataError
from toys.published import write_class_folders, write_pictures


def named(rows: object) -> list[tuple[str, str | None, str]]:
    return [(row.guid, row.label, row.split) for row in rows]  # type: ignore[attr-defined]


def test_folders_of_splits_may_lie_above_those_of_classes(tmp_path: Path) -> None:
    for split in ("train", "Validation", "test"):
        write_class_folders(tmp_path / split)
    rows = list(read_rows(tmp_path, "auto", {}))
    assert named(rows)[:2] == [
        ("Validation.cat.1", "cat", "val"),
        ("Validation.cat.2", "cat", "val"),
    ]
    assert {row.split for row in rows} == {"train", "val", "test"}
    assert {row.label for row in rows} == {"cat", "dog"}


def test_files_in_the_test_folder_itself_have_no_label(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "train")
    write_pictures(tmp_path / "test", ["7.jpg"])
    rows = list(read_rows(tmp_path, "auto", {}))
    assert named(rows)[0] == ("test.7", None, "test")


def test_a_class_may_be_called_test_where_nothing_is_for_training(tmp_path: Path) -> None:
    for label in ("test", "rest"):
        write_pictures(tmp_path / label, ["1.jpg"])
    assert {row.label for row in read_rows(tmp_path, "auto", {})} == {"test", "rest"}


def test_a_pair_may_be_a_picture_or_a_text_alone(tmp_path: Path) -> None:
    write_class_folders(tmp_path)
    (tmp_path / "cat" / "1.jpg").unlink()
    (tmp_path / "dog" / "1.txt").unlink()
    dataset = load_dataset(tmp_path)
    has = {pair.guid: (bool(pair.text), bool(pair.image)) for pair in dataset.pairs}
    assert has == {"cat.1": (True, False), "cat.2": (True, True), "dog.1": (False, True)}


def test_things_of_no_use_are_left_out_and_counted(tmp_path: Path) -> None:
    write_class_folders(tmp_path)
    (tmp_path / "cat" / "notes.docx").write_text("x")
    (tmp_path / "cat" / "inner").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(b"")
    dataset = load_dataset(tmp_path)
    assert dataset.left_out == {
        "a folder inside a class folder": 1,
        "neither .txt nor an image": 1,
        "a second image of the same name": 1,
    }
    assert len(dataset.pairs) == 3
    [line] = [line for line in summary(profile(dataset)).splitlines() if "left out" in line]
    assert "a folder inside a class folder 1, " in line


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    write_class_folders(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config.txt").write_text("x")
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"x")
    assert load_dataset(tmp_path).left_out == {}
    assert len(load_dataset(tmp_path).pairs) == 3


def test_files_of_one_name_in_two_classes_are_two_pairs(tmp_path: Path) -> None:
    rows = read_rows(write_class_folders(tmp_path), "auto", {})
    assert [row.guid for row in rows if row.guid.endswith(".1")] == ["cat.1", "dog.1"]


def test_two_names_that_give_one_guid_are_an_error(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a/b.c.jpg", "a.b/c.jpg"])
    with pytest.raises(DataError, match=r"guid a\.b\.c was there before"):
        load_dataset(tmp_path)


def test_folders_without_pairs_are_no_classes(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "main.py").write_text("pass")
    assert find_reader(tmp_path) == "table"
    with pytest.raises(DataError, match="holds no class folders; expected <class>/<name>"):
        read_rows(tmp_path / "code", "class-folders", {})


def test_one_folder_of_pairs_alone_is_no_class(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data", ["1.jpg", "2.jpg"])
    assert find_reader(tmp_path) == "table"


def test_a_file_is_no_set_of_class_folders(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id,text\n")
    with pytest.raises(DataError):
        read_rows(tmp_path / "x.csv", "class-folders", {})

"""Parquet and Arrow files of the `datasets` library; pictures inside them become files once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pairfuse.data.loading import load_dataset
from pairfuse.data.pairs import BETWEEN
from pairfuse.data.readers import find_reader, read_rows
from pairfuse.errors import ConfigError, DataError
from toys.data import picture, saved
from toys.published import arrow_table, save_to_disk, write_parquet

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_a_set_that_was_saved_to_disk_is_read(tmp_path: Path) -> None:
    root = save_to_disk(tmp_path / "set", arrow_table([1, 0], noted=False))
    rows = list(read_rows(root, "auto", {}))
    assert [(row.guid, row.label, row.split) for row in rows] == [
        ("train-1", "angry", "train"),
        ("train-2", "calm", "train"),
    ]
    assert rows[0].picture == saved(picture(0))


def test_a_set_with_splits_that_was_saved_to_disk_is_read(tmp_path: Path) -> None:
    for first, split in enumerate(("train", "validation", "test")):
        save_to_disk(tmp_path / split, arrow_table([first % 2], first=first), split)
    notes = {"splits": ["train", "validation", "test"]}
    (tmp_path / "dataset_dict.json").write_text(json.dumps(notes))
    assert find_reader(tmp_path) == "parquet"
    rows = list(read_rows(tmp_path, "auto", {}))
    assert [row.split for row in rows] == ["train", "val", "test"]


@pytest.mark.parametrize(
    "place", ["{}-00000-of-00001.parquet", "data/{}-0.parquet", "{}/0.parquet"]
)
def test_the_split_is_in_the_name_of_the_file_or_of_its_folder(place: str, tmp_path: Path) -> None:
    for split in ("train", "test"):
        path = tmp_path / place.format(split)
        path.parent.mkdir(exist_ok=True)
        pq.write_table(arrow_table([0]), path)
    assert [row.split for row in read_rows(tmp_path, "auto", {})] == ["train", "test"]


def test_parts_of_one_split_are_numbered_on(tmp_path: Path) -> None:
    for part in range(2):
        pq.write_table(arrow_table([0, 1]), tmp_path / f"train-0000{part}-of-00002.parquet")
    guids = [row.guid for row in read_rows(tmp_path, "auto", {})]
    assert guids == ["train-1", "train-2", "train-3", "train-4"]


def test_without_a_split_rows_without_label_are_for_testing(tmp_path: Path) -> None:
    pq.write_table(arrow_table([0, -1, None]), tmp_path / "set.parquet")
    rows = read_rows(tmp_path / "set.parquet", "auto", {})
    assert [(row.label, row.split) for row in rows] == [
        ("calm", "train"),
        (None, "test"),
        (None, "test"),
    ]


def test_pictures_are_unpacked_once_by_content(tmp_path: Path) -> None:
    root, facts_file = write_parquet(tmp_path / "set"), tmp_path / "cache" / "images.jsonl"
    before = sorted(root.rglob("*"))
    first = load_dataset(root, facts_file=facts_file)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}
    assert load_dataset(root, facts_file=facts_file) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")} == files
    assert sorted(root.rglob("*")) == before
    assert first.pairs[0].image is not None
    assert first.pairs[0].image.read_bytes() == saved(picture(0))
    assert first.pairs[0].image.name == first.images["train-1"].digest


def test_a_picture_that_was_cut_while_it_was_unpacked_is_written_again(tmp_path: Path) -> None:
    root, facts_file = write_parquet(tmp_path / "set"), tmp_path / "cache" / "images.jsonl"
    path = load_dataset(root, facts_file=facts_file).pairs[0].image
    assert path is not None
    path.write_bytes(b"cut")
    assert load_dataset(root, facts_file=facts_file).problems == ()


def test_equal_pictures_share_a_file(tmp_path: Path) -> None:
    rows = [{"id": str(n), "image": saved(picture(0)), "label": "a"} for n in range(3)]
    dataset = load_dataset(write(tmp_path / "x.parquet", rows), facts_file=tmp_path / "c" / "notes")
    assert len({pair.image for pair in dataset.pairs}) == 1


def test_without_a_place_for_pictures_it_is_said_that_one_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pictures inside a table; facts_file="):
        load_dataset(write_parquet(tmp_path / "set"))


def test_plain_columns_are_read_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "7.png").write_bytes(saved(picture(7)))
    row = {"nr": 7, "title": "a", "body": "b", "photo": "7.png", "topic": "sport"}
    names = {"id": "nr", "text": "title+body", "image": "photo", "label": "topic"}
    write(tmp_path / "x.parquet", [row])
    [read] = read_rows(tmp_path, "auto", names)
    assert (read.guid, read.text, read.label) == ("7", f"a{BETWEEN}b", "sport")
    assert read.image == tmp_path / "7.png"


def test_a_picture_may_be_a_path_in_the_folder(tmp_path: Path) -> None:
    row = {"text": "a", "label": "x", "image": {"bytes": None, "path": "img/1.png"}}
    [read] = read_rows(write(tmp_path / "x.parquet", [row]), "auto", {})
    assert (read.image, read.picture) == (tmp_path / "img" / "1.png", None)


@pytest.mark.parametrize("name", ["../1.png", "/etc/passwd", "a\\..\\..\\b"])
def test_a_path_that_leaves_the_folder_is_marked(name: str, tmp_path: Path) -> None:
    row = {"text": "a", "label": "x", "image": {"bytes": None, "path": name}}
    [read] = read_rows(write(tmp_path / "x.parquet", [row]), "auto", {})
    assert read.errors == (f"the image {name!r} leaves the data set's folder",)
    assert read.image is None


BAD_ROWS = {
    "label out of range": (arrow_table, [0, 5], "row 2: label 5 is none of the 2 named ones"),
    "label below": (arrow_table, [0, -2], "row 2: label -2 is none of the 2 named ones"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_row_that_cannot_be_used_is_named_by_its_number(case: str, tmp_path: Path) -> None:
    make, labels, message = BAD_ROWS[case]
    pq.write_table(make(labels), tmp_path / "train.parquet")
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path, facts_file=tmp_path / "c" / "notes")
    assert message in str(caught.value)


def test_an_image_of_another_kind_is_marked(tmp_path: Path) -> None:
    [row] = read_rows(write(tmp_path / "x.parquet", [{"text": "a", "image": 7}]), "auto", {})
    assert row.errors == ("the image is a int; expected bytes or a path",)


def test_a_table_without_text_and_image_says_how_to_name_them(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", [{"words": "a", "label": "x"}])
    with pytest.raises(DataError, match=r"needs a column for text or image; it has words, label"):
        list(read_rows(tmp_path, "auto", {}))


def test_a_named_column_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no column 'smell'; it has image, text, label"):
        list(read_rows(write_parquet(tmp_path), "auto", {"text": "smell"}))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b"x" * 1000])
def test_a_file_that_is_damaged_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.parquet cannot be read"):
        list(read_rows(tmp_path, "auto", {}))


@pytest.mark.parametrize("keep", [0, 8, 200, 0.5, 0.9])
def test_an_arrow_file_that_is_cut_is_named(keep: float, tmp_path: Path) -> None:
    root = save_to_disk(tmp_path / "set", arrow_table([0, 1]))
    path = root / "data-00000-of-00001.arrow"
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(DataError, match=r"\.arrow cannot be read"):
        list(read_rows(root, "auto", {}))


SAVED = {
    "no file": ({"_data_files": [{"filename": "gone.arrow"}]}, "lacks the file 'gone.arrow'"),
    "outside": ({"_data_files": [{"filename": "../x.arrow"}]}, "lacks the file '../x.arrow'"),
    "no list": ({}, "lists no data files"),
    "indices": ({"_data_files": [], "_indices_data_files": [{}]}, "lists no data files"),
    "no words": ({"_data_files": [7]}, "lacks the file ''"),
}


@pytest.mark.parametrize("case", SAVED)
def test_notes_that_do_not_fit_the_folder_are_an_error(case: str, tmp_path: Path) -> None:
    state, message = SAVED[case]
    root = save_to_disk(tmp_path / "set", arrow_table([0]))
    (root / "state.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match=message):
        list(read_rows(root, "auto", {}))


@pytest.mark.parametrize("split", ["holdout", "../train", "/etc", ""])
def test_a_split_of_another_name_is_an_error(split: str, tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": [split]}))
    with pytest.raises(DataError, match=r"has the split|cannot be read"):
        list(read_rows(tmp_path, "auto", {}))


def test_without_the_library_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_parquet(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="need pyarrow: pip install pyarrow"):
        list(read_rows(root, "auto", {}))

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from pairfuse.data.readers import read_rows
from pairfuse.data.readers.rows import RawRow
from pairfuse.errors import ConfigError, DataError
from toys.data import write_set


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", {"7": "positive", "8": "negative"}, test=["9"])


def labels(rows: list[RawRow]) -> list[tuple[str, str | None, str]]:
    return [(row.guid, row.label, row.split) for row in rows]


EXPECTED = [("7", "positive", "train"), ("8", "negative", "train"), ("9", None, "test")]

LABEL_FILES = {
    "plain": b"guid,tag\n7,positive\n8,negative\n",
    "no last newline": b"guid,tag\n7,positive\n8,negative",
    "crlf": b"guid,tag\r\n7,positive\r\n8,negative\r\n",
    "bom": b"\xef\xbb\xbfguid,tag\n7,positive\n8,negative\n",
    "utf-16": "guid,tag\n7,positive\n8,negative\n".encode("utf-16"),
    "blank lines": b"\n\nguid,tag\n\n7,positive\n   \n8,negative\n\n",
    "spaces": b" guid , tag \n 7 , positive \n\t8 ,negative\n",
    "upper-case header": b"GUID,Tag\n7,positive\n8,negative\n",
    "quotes": b'guid,tag\n"7","positive"\n8,"negative"\n',
}


@pytest.mark.parametrize("name", LABEL_FILES)
def test_every_way_to_write_a_label_file_gives_the_same_rows(name: str, root: Path) -> None:
    (root / "train.txt").write_bytes(LABEL_FILES[name])
    rows = read_rows(root, "auto", {})
    assert labels(rows) == EXPECTED
    assert not any(row.errors for row in rows)


def test_a_word_that_says_no_label_is_no_label(root: Path) -> None:
    for word in ("", "null", "NULL", "None", "nan"):
        (root / "test_without_label.txt").write_text(f"guid,tag\n9,{word}\n")
        assert labels(read_rows(root, "auto", {})) == EXPECTED


@pytest.mark.parametrize("name", ["7.jpg", "7.JPG", "7.Jpeg", "7.PNG", "7.webp", "7.gif"])
def test_an_image_is_found_by_any_ending_in_any_case(name: str, root: Path) -> None:
    (root / "data" / "7.png").rename(root / "data" / name)
    assert read_rows(root, "auto", {})[0].image == root / "data" / name


def test_a_text_is_found_by_its_ending_in_any_case(root: Path) -> None:
    (root / "data" / "7.txt").rename(root / "data" / "7.TXT")
    assert read_rows(root, "auto", {})[0].text_file == root / "data" / "7.TXT"


def test_a_guid_may_hold_capitals_dots_and_other_scripts(tmp_path: Path) -> None:
    guids = ["Pair.1", "дом", "家-2", "x y"]
    root = write_set(tmp_path / "set", dict.fromkeys(guids, "a"))
    rows = read_rows(root, "auto", {})
    assert [row.guid for row in rows] == guids
    assert all(row.text_file and row.image and not row.errors for row in rows)


def test_absent_files_leave_gaps_not_errors(root: Path) -> None:
    (root / "data" / "7.txt").unlink()
    (root / "data" / "8.png").unlink()
    seven, eight, _ = read_rows(root, "auto", {})
    assert (seven.text_file, eight.image) == (None, None)
    assert not seven.errors + eight.errors


BROKEN_LABEL_FILES = {
    "empty": ("", "is empty; expected a line `guid,tag`"),
    "only blank lines": ("\n \n\n", "is empty"),
    "no header": ("7,positive\n", "line 1: expected the header `guid,tag`, found '7,positive'"),
    "other header": ("\nid,label\n7,positive\n", "line 2: expected the header"),
    "tabs": ("guid\ttag\n7\tpositive\n", "line 1: expected the header"),
}


@pytest.mark.parametrize("name", BROKEN_LABEL_FILES)
def test_a_label_file_without_its_header_is_an_error(name: str, root: Path) -> None:
    content, reason = BROKEN_LABEL_FILES[name]
    (root / "train.txt").write_text(content)
    with pytest.raises(DataError, match=reason):
        read_rows(root, "auto", {})


@pytest.mark.parametrize("line", ["7", "7,positive,extra", "7;positive"])
def test_a_row_without_two_cells_is_marked_and_the_others_are_read(line: str, root: Path) -> None:
    (root / "train.txt").write_text(f"guid,tag\n{line}\n8,negative\n")
    bad, good, _ = read_rows(root, "auto", {})
    assert bad.where == "train.txt line 2"
    assert bad.errors == (f"expected `guid,tag`, found {line!r}",)
    assert (good.guid, good.errors) == ("8", ())


BAD_GUIDS = {
    "../x": "holds a path",
    "a/b": "holds a path",
    "a\\b": "holds a path",
    "/etc/passwd": "holds a path",
    "..": "holds a path",
    ".": "holds a path",
    "": "is empty",
    "a\x00b": "control characters",
    "a\x1bb": "control characters",
    "a\u202eb": "control characters",
    "x" * 201: "too long",
}


@pytest.mark.parametrize("guid", BAD_GUIDS)
def test_a_guid_that_is_no_plain_name_is_marked_by_both_readers(guid: str, root: Path) -> None:
    (root / "train.txt").write_text(f"guid,tag\n{guid},positive\n", "utf-8")
    table = root / "rows.jsonl"
    table.write_text(json.dumps({"id": guid, "text": "a", "label": "b"}))
    assert BAD_GUIDS[guid] in read_rows(root, "guid-tag", {})[0].errors[0]
    errors = read_rows(table, "auto", {})[0].errors
    if BAD_GUIDS[guid] == "holds a path":  # in a table it names no file: it may be an address
        assert not errors
    else:
        assert BAD_GUIDS[guid] in errors[0]


@pytest.mark.parametrize("guid", ["../7", "..", "a/../7"])
def test_a_guid_with_a_path_finds_no_file_outside_the_data_folder(guid: str, root: Path) -> None:
    (root / "7.txt").write_text("outside")
    (root / "train.txt").write_text(f"guid,tag\n{guid},positive\n")
    row = read_rows(root, "auto", {})[0]
    assert (row.text_file, row.image) == (None, None)


def test_a_missing_data_folder_is_an_error_that_says_what_it_holds(root: Path) -> None:
    (root / "data").rename(root / "elsewhere")
    with pytest.raises(DataError, match=r"no folder .*data; it should hold <guid>.txt"):
        read_rows(root, "auto", {})


def test_a_missing_data_set_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data set at .*; name one with"):
        read_rows(tmp_path / "absent", "auto", {})


def test_a_test_file_alone_is_read(root: Path) -> None:
    (root / "train.txt").unlink()
    assert labels(read_rows(root, "guid-tag", {})) == EXPECTED[2:]


def test_an_unknown_reader_is_an_error_that_names_the_known(root: Path) -> None:
    with pytest.raises(ConfigError, match="no reader 'csv'; choose one of auto, guid-tag, mvsa, "):
        read_rows(root, "csv", {})


def test_columns_mean_nothing_to_label_files(root: Path) -> None:
    with pytest.raises(ConfigError, match="is not a table"):
        read_rows(root, "auto", {"text": "body"})


RECORDS = [
    {"id": "7", "text": "a cat", "image": "data/7.png", "label": "positive"},
    {"id": "8", "text": 'line one\nline "two", end', "image": "data/8.png", "label": "negative"},
    {"id": "9", "text": "", "image": "", "label": ""},
]


def write_table(path: Path, records: list[dict[str, str]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
        return path
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, records[0], delimiter="\t" if path.suffix == ".tsv" else ",")
    writer.writeheader()
    writer.writerows(records)
    path.write_bytes(buffer.getvalue().encode())
    return path


@pytest.fixture(params=["csv", "tsv", "jsonl"])
def ending(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_csv_tsv_and_jsonl_give_the_same_rows(ending: str, tmp_path: Path) -> None:
    rows = read_rows(write_table(tmp_path / f"set.{ending}", RECORDS), "auto", {})
    assert labels(rows) == EXPECTED
    assert [row.text for row in rows] == [record["text"] for record in RECORDS]
    assert [row.image for row in rows] == [tmp_path / "data/7.png", tmp_path / "data/8.png", None]


def test_a_folder_with_one_table_is_read_by_it(ending: str, tmp_path: Path) -> None:
    write_table(tmp_path / f"set.{ending}", RECORDS)
    assert labels(read_rows(tmp_path, "auto", {})) == EXPECTED


def test_columns_with_other_names_can_be_named(ending: str, tmp_path: Path) -> None:
    theirs = {"id": "key", "text": "body", "image": "picture", "label": "mood"}
    records = [{theirs[part]: value for part, value in record.items()} for record in RECORDS]
    table = write_table(tmp_path / f"set.{ending}", records)
    rows = read_rows(table, "auto", theirs)
    assert labels(rows) == EXPECTED
    assert rows[1].text == RECORDS[1]["text"]


def test_a_named_column_is_taken_before_one_that_looks_like_it(tmp_path: Path) -> None:
    records = [{**RECORDS[0], "title": "a dog"}]
    [row] = read_rows(write_table(tmp_path / "set.csv", records), "auto", {"text": "title"})
    assert row.text == "a dog"


def test_text_can_lie_in_files(tmp_path: Path) -> None:
    table = write_table(tmp_path / "set.csv", [{"guid": "1", "text_file": "t/1.txt", "tag": "a"}])
    [row] = read_rows(table, "auto", {})
    assert (row.text, row.text_file) == (None, tmp_path / "t/1.txt")


BAD_COLUMNS = {
    "absent column": ({"text": "body"}, ConfigError, "has no column 'body'; it has id, text,"),
    "unknown part": ({"picture": "image"}, ConfigError, "no column part 'picture'; parts are id,"),
}


@pytest.mark.parametrize("name", BAD_COLUMNS)
def test_a_wrong_column_is_an_error_that_lists_what_there_is(name: str, tmp_path: Path) -> None:
    columns, kind, reason = BAD_COLUMNS[name]
    with pytest.raises(kind, match=reason):
        read_rows(write_table(tmp_path / "set.csv", RECORDS), "auto", columns)


@pytest.mark.parametrize("header", ["a,b,c", "id,label"])
def test_a_table_without_content_says_how_to_name_it(header: str, tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text(f"{header}\n" + ",".join("x" * len(header.split(","))))
    with pytest.raises(DataError, match="name them: --columns text="):
        read_rows(tmp_path, "auto", {})


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_a_table_without_id_numbers_its_rows_whatever_parts_its_cells(
    mark: str, tmp_path: Path
) -> None:
    rows = [["Caption", "label"], ["one, two; three", "a"], ["four", ""]]
    (tmp_path / "set.csv").write_text(
        "".join(mark.join(f'"{cell}"' for cell in row) + "\n" for row in rows)
    )
    found = read_rows(tmp_path, "auto", {})
    assert [(row.guid, row.text, row.label, row.split) for row in found] == [
        ("set-1", "one, two; three", "a", "train"),
        ("set-2", "four", None, "test"),
    ]


def test_two_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("id,text,label,text\n1,a,b,c\n")
    with pytest.raises(DataError, match="has two columns 'text'; rename or remove one"):
        read_rows(tmp_path, "auto", {})


def test_pictures_are_found_by_folder_and_name_without_ending_and_by_whole_path(
    tmp_path: Path,
) -> None:
    inner = tmp_path / "pictures" / "7"
    inner.mkdir(parents=True)
    (inner / "a.JPG").touch()
    (inner / "a.png").touch()
    whole = inner.resolve() / "a.png"
    (tmp_path / "set.csv").write_text(
        f"text,folder,file,path\nx,pictures/7,a,{whole}\ny,pictures,7/a.png,\n"
    )
    named = read_rows(tmp_path, "auto", {"image": "folder+file"})
    assert [row.image for row in named] == [inner / "a.png"] * 2
    assert read_rows(tmp_path, "auto", {"image": "path"})[0].image == whole


OUTSIDE = [
    "../x.png",
    "a/../../x.png",
    "/etc/passwd",
    "..\\x.png",
    "\\\\host\\share\\x.png",
    "a\0b",
]


@pytest.mark.parametrize("part", ["image", "text_file"])
def test_a_path_that_leaves_the_folder_is_marked_and_not_opened(part: str, tmp_path: Path) -> None:
    records = [{"id": str(n), part: name, "label": "a"} for n, name in enumerate(OUTSIDE)]
    rows = read_rows(write_table(tmp_path / "set.jsonl", records), "auto", {})
    for row, name in zip(rows, OUTSIDE, strict=True):
        assert row.errors == (f"the {part} {name!r} leaves the table's folder",)
        assert (row.image, row.text_file) == (None, None)


SPLIT_WORDS = {
    "train": "train",
    "Training": "train",
    "dev": "val",
    "valid": "val",
    "validation": "val",
    " TEST ": "test",
}


def test_usual_words_for_splits_are_known(tmp_path: Path) -> None:
    records = [{**RECORDS[0], "id": str(n), "split": word} for n, word in enumerate(SPLIT_WORDS)]
    rows = read_rows(write_table(tmp_path / "set.csv", records), "auto", {})
    assert [row.split for row in rows] == list(SPLIT_WORDS.values())
    assert not any(row.errors for row in rows)


def test_an_unknown_split_is_marked(tmp_path: Path) -> None:
    table = write_table(tmp_path / "set.csv", [{**RECORDS[0], "split": "holdout"}])
    [row] = read_rows(table, "auto", {})
    assert row.errors == ("unknown split 'holdout'; use train, val or test",)


BROKEN_TABLES = {
    "not json": ("x.jsonl", '{"id": "1", "text": "a"}\n{"id": \n', "line 2: not JSON"),
    "deep json": ("x.jsonl", "[" * 100_000, "line 1: not JSON"),
    "json list": ("x.jsonl", '["1", "a"]\n', "line 1: expected an object"),
    "empty jsonl": ("x.jsonl", "\n\n", "is empty; expected one JSON object a line"),
    "empty csv": ("x.csv", "", "is empty; expected a header line"),
    "short row": ("x.csv", "id,text,label\n1,a,b\n2,a\n", "line 3: 2 cells, the header has 3"),
    "long row": ("x.csv", "id,text,label\n1,a,b,c\n", "line 2: 4 cells, the header has 3"),
    "long row, tsv": ("x.tsv", "id\ttext\n1\ta\tb\n", "line 2: 3 cells, the header has 2"),
    "huge cell": ("x.csv", f"id,text\n1,{'a' * 200_000}\n", "not a table"),
}


@pytest.mark.parametrize("name", BROKEN_TABLES)
def test_a_broken_table_is_an_error_that_names_the_line(name: str, tmp_path: Path) -> None:
    file, content, reason = BROKEN_TABLES[name]
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=reason):
        read_rows(tmp_path / file, "auto", {})


def test_line_numbers_count_newlines_inside_quotes(tmp_path: Path) -> None:
    table = tmp_path / "set.csv"
    table.write_text('id,text\n1,"one\ntwo\nthree"\n../2,x\n')
    good, bad = read_rows(table, "auto", {})
    assert good.text == "one\ntwo\nthree"
    assert bad.where == "set.csv line 5"


def test_only_newlines_end_a_row_of_a_table(ending: str, tmp_path: Path) -> None:
    text = "Größe, naïve\u2028été\u0085à\x0bla\x0cmode\x1cde"
    table = write_table(tmp_path / f"set.{ending}", [{"id": "1", "text": text, "label": "a"}])
    assert [row.text for row in read_rows(table, "auto", {})] == [text]


def test_several_tables_in_a_folder_must_be_told_apart(tmp_path: Path) -> None:
    for name in ("one.csv", "two.jsonl"):
        write_table(tmp_path / name, RECORDS)
    with pytest.raises(DataError, match=r"one\.csv, two\.jsonl.*name the table itself"):
        read_rows(tmp_path, "auto", {})
    assert labels(read_rows(tmp_path / "one.csv", "auto", {})) == EXPECTED


@pytest.mark.parametrize("name", ["readme.txt", "set.xlsx", "set"])
def test_a_file_that_is_no_table_is_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("id,text\n")
    with pytest.raises(DataError, match=r"is no table: expected a name ending in \.csv"):
        read_rows(tmp_path / name, "auto", {})
    with pytest.raises(DataError, match=r"not exactly one .*\(none\)"):
        read_rows(tmp_path, "auto", {})

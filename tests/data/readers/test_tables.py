"""Tables of news, tables that are parted by split, and texts that are joined of columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairfuse.data.loading import load_dataset
from pairfuse.data.pairs import BETWEEN
from pairfuse.data.readers import find_reader, read_rows
from pairfuse.data.readers.tables import joined
from pairfuse.errors import ConfigError, DataError
from toys.data import picture, saved, write_set
from toys.fusion import warnings_logged
from toys.published import NEWS, write_cells, write_jsonl, write_news, write_table


def test_title_and_body_are_a_pair_of_sentences(tmp_path: Path) -> None:
    first, second = read_rows(write_news(tmp_path), "auto", {})
    assert first.text == f"A title, of two lines{BETWEEN}Body.\nMore."
    assert second.text == f'Another{BETWEEN}It is said: "No."'


def test_the_first_of_several_texts_and_the_others_are_a_pair() -> None:
    assert joined(["a\n b\t c", "d\ne"]).split(BETWEEN) == ["a b c", "d\ne"]
    assert joined(["a", "b  c", "d"]).split(BETWEEN) == ["a", "b c\nd"]


def test_texts_of_which_one_is_empty_are_no_pair() -> None:
    assert joined(["", "d"]) == "\nd"
    assert joined(["a", " "]) == "a\n "
    assert joined([" as\nit is "]) == " as\nit is "


@pytest.mark.parametrize("texts", [[f"a{BETWEEN}b"], ["", f"a{BETWEEN}b"], [f"a{BETWEEN}", " "]])
def test_what_parts_a_pair_is_in_no_single_text(texts: list[str]) -> None:
    assert BETWEEN not in joined(texts)
    assert joined(["x", *texts, "y"]).count(BETWEEN) == 1


def test_news_without_title_and_body_has_no_text(tmp_path: Path) -> None:
    write_news(tmp_path)
    rows = [{**row, "image": f"photos/{number}.jpg"} for number, row in enumerate(NEWS)]
    write_cells(tmp_path / "news.csv", [rows[0], {**rows[1], "title": "", "body": " "}])
    assert [bool(pair.text) for pair in load_dataset(tmp_path).pairs] == [True, False]


@pytest.mark.parametrize("file", ["news.csv", "news.tsv", "news.jsonl"])
def test_news_are_known_by_their_columns_in_every_table(file: str, tmp_path: Path) -> None:
    write = write_jsonl if file.endswith("jsonl") else write_cells
    write(tmp_path / file, NEWS)
    for root in (tmp_path, tmp_path / file):
        assert find_reader(root) == "news"
        assert [row.label for row in read_rows(root, "auto", {})] == ["sport", "politics"]


def test_a_table_with_a_text_column_is_a_table_and_no_news(tmp_path: Path) -> None:
    write_cells(tmp_path / "set.csv", [{**NEWS[0], "id": "1", "text": "x", "label": "a"}])
    assert find_reader(tmp_path) == "table"


def test_ids_of_news_are_taken_where_there_are_some(tmp_path: Path) -> None:
    write_cells(tmp_path / "n.csv", [{"id": f"n{k}", **row} for k, row in enumerate(NEWS)])
    assert [row.guid for row in read_rows(tmp_path, "auto", {})] == ["n0", "n1"]


def test_other_columns_of_news_can_be_named(tmp_path: Path) -> None:
    write_cells(tmp_path / "n.csv", [{**row, "summary": "short", "nr": "5"} for row in NEWS[:1]])
    [row] = read_rows(tmp_path, "auto", {"text": "title+summary+body", "id": "nr"})
    assert row.text == f"A title, of two lines{BETWEEN}short\nBody.\nMore."
    assert row.guid == "5"


def test_tables_that_are_called_by_splits_are_read_together(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        write_cells(tmp_path / f"{name}.csv", NEWS)
    rows = read_rows(tmp_path, "auto", {})
    assert [(row.guid, row.split) for row in rows] == [
        ("dev-1", "val"),
        ("dev-2", "val"),
        ("test-1", "test"),
        ("test-2", "test"),
        ("train-1", "train"),
        ("train-2", "train"),
    ]


def test_two_tables_of_one_split_must_be_told_apart(tmp_path: Path) -> None:
    for name in ("train.csv", "train.tsv"):
        write_cells(tmp_path / name, NEWS)
    with pytest.raises(DataError, match=r"train\.csv, train\.tsv.*name the table itself"):
        read_rows(tmp_path, "auto", {})


def test_a_split_column_is_taken_before_the_name_of_the_table(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write_cells(tmp_path / f"{name}.csv", [{**NEWS[0], "split": "val"}])
    assert {row.split for row in read_rows(tmp_path, "auto", {})} == {"val"}


def test_columns_of_a_table_are_joined_as_they_are_named(tmp_path: Path) -> None:
    rows = [{"id": "1", "title": "a", "text": "b", "label": "x"}]
    write_cells(tmp_path / "set.csv", rows)
    [row] = read_rows(tmp_path, "auto", {"text": "title+text"})
    assert row.text == f"a{BETWEEN}b"


def test_a_column_that_is_called_with_a_plus_is_one_column(tmp_path: Path) -> None:
    write_cells(tmp_path / "set.csv", [{"id": "1", "a+b": "one", "a": "x", "b": "y"}])
    [row] = read_rows(tmp_path, "auto", {"text": "a+b"})
    assert row.text == "one"


def test_a_joined_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no column 'smell'"):
        read_rows(write_table(tmp_path), "auto", {"text": "text+smell"})


def test_a_picture_of_news_outside_the_folder_is_marked(tmp_path: Path) -> None:
    write_cells(tmp_path / "n.csv", [{**NEWS[0], "image": "../secret.jpg"}])
    [row] = read_rows(tmp_path, "auto", {})
    assert row.errors == ("the image '../secret.jpg' leaves the table's folder",)
    assert row.image is None


def table_and_pictures(tmp_path: Path) -> tuple[Path, Path]:
    """A table in one folder and its pictures in another; the paths begin in the latter."""
    pictures = tmp_path / "pictures"
    (pictures / "a").mkdir(parents=True)
    for number in range(2):
        (pictures / "a" / f"{number}.png").write_bytes(saved(picture(number)))
    cells = [str(pictures.resolve() / "a" / "0.png"), "a/1"]
    rows = [
        {"id": str(n), "text": f"text {n}", "label": "ab"[n], "image": cell}
        for n, cell in enumerate(cells)
    ]
    return write_cells(tmp_path / "set" / "items.csv", rows), pictures


def test_paths_of_images_begin_where_they_are_said_to(tmp_path: Path) -> None:
    table, pictures = table_and_pictures(tmp_path)
    with pytest.raises(DataError, match="leaves the table's folder"):
        load_dataset(table)
    pairs = load_dataset(table, image_root=pictures).pairs
    assert [pair.image and pair.image.name for pair in pairs] == ["0.png", "1.png"]


def test_no_path_and_no_link_leaves_the_folder_of_images(tmp_path: Path) -> None:
    table, pictures = table_and_pictures(tmp_path)
    (tmp_path / "secret.png").write_bytes(saved(picture(7)))
    (pictures / "a" / "1.png").unlink()
    (pictures / "a" / "1.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="is a link that leads out"):
        load_dataset(table, image_root=pictures)
    table.write_text(table.read_text().replace("a/1", "../secret.png"))
    with pytest.raises(DataError, match=f"'../secret.png' leaves {pictures}"):
        load_dataset(table, image_root=pictures)


def test_a_folder_of_images_is_refused_where_no_paths_are_read(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", {"1": "a", "2": "b"})
    with pytest.raises(ConfigError, match="--image-root is for tables"):
        load_dataset(root, image_root=tmp_path)
    table, _ = table_and_pictures(tmp_path / "t")
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        load_dataset(table, image_root=tmp_path / "nowhere")


def test_columns_that_are_not_recognised_are_asked_for_with_those_that_are_there(
    tmp_path: Path,
) -> None:
    path = tmp_path / "set.csv"
    path.write_text("id,question,subject,image\n1,how?,sums,1.png\n2,why?,forms,2.png\n")
    with warnings_logged() as told:
        read_rows(path, "table", {})
    wanted = "no column is taken for the {0}; it has id, question, subject, image; name one: "
    for part, line in zip(("text", "label"), told, strict=True):
        assert f"{wanted.format(part)}--columns {part}=..." in line
    with warnings_logged() as told:
        read_rows(path, "table", {"label": "subject", "text": "question"})
    assert not told


@pytest.mark.parametrize("of", ["table", "folder"])
def test_a_table_without_labels_is_refused_with_its_columns_and_the_flag_to_use(
    of: str, tmp_path: Path
) -> None:
    path = tmp_path / "set.csv"
    rows = "".join(f"{n},how {n}?,sums {n % 2},{n}.png\n" for n in range(6))
    path.write_text(f"id,text,the subject,image\n{rows}")
    for n in range(6):
        (tmp_path / f"{n}.png").write_bytes(saved(picture(n)))
    root = path if of == "table" else tmp_path
    with pytest.raises(DataError) as refused:
        load_dataset(root)
    assert str(refused.value).endswith(
        "it has id, text, the subject, image: name the one of labels, as in --columns "
        "'label=the subject'"
    )
    assert load_dataset(root, columns={"label": "the subject"}).labels == ("sums 0", "sums 1")

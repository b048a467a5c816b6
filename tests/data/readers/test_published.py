"""Every reader knows its layout and reads it; Hateful Memes, SNLI-VE, Fakeddit, CrisisMMD."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pairfuse.config import METRIC_NAMES
from pairfuse.data.loading import load_dataset
from pairfuse.data.pairs import BETWEEN
from pairfuse.data.readers import DEFAULT_METRIC, READERS, find_reader, read_rows
from pairfuse.errors import ConfigError, DataError
from toys.published import (
    CRISIS_HEADER,
    EXPECTED,
    WRITERS,
    entailment,
    meme,
    post,
    tweet,
    write_cells,
    write_crisis_mmd,
    write_fakeddit,
    write_hateful_memes,
    write_jsonl,
    write_lines,
    write_snli_ve,
)


@pytest.fixture(params=READERS)
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return str(request.param)


def test_every_reader_knows_its_layout_reads_what_is_published_and_makes_no_file(
    name: str, tmp_path: Path
) -> None:
    root = WRITERS[name](tmp_path / "set")
    before = sorted(tmp_path.rglob("*"))
    assert find_reader(root) == name
    rows = list(read_rows(root, "auto", {}))
    assert sorted(tmp_path.rglob("*")) == before
    kept = [row for row in rows if not row.left_out]
    assert [(row.guid, row.label, row.split) for row in kept] == EXPECTED[name]
    assert [row.errors for row in kept if row.errors] == []


def test_every_pair_of_a_whole_set_has_its_text_and_its_picture(name: str, tmp_path: Path) -> None:
    root = WRITERS[name](tmp_path / "set")
    dataset = load_dataset(root, facts_file=tmp_path / "cache" / "images.jsonl")
    assert dataset.problems == ()
    assert dataset.reader == name
    assert all(pair.text and pair.image for pair in dataset.pairs)


def test_a_reader_that_does_not_fit_says_so_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("nothing here")
    with pytest.raises(DataError) as caught:
        list(read_rows(tmp_path, name, {}))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_reader_refuses_a_part_that_it_does_not_have(tmp_path: Path) -> None:
    for name in READERS:
        with pytest.raises(ConfigError, match=r"no column part 'smell'; parts are|is not a table"):
            read_rows(tmp_path, name, {"smell": "x"})


def test_every_layout_has_a_measure_that_its_publishers_use() -> None:
    assert set(DEFAULT_METRIC.values()) <= set(METRIC_NAMES)


TABLES = {
    "hateful-memes": ("train.jsonl", "text"),
    "snli-ve": ("snli_ve_dev.jsonl", "sentence2"),
    "fakeddit": ("multimodal_validate.tsv", "clean_title"),
    "crisis-mmd": ("task_humanitarian_text_img_test.tsv", "tweet_text"),
    "news": ("news.csv", "body"),
}


@pytest.mark.parametrize("layout", TABLES)
def test_a_column_that_is_missing_is_named_with_its_file(layout: str, tmp_path: Path) -> None:
    file, column = TABLES[layout]
    path = WRITERS[layout](tmp_path) / file
    path.write_text(path.read_text("utf-8").replace(column, "else"), "utf-8")
    with pytest.raises(DataError, match=rf"{file} has no column '{column}'; it has .*else"):
        list(read_rows(tmp_path, layout, {}))


@pytest.mark.parametrize("layout", ["hateful-memes", "snli-ve"])
def test_a_line_that_is_not_json_is_named_by_its_number(layout: str, tmp_path: Path) -> None:
    path = WRITERS[layout](tmp_path) / TABLES[layout][0]
    path.write_text(path.read_text("utf-8") + '{"id": 5, \n', "utf-8")
    number = len(path.read_text("utf-8").splitlines())
    with pytest.raises(DataError, match=rf"{path.name} line {number}: not JSON"):
        list(read_rows(tmp_path, "auto", {}))


@pytest.mark.parametrize("layout", ["fakeddit", "crisis-mmd"])
def test_a_row_with_too_few_cells_is_named_by_its_number(layout: str, tmp_path: Path) -> None:
    path = WRITERS[layout](tmp_path) / TABLES[layout][0]
    path.write_text(path.read_text("utf-8") + "one\ttwo\n", "utf-8")
    with pytest.raises(DataError, match=rf"{path.name} line 3: 2 cells, the header has"):
        list(read_rows(tmp_path, "auto", {}))


@pytest.mark.parametrize("layout", TABLES)
def test_an_empty_file_is_an_error(layout: str, tmp_path: Path) -> None:
    path = WRITERS[layout](tmp_path) / TABLES[layout][0]
    path.write_text("\n")
    with pytest.raises(DataError, match=rf"{path.name} is empty"):
        list(read_rows(tmp_path, layout, {}))


BAD_ROWS = {
    "meme, label": (
        write_hateful_memes,
        lambda root: write_jsonl(root / "train.jsonl", [meme(1726, 0), meme(2, 7)]),
        "train.jsonl line 2: label '7' is not one of 0, 1",
    ),
    "meme, no label": (
        write_hateful_memes,
        lambda root: write_jsonl(root / "dev_seen.jsonl", [meme(3, 1), meme(9, label=None)]),
        "dev_seen.jsonl line 2: pair 9 is for training but has no label",
    ),
    "meme, picture outside": (
        write_hateful_memes,
        lambda root: write_jsonl(root / "train.jsonl", [meme(2, 1, img="../2.png")]),
        "train.jsonl line 1: the image '../2.png' leaves the table's folder",
    ),
    "meme, twice in one file": (
        write_hateful_memes,
        lambda root: write_jsonl(root / "train.jsonl", [meme(2, 1), meme(2, 1)]),
        "train.jsonl line 2: guid 2 was there before, in train.jsonl line 1",
    ),
    "entailment, label": (
        write_snli_ve,
        lambda root: write_jsonl(root / "snli_ve_dev.jsonl", [entailment("2.jpg#0r1n", "maybe")]),
        "snli_ve_dev.jsonl line 1: label 'maybe' is not one of entailment, neutral, contradiction",
    ),
    "entailment, picture outside": (
        write_snli_ve,
        lambda root: write_jsonl(
            root / "snli_ve_dev.jsonl",
            [entailment("2.jpg#0r1n", "neutral", Flickr30K_ID="../../etc/passwd")],
        ),
        "the image '../../etc/passwd' leaves the table's folder",
    ),
    "post, label": (
        write_fakeddit,
        lambda root: write_cells(root / "multimodal_train.tsv", [post("a", 2, 0)]),
        "multimodal_train.tsv line 2: label '2' is not one of 0, 1",
    ),
    "post, picture outside": (
        write_fakeddit,
        lambda root: write_cells(root / "multimodal_train.tsv", [post("../a", 1, 0)]),
        "multimodal_train.tsv line 2: the image '../a' leaves the table's folder",
    ),
    "tweet, picture outside": (
        write_crisis_mmd,
        lambda root: write_lines(
            root / "task_humanitarian_text_img_train.tsv",
            CRISIS_HEADER,
            tweet("1_0", "a").replace("data_image/", "/data_image/"),
        ),
        "leaves the table's folder",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_row_that_cannot_be_used_is_named(case: str, tmp_path: Path) -> None:
    write, spoil, message = BAD_ROWS[case]
    write(tmp_path)
    spoil(tmp_path)
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path)
    assert message in str(caught.value)


FOLDERS = {
    "snli-ve": ("flickr30k_images", "flickr30k_images or flickr30k-images or images"),
    "fakeddit": ("public_image_set", "public_image_set or images"),
}


@pytest.mark.parametrize("layout", FOLDERS)
def test_without_a_folder_of_pictures_it_is_said_where_it_should_be(
    layout: str, tmp_path: Path
) -> None:
    folder, expected = FOLDERS[layout]
    (WRITERS[layout](tmp_path) / folder).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=f"has no folder of pictures; expected {expected}"):
        list(read_rows(tmp_path, "auto", {}))
    (tmp_path / "elsewhere").rename(tmp_path / "images")
    assert all(pair.image for pair in load_dataset(tmp_path).pairs)


def test_a_meme_that_two_files_have_is_read_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "pairfuse"):
        dataset = load_dataset(write_hateful_memes(tmp_path))
    assert dataset.left_out == {"in dev_seen.jsonl already": 1}
    assert "1 of 7 rows left out: in dev_seen.jsonl already" in caplog.text


def test_the_first_phase_of_hateful_memes_is_read_too(tmp_path: Path) -> None:
    write_hateful_memes(tmp_path)
    for split in ("dev", "test"):
        (tmp_path / f"{split}_seen.jsonl").rename(tmp_path / f"{split}.jsonl")
        (tmp_path / f"{split}_unseen.jsonl").unlink()
    splits = [row.split for row in read_rows(tmp_path, "auto", {})]
    assert splits == ["train", "train", "val", "test"]


def test_rows_without_a_gold_label_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "pairfuse"):
        dataset = load_dataset(write_snli_ve(tmp_path))
    assert sum(dataset.left_out.values()) == 1
    assert "1 of 5 rows left out: no gold label" in caplog.text
    assert dataset.labels == ("contradiction", "entailment", "neutral")


def test_the_text_of_entailment_is_the_hypothesis_or_what_is_named(tmp_path: Path) -> None:
    write_snli_ve(tmp_path)
    first, *_ = read_rows(tmp_path, "auto", {})
    assert first.text == "The hypothesis of 111.jpg#0r1n."
    both, *_ = read_rows(tmp_path, "auto", {"text": "sentence1+sentence2"})
    assert both.text is not None
    assert both.text.split(BETWEEN)[1] == first.text


@pytest.mark.parametrize("column", ["Flickr30kID", "Flikr30kID"])
def test_older_spellings_of_the_picture_column_are_known(column: str, tmp_path: Path) -> None:
    write_snli_ve(tmp_path)
    for path in tmp_path.glob("*.jsonl"):
        text = path.read_text().replace("Flickr30K_ID", column)
        path.write_text(text.replace('"111"', '"111.jpg"'))
    assert all(pair.image for pair in load_dataset(tmp_path).pairs)


def test_another_label_of_fakeddit_can_be_chosen(tmp_path: Path) -> None:
    dataset = load_dataset(write_fakeddit(tmp_path), columns={"label": "6_way_label"})
    assert [pair.label for pair in dataset.pairs] == ["0", "4", "2", "0"]


def test_fakeddit_is_found_in_the_folder_that_it_is_published_in(tmp_path: Path) -> None:
    write_fakeddit(tmp_path)
    for path in tmp_path.glob("*.tsv"):
        (tmp_path / "multimodal_only_samples").mkdir(exist_ok=True)
        path.rename(tmp_path / "multimodal_only_samples" / path.name)
    assert find_reader(tmp_path) == "fakeddit"
    assert all(pair.image for pair in load_dataset(tmp_path).pairs)


def test_a_quotation_mark_in_a_tweet_encloses_nothing(tmp_path: Path) -> None:
    first, *_ = read_rows(write_crisis_mmd(tmp_path), "auto", {})
    assert first.text == 'a " of 5 inches of rain'


def test_another_label_of_crisis_tweets_can_be_chosen(tmp_path: Path) -> None:
    rows = read_rows(write_crisis_mmd(tmp_path), "auto", {"label": "label_image"})
    assert {row.label for row in rows} == {"not_humanitarian"}


def test_of_several_tasks_one_must_be_named(tmp_path: Path) -> None:
    write_crisis_mmd(tmp_path)
    agreed = tmp_path / "crisismmd_datasplit_agreed_label"
    name = "task_informative_text_img_agreed_lab_train.tsv"
    write_lines(agreed / name, CRISIS_HEADER, tweet("905_0", "informative"))
    with pytest.raises(ConfigError, match=r"tasks humanitarian, informative_agreed; choose one"):
        read_rows(tmp_path, "auto", {})
    [row] = read_rows(tmp_path, "auto", {"task": "informative_agreed"})
    assert (row.label, row.split) == ("informative", "train")
    assert row.image is not None
    assert row.image.is_file()


def test_a_task_that_is_not_there_is_an_error_that_lists_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds the tasks humanitarian; choose one"):
        read_rows(write_crisis_mmd(tmp_path), "auto", {"task": "damage"})


def test_hateful_memes_without_their_pictures_are_known_and_the_folder_is_named(
    tmp_path: Path,
) -> None:
    root = write_hateful_memes(tmp_path)
    (root / "img").rename(root / "else")
    assert find_reader(root) == "hateful-memes"
    with pytest.raises(DataError, match=f"no folder {root / 'img'}"):
        load_dataset(root)
    text = (root / "train.jsonl").read_text("utf-8")
    (root / "train.jsonl").write_text(text.replace("img/", "else/"), "utf-8")
    assert find_reader(root) == "table"


@pytest.mark.parametrize("layout", ["hateful-memes", "snli-ve", "fakeddit", "crisis-mmd"])
def test_a_named_column_that_is_not_there_is_an_error(layout: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no column 'smell'"):
        list(read_rows(WRITERS[layout](tmp_path), "auto", {"text": "smell"}))


def test_a_picture_that_many_pairs_share_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pairfuse.data import loading

    looked: list[Path] = []
    take = loading.read_image_facts

    def noted(paths: list[Path], *rest: object, **more: int) -> object:
        looked.extend(paths)
        return take(paths, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(loading, "read_image_facts", noted)
    dataset = load_dataset(write_snli_ve(tmp_path))
    assert len(dataset.images) == 4
    assert sorted(path.name for path in looked) == ["111.jpg", "222.jpg", "333.jpg"]

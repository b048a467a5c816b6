from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pairfuse.data.pairs import Dataset, Decoding, ImageFacts, Pair, Problem, Split
from pairfuse.data.profile import MANIFEST, profile, summary, write_manifest

HASH = 0x9F3A_56C1_0FE2_7B4D


def toy() -> Dataset:
    """Six pairs: 2 and 6 are one text, across the border; 3 has no image, 4 no text."""
    rows: Sequence[tuple[str, str | None, str | None, Split]] = (
        ("1", "a first text", "positive", "train"),
        ("2", "the very same text", "positive", "train"),
        ("3", "a third text, with\nlines and, commas", "negative", "train"),
        ("4", None, "negative", "val"),
        ("5", "=cmd()", None, "test"),
        ("6", "RT @bob: the very same text", None, "test"),
    )
    images = {
        g: ImageFacts(g * 64, 9, 100 * int(g), 50, "RGB", "JPEG", HASH >> int(g)) for g in "1245"
    }
    images["6"] = ImageFacts("6" * 64, 9, error="cannot be decoded (7 bytes left)")
    images["2"] = replace(images["2"], mode="L", format="PNG")
    pairs = tuple(
        Pair(g, text, Path(g) if g in "1245" else None, label, split)
        for g, text, label, split in rows
    )
    problems = (
        Problem("3", "image", "missing"),
        Problem("4", "text", "empty"),
        Problem("6", "image", "cannot be decoded (7 bytes left)"),
        Problem("5", "image", "cannot be decoded (9 bytes left)"),
    )
    decodings = {g: Decoding("ascii", 0) for g in "1256"} | {"3": Decoding("gb18030", 2)}
    return Dataset(Path("sets/toy"), pairs, ("negative", "positive"), problems, decodings, images)


def test_pairs_and_labels_are_counted_per_split() -> None:
    found = profile(toy())
    assert found.splits == {"train": 3, "test": 2, "val": 1}
    assert found.labels == {
        "train": {"negative": 1, "positive": 2},
        "val": {"negative": 1},
        "test": {"no label": 2},
    }
    assert found.missing == {"text": 1, "image": 2}


def test_quantiles_are_of_what_can_be_read() -> None:
    found = profile(toy())
    assert found.width == (100, 100, 200, 400, 500)
    assert (found.text_length[0], found.text_length[-1]) == (6, 36)
    assert found.formats == {"JPEG": 3, "PNG": 1}
    assert found.modes == {"RGB": 3, "L": 1}


def test_encodings_and_replaced_characters_are_counted() -> None:
    found = profile(toy())
    assert (found.encodings, found.replaced) == ({"ascii": 4, "gb18030": 1}, 2)


def test_reasons_that_differ_in_a_number_are_one() -> None:
    assert profile(toy()).problems == {
        "image: cannot be decoded": 2,
        "image: missing": 1,
        "text: empty": 1,
    }


def test_twins_across_the_border_are_in_the_profile() -> None:
    twin = profile(toy()).twins[0]
    assert (twin.kind, twin.guids, twin.across) == ("same text", ("2", "6"), True)


def test_the_summary_names_what_matters() -> None:
    text = summary(profile(toy()))
    assert text.startswith("toy: 6 pairs")
    assert "gb18030 1; 2 characters replaced" in text
    assert "       2  image: cannot be decoded" in text
    row = next(line for line in text.splitlines() if line.startswith("same text"))
    assert row.split()[2:] == ["1", "2", "2", "1", "0"]


def test_the_summary_fits_one_screen_whatever_the_data() -> None:
    many = [f"{n} " + "long words " * 20 for n in range(60)]
    pairs = tuple(Pair(str(n), "text", None, label, "train") for n, label in enumerate(many))
    problems = tuple(Problem(str(n), "image", reason) for n, reason in enumerate(many))
    decodings = {str(n): Decoding(name, 0) for n, name in enumerate(many)}
    lines = summary(profile(Dataset(Path("x"), pairs, tuple(many), problems, decodings, {})))
    assert len(lines.splitlines()) <= 40
    assert max(map(len, lines.splitlines())) <= 100
    assert "      55  for 55 other reasons" in lines


def test_an_empty_data_set_has_a_profile() -> None:
    found = profile(Dataset(Path("x"), (), (), (), {}, {}))
    assert found.text_length == found.width == ()
    assert "none" in summary(found)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_manifest_has_a_row_for_each_pair(tmp_path: Path) -> None:
    write_manifest(toy(), tmp_path / "manifest.csv")
    rows = read(tmp_path / "manifest.csv")
    assert [row["guid"] for row in rows] == list("123456")
    assert tuple(rows[0]) == MANIFEST
    assert list(rows[1].values())[:8] == ["2", "train", "positive", "1", "1", "18", "ascii", "0"]
    assert list(rows[1].values())[8:14] == ["2" * 64, "200", "50", "L", "PNG", "1"]
    assert [row["duplicate_group"] for row in rows] == ["0", "1", "2", "3", "4", "1"]


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        (2, "has_image", "0"),
        (2, "problem", "image: missing"),
        (2, "image_digest", ""),
        (3, "has_text", "0"),
        (3, "encoding", ""),
        (4, "text_length", "6"),
        (4, "label", ""),
        (5, "width", ""),
    ],
)
def test_the_manifest_leaves_out_what_is_missing(
    tmp_path: Path, row: int, column: str, value: str
) -> None:
    write_manifest(toy(), tmp_path / "manifest.csv")
    assert read(tmp_path / "manifest.csv")[row][column] == value


def test_the_manifest_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_manifest(toy(), tmp_path / "manifest.csv")
    write_manifest(toy(), tmp_path / "manifest.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]


@pytest.mark.parametrize("mark", ["=", "+", "-", "@", "\t"])
def test_no_cell_of_the_manifest_is_a_formula(mark: str, tmp_path: Path) -> None:
    data = toy()
    named = replace(data.pairs[2], guid=f"{mark}1+1", label=f"{mark}sum")
    write_manifest(replace(data, pairs=(named, *data.pairs[3:])), tmp_path / "manifest.csv")
    with (tmp_path / "manifest.csv").open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["guid"], row["label"]) == (f"'{mark}1+1", f"'{mark}sum")

"""Names: a file belongs to one guid, whatever the case or the form; no link leads out."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from pairfuse.data.duplicates import common_texts, duplicate_groups
from pairfuse.data.loading import load_dataset
from pairfuse.data.pairs import Dataset
from pairfuse.errors import DataError
from toys.data import write_labels, write_set
from toys.fusion import warnings_logged


def texts_of(dataset: Dataset) -> dict[str, str | None]:
    return {pair.guid: pair.text for pair in dataset.pairs}


def test_guids_that_differ_in_case_alone_have_their_own_files(tmp_path: Path) -> None:
    root = write_set(tmp_path, {"a": "p", "A": "n"})
    assert texts_of(load_dataset(root)) == {"a": "p text a", "A": "n text A"}


def test_a_file_of_another_case_serves_one_guid_at_most(tmp_path: Path) -> None:
    root = write_set(tmp_path, {"a": "p", "A": "n", "B": "n"})
    (root / "data" / "A.txt").unlink()
    (root / "data" / "B.txt").rename(root / "data" / "b.TXT")
    assert texts_of(load_dataset(root)) == {"a": "p text a", "A": None, "B": "n text B"}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_the_same_composed_and_decomposed(form: str, tmp_path: Path) -> None:
    root = write_set(tmp_path, {unicodedata.normalize(form, "\u00e9t\u00e9"): "p", "b": "n"})
    other = "NFD" if form == "NFC" else "NFC"
    write_labels(root / "train.txt", {unicodedata.normalize(other, "\u00e9t\u00e9"): "p", "b": "n"})
    assert all(load_dataset(root).pairs[0].__dict__[kind] for kind in ("text", "image"))


def test_labels_are_compared_composed_and_without_characters_of_no_width(tmp_path: Path) -> None:
    labels = {"1": "caf\u00e9", "2": "cafe\u0301", "3": "caf\u00e9\u200b", "4": "\ufeffcaf\u00e9"}
    with warnings_logged() as told:
        dataset = load_dataset(write_set(tmp_path, labels | {"5": "tea"}))
    assert dataset.labels == ("caf\u00e9", "tea")
    assert len(told) == 3
    assert "are taken as 'caf\u00e9'" in told[0]


def test_a_link_that_leads_out_is_a_bad_row(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", {"a": "p", "b": "n"})
    secret = tmp_path / "secret.txt"
    secret.write_text("key")
    (root / "data" / "b.txt").unlink()
    (root / "data" / "b.txt").symlink_to(secret)
    with pytest.raises(DataError, match=r"b\.txt is a link that leads out.*--follow-links"):
        load_dataset(root)
    assert texts_of(load_dataset(root, follow_links=True))["b"] == "key"


def test_a_folder_that_is_a_link_out_is_refused_and_one_inside_is_read(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", {"a": "p", "b": "n"})
    (root / "data").rename(root / "files")
    (root / "data").symlink_to(root / "files")
    assert texts_of(load_dataset(root))["a"] == "p text a"
    (root / "data").unlink()
    (root / "files").rename(tmp_path / "away")
    (root / "data").symlink_to(tmp_path / "away")
    with pytest.raises(DataError, match="leads out"):
        load_dataset(root)


def test_the_data_set_itself_may_be_a_link(tmp_path: Path) -> None:
    write_set(tmp_path / "set", {"a": "p", "b": "n"})
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert texts_of(load_dataset(tmp_path / "link"))["a"] == "p text a"


@pytest.mark.parametrize("stray", ["none", "file", "folder"])
@pytest.mark.parametrize("base", ["", "real", "link"])
@pytest.mark.parametrize("given", ["real", "link", "relative"])
def test_links_are_judged_by_where_they_lead_however_root_and_paths_are_given(
    given: str, base: str, stray: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = write_set(tmp_path / "real", {"a": "p", "b": "n"})
    if stray == "file":
        (real / "data" / "b.png").rename(tmp_path / "away.png")
        (real / "data" / "b.png").symlink_to(tmp_path / "away.png")
    if stray == "folder":
        (real / "data").rename(tmp_path / "away")
        (real / "data").symlink_to(tmp_path / "away")
    (tmp_path / "link").symlink_to(real)
    monkeypatch.chdir(tmp_path)
    start = f"{tmp_path / base}/" if base else ""
    rows = "".join(
        f"{guid},{start}data/{guid}.png,{label}\n" for guid, label in (("a", "p"), ("b", "n"))
    )
    (real / "train.txt").unlink()
    (real / "pairs.csv").write_text(f"id,image,label\n{rows}", "utf-8")
    root = Path("real") if given == "relative" else tmp_path / given
    if base == "link" and given != "link":
        with pytest.raises(DataError, match="leaves the table's folder"):
            load_dataset(root)
    elif stray == "none":
        assert all(pair.image for pair in load_dataset(root).pairs)
    else:
        with pytest.raises(DataError, match="is a link that leads out"):
            load_dataset(root)


def test_a_link_to_itself_is_an_unreadable_file(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", {"a": "p", "b": "n"})
    (root / "data" / "b.png").unlink()
    (root / "data" / "b.png").symlink_to("b.png")
    [problem] = load_dataset(root).problems
    assert (problem.guid, problem.modality) == ("b", "image")
    assert "symbolic links" in problem.reason


def same_text(count: int, other: int, text: str, folder: Path) -> Dataset:
    root = write_set(folder, {str(n): "pn"[n % 2] for n in range(count + other)})
    for n in range(count):
        (root / "data" / f"{n}.txt").write_text(text, "utf-8")
    return load_dataset(root)


@pytest.mark.parametrize("text", ["ok", "\u597d\u7684", "\U0001f602\U0001f602", "!!!", "same"])
def test_equal_texts_are_one_group_at_any_length(text: str, tmp_path: Path) -> None:
    groups = duplicate_groups(same_text(5, 20, text, tmp_path)).tolist()
    assert len(set(groups[:5])) == 1
    assert len(set(groups)) == 21


def test_a_short_text_that_much_of_the_data_shares_needs_the_image_too(tmp_path: Path) -> None:
    dataset = same_text(30, 10, "ok", tmp_path)
    assert common_texts(dataset) == {"ok": 30}
    assert len(set(duplicate_groups(dataset).tolist())) == 40
    (tmp_path / "data" / "0.png").write_bytes((tmp_path / "data" / "1.png").read_bytes())
    (tmp_path / "data" / "2.png").unlink()
    (tmp_path / "data" / "3.png").unlink()
    groups = duplicate_groups(load_dataset(tmp_path)).tolist()
    assert groups[0] == groups[1]
    assert groups[2] == groups[3]
    assert len(set(groups)) == 38

"""Rare labels: all named at once, with advice that helps; dropped, merged or kept as asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairfuse.cli import main
from pairfuse.commands.workspace import Workspace
from pairfuse.config import load_config
from pairfuse.data.profile import profile
from pairfuse.data.rare_labels import check_labels
from pairfuse.errors import DataError
from toys.commands import read_rows, run_command
from toys.data import write_labels, write_set
from toys.fusion import warnings_logged


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve pairs each of two labels; four, two and one of three others."""
    counts = {"cat": 12, "dog": 12, "owl": 4, "bat": 2, "yak": 1}
    labels = [label for label, count in counts.items() for _ in range(count)]
    return write_set(tmp_path / "set", {f"p{n}": label for n, label in enumerate(labels)}, ["t"])


def opened(root: Path, how: str = "refuse", **keys: object) -> Workspace:
    changes = {"data.root": str(root), "data.rare": how, "cache": str(root.parent / "cache")}
    return Workspace(load_config(None, {**changes, "features.encoders": ["ngram"], **keys}))


def test_all_rare_labels_are_named_before_any_extraction(root: Path) -> None:
    workspace = opened(root)
    with pytest.raises(DataError) as caught:
        _ = workspace.table
    message = str(caught.value)
    for named in ("'yak' has 1", "'bat' has 2", "'owl' has 4", "5 folds need 5", "--rare merge"):
        assert named in message
    assert not (root.parent / "cache" / "features").exists()


def test_a_whole_run_ends_before_any_extraction(root: Path) -> None:
    assert run_command("run", root, root.parent / "cache", "--folds", "5") == 1
    assert not (root.parent / "cache" / "features").exists()


@pytest.mark.parametrize(
    ("fewest", "folds", "hint"),
    [(4, 5, "--folds 4 is enough"), (3, 5, "--folds 3"), (2, 5, ""), (3, 2, ""), (1, 3, "")],
)
def test_fewer_folds_are_advised_only_where_they_are_enough(
    fewest: int, folds: int, hint: str
) -> None:
    with pytest.raises(DataError) as caught:
        check_labels({"a": 20, "b": fewest}, folds)
    assert hint in str(caught.value)
    assert ("--folds" in str(caught.value)) == bool(hint)


def test_check_data_names_them_and_what_can_be_done(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("check-data", root, root.parent / "cache") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "3 of 5 labels have fewer than the 5 different pairs" in said
    assert "yak 1, bat 2, owl 4" in said
    assert "--rare drop" in said


def test_drop_leaves_their_pairs_out_and_counts_them(root: Path) -> None:
    dataset = opened(root, "drop").first_look
    assert dataset.labels == ("cat", "dog")
    assert len(dataset.pairs) == 25
    assert dataset.left_out == {"their label has fewer than 5 different pairs": 7}


def test_merge_makes_one_class_of_them(root: Path) -> None:
    dataset = opened(root, "merge").first_look
    assert dataset.labels == ("cat", "dog", "other")
    assert sum(pair.label == "other" for pair in dataset.pairs) == 7


def test_what_is_done_is_a_warning(root: Path) -> None:
    with warnings_logged() as logged:
        _ = opened(root, "merge").first_look
    assert "3 labels have fewer than 5 different pairs and are merged into 'other'" in str(logged)


def test_merge_works_without_pairs_enough_only_by_another_way(root: Path, tmp_path: Path) -> None:
    labels = [f"p{n}" for n in range(21)]
    few = write_set(
        tmp_path / "few", {g: "yak" if g == "p0" else "ab"[n % 2] for n, g in enumerate(labels)}
    )
    with pytest.raises(DataError, match="'other' has 1 different pairs"):
        _ = opened(few, "merge").table


def test_keep_trains_on_them_with_a_warning(root: Path) -> None:
    workspace = opened(root, "keep", **{"study.repeats": 1, "study.n_models": 1})
    with warnings_logged() as logged:
        rows = workspace.folds
    assert "label 'yak' has 1" in str(logged)
    held = sorted(row for part in rows for row in part.held_out.tolist())
    assert held == list(range(31))


@pytest.mark.parametrize("more", [[], ["--set", "study.ensemble=average"]])
def test_a_study_with_kept_labels_comes_to_its_end(root: Path, more: list[str]) -> None:
    quick = ["--encoders", "ngram", "--trials", "2", "--repeats", "1", "--n-models", "1"]
    where = ["--data", str(root), "--cache", str(root.parent / "cache"), "--rare", "keep"]
    assert main(["tune", *where, *quick, "--folds", "3", "--set", "recipe.epochs=3"]) == 0
    assert main(["train", *where, *quick, "--folds", "3", *more]) == 0


def test_one_label_is_an_error_before_training(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", {f"p{n}": "only" for n in range(30)})
    with pytest.raises(DataError, match="one label, 'only'; a classifier needs two"):
        _ = opened(root).table


def unseen_in_test(root: Path) -> Path:
    """A set whose labelled test split has a label that training lacks."""
    write_set(root, {f"p{n}": "ab"[n % 2] for n in range(24)}, ["t", "u"])
    write_labels(root / "test_without_label.txt", {"t": "a", "u": "z"})
    return root


def test_a_label_that_only_the_test_split_has_is_no_class(tmp_path: Path) -> None:
    with warnings_logged() as logged:
        dataset = opened(unseen_in_test(tmp_path / "set")).first_look
    assert dataset.labels == ("a", "b")
    assert [pair.label for pair in dataset.split("test")] == ["a", "z"]
    assert "1 test pairs have labels that no training pair has (z 1)" in str(logged)
    assert profile(dataset).labels["test"] == {"a": 1, "z": 1}


def test_such_test_pairs_stop_neither_training_nor_prediction(tmp_path: Path) -> None:
    root, cache = unseen_in_test(tmp_path / "set"), tmp_path / "cache"
    assert run_command("train", root, cache) == 0
    assert run_command("predict", root, cache) == 0
    rows = read_rows(cache / "runs" / "set" / "test_labels.csv")
    assert [row["guid"] for row in rows] == ["t", "u"]
    assert {row["tag"] for row in rows} <= {"a", "b"}

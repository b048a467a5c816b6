"""Split file: a published split replaces the reader's own; its leaks are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairfuse.commands.workspace import Workspace
from pairfuse.config import load_config
from pairfuse.data.loading import load_dataset
from pairfuse.data.profile import profile, summary
from pairfuse.errors import DataError
from toys.data import write_set
from toys.fusion import warnings_logged


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", {f"p{n}": "ab"[n % 2] for n in range(6)})


def split_file(root: Path, text: str, name: str = "split.csv") -> Path:
    path = root.parent / name
    path.write_text(text, "utf-8")
    return path


def splits(root: Path, text: str, name: str = "split.csv") -> dict[str, str]:
    pairs = load_dataset(root, split_file=split_file(root, text, name)).pairs
    return {pair.guid: pair.split for pair in pairs}


WRITTEN = {
    "by guid": ("split.csv", "guid,split\np0,train\np3,test\np1,dev\n"),
    "by row": ("split.tsv", "line\tsplit\n1\ttrain\n4\ttest\n2\tval\n"),
    "as objects": (
        "split.jsonl",
        '{"id": "p0", "split": "Train"}\n{"id": "p3", "split": "test"}\n'
        '{"id": "p1", "split": "validation"}\n',
    ),
    "with folds": ("split.csv", "id,fold,split\np0,1,\np3,,test\np1,2,val\n"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_published_split_replaces_the_readers_own(name: str, root: Path) -> None:
    file, text = WRITTEN[name]
    assert splits(root, text, file) == {"p0": "train", "p3": "test", "p1": "val"}


def test_test_pairs_keep_their_label_and_pairs_not_listed_are_counted(root: Path) -> None:
    file = split_file(root, "guid,split\np0,train\np3,test\n")
    dataset = load_dataset(root, split_file=file)
    assert [pair.label for pair in dataset.split("test")] == ["b"]
    assert dataset.left_out == {"not in the split file": 4}


def test_published_folds_are_known_by_guid(root: Path) -> None:
    file = split_file(root, "line,fold\n1,1\n2,1\n3,2\n4,2\n5,3\n6,3\n")
    dataset = load_dataset(root, split_file=file)
    assert dataset.folds == {"p0": 1, "p1": 1, "p2": 2, "p3": 2, "p4": 3, "p5": 3}
    assert {pair.split for pair in dataset.pairs} == {"train"}


REFUSED = {
    "no column": ("name,split\np0,train\n", "needs a column guid or line"),
    "no split": ("guid,part\np0,train\n", "a column split or fold"),
    "a word": ("guid,split\np0,holdout\n", "line 2: unknown split 'holdout'"),
    "twice": ("guid,split\np0,train\np0,test\n", "line 3: guid 'p0' is there twice"),
    "no number": ("line,split\nfirst,train\n", "line '' is no name"),
    "a fold": ("guid,fold\np0,one\n", "fold 'one' is no whole number"),
    "others": ("guid,split\nq,train\n", "lists no pair of the data set: it has guid 'q'"),
    "empty": ("guid,split\n", "no rows"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_one_line(name: str, root: Path) -> None:
    text, message = REFUSED[name]
    with pytest.raises(DataError, match=message):
        splits(root, text)


def test_pairs_that_the_data_set_has_not_are_a_warning(root: Path) -> None:
    with warnings_logged() as logged:
        splits(root, "guid,split\np0,train\nq7,test\n")
    assert "lists 1 pairs that the data set has not, such as guid q7" in str(logged)


def test_test_pairs_with_a_twin_in_training_are_counted(root: Path) -> None:
    for guid in ("p1", "p4", "p5"):
        (root / "data" / f"{guid}.txt").write_text("the very same words", "utf-8")
    text = "guid,split\n" + "".join(f"p{n},{'test' if n > 2 else 'train'}\n" for n in range(6))
    found = profile(load_dataset(root, split_file=split_file(root, text)))
    assert found.leaks == {"same text": 2, "any of these": 2}
    assert "2 of 3 test pairs have a twin in training: same text 2" in summary(found)


def test_published_folds_are_those_of_the_study(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", {f"p{n}": "ab"[n % 2] for n in range(24)})
    text = "guid,fold\n" + "".join(f"p{n},{n // 8}\n" for n in range(24))
    keys = {"data.root": str(root), "data.split_file": str(split_file(root, text))}
    more = {"cache": str(tmp_path / "cache"), "features.encoders": ["ngram"], "study.folds": 3}
    workspace = Workspace(load_config(None, {**keys, **more, "study.n_models": 1}))
    assert [part.held_out.tolist() for part in workspace.folds[:3]] == [
        list(range(start, start + 8)) for start in (0, 8, 16)
    ]


def test_a_labelled_pair_without_a_fold_beside_others_with_one_is_an_error(
    root: Path, tmp_path: Path
) -> None:
    text = "guid,split,fold\n" + "".join(
        f"p{n},train,{'' if n == 2 else n % 2}\n" for n in range(6)
    )
    keys = {"data.root": str(root), "data.split_file": str(split_file(root, text))}
    more = {"cache": str(tmp_path / "cache"), "features.encoders": ["ngram"]}
    keep = {"data.rare": "keep", "study.folds": 2}
    with pytest.raises(DataError, match="no fold for 1 of 6 labelled pairs, such as 'p2'"):
        _ = Workspace(load_config(None, {**keys, **more, **keep})).folds

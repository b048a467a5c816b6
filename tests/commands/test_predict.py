"""`pairfuse predict`: labels, probabilities, sets, the cascade, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, rmtree

import pytest

from pairfuse.commands.predict import predict
from pairfuse.commands.run_folder import EVIDENCE
from pairfuse.commands.workspace import Workspace
from pairfuse.config import load_config
from pairfuse.errors import CheckpointError, DataError
from toys.commands import BARE, TEST_PAIRS, edit_json, guids, read_rows, run_command


def test_test_labels_are_in_file_order_with_a_known_label_each(root: Path, cache: Path) -> None:
    path = cache / "runs" / "toy" / "test_labels.csv"
    assert path.read_text("utf-8").splitlines()[0] == "guid,tag"
    rows = read_rows(path)
    assert [row["guid"] for row in rows] == guids(root, "test_without_label.txt")
    assert len(rows) == TEST_PAIRS + 1
    assert {row["tag"] for row in rows} <= {"positive", "neutral", "negative"}


def test_probabilities_sum_to_one_and_the_largest_is_the_label(cache: Path) -> None:
    run = cache / "runs" / "toy"
    labels = read_rows(run / "test_labels.csv")
    for row, label in zip(read_rows(run / "test_probabilities.csv"), labels, strict=True):
        probabilities = {name[2:]: float(p) for name, p in row.items() if name.startswith("p_")}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert max(probabilities, key=probabilities.__getitem__) == row["tag"] == label["tag"]
        assert row["guid"] == label["guid"]


def test_a_pair_without_text_and_image_gets_the_prior_and_the_flag(cache: Path) -> None:
    run = cache / "runs" / "toy"
    rows = read_rows(run / "test_probabilities.csv")
    bare = next(row for row in rows if row["guid"] == BARE)
    model = json.loads((run / "model" / "model.json").read_text("utf-8"))
    for label, prior in zip(model["labels"], model["prior"], strict=True):
        assert float(bare[f"p_{label}"]) == pytest.approx(prior, abs=1e-6)
    assert [row["guid"] for row in rows if row["flags"] == "prior"] == [BARE]


def test_a_run_may_have_another_name_and_labels_another_place(root: Path, own: Path) -> None:
    run, place = own / "runs" / "toy", own / "elsewhere" / "labels.csv"
    run.rename(own / "runs" / "renamed")
    assert run_command("predict", root, own, "--run", "renamed", "--out", str(place)) == 0
    wanted = (own / "runs" / "renamed" / "test_labels.csv").read_bytes()
    assert place.read_bytes() == wanted
    assert place.with_name("test_probabilities.csv").is_file()
    assert not run.exists()


def test_predict_needs_no_training_configuration(root: Path, own: Path) -> None:
    """The encoders are those of the model, whatever is configured."""
    wanted = (own / "runs" / "toy" / "test_labels.csv").read_bytes()
    assert run_command("predict", root, own, "--encoders", "minilm") == 0
    assert (own / "runs" / "toy" / "test_labels.csv").read_bytes() == wanted


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "incomplete": (lambda model: (model / "model.json").unlink(), "no complete model"),
    "other weights": (lambda model: (model / "weights.safetensors").write_bytes(b"x"), "not the"),
    "other encoder": (
        lambda model: edit_json(
            model / "model.json", lambda d: d["fingerprints"].update(ngram="0" * 64)
        ),
        "encoder ngram is not the one",
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_predict_refuses_a_model_that_does_not_fit(case: str, root: Path, own: Path) -> None:
    change, message = REFUSED[case]
    change(own / "runs" / "toy" / "model")
    workspace = Workspace(load_config(None, {"data.root": str(root), "cache": str(own)}))
    with pytest.raises(CheckpointError, match=message):
        predict(workspace)


def test_predict_refuses_a_data_set_with_a_label_that_the_model_lacks(
    root: Path, own: Path, tmp_path: Path
) -> None:
    other = Path(copytree(root, tmp_path / "toy"))
    text = (other / "train.txt").read_text("utf-8")
    (other / "train.txt").write_text(text.replace("neutral", "mixed"), "utf-8")
    workspace = Workspace(load_config(None, {"data.root": str(other), "cache": str(own)}))
    with pytest.raises(CheckpointError, match="has 'mixed'"):
        predict(workspace)


def test_prediction_sets_hold_the_label_that_is_predicted(cache: Path) -> None:
    for row in read_rows(cache / "runs" / "toy" / "test_probabilities.csv"):
        assert row["tag"] in row["set"].split(" | ")


def test_a_cascade_takes_sure_texts_from_the_text_only_model(root: Path, own: Path) -> None:
    run = own / "runs" / "toy"
    edit_json(run / EVIDENCE, lambda found: found["cascade"].update(threshold=0.0))
    assert run_command("predict", root, own, "--cascade") == 0
    rows = read_rows(run / "test_probabilities.csv")
    assert all("text-only" in row["flags"] for row in rows)
    edit_json(run / EVIDENCE, lambda found: found["cascade"].update(threshold=2.0))
    assert run_command("predict", root, own, "--cascade") == 0
    full = (run / "test_probabilities.csv").read_bytes()
    assert run_command("predict", root, own) == 0
    assert (run / "test_probabilities.csv").read_bytes() == full


def test_a_cascade_encodes_no_image_of_a_sure_text(root: Path, own: Path) -> None:
    for store in (own / "features").glob("efficientnet-*"):
        rmtree(store)
    run = own / "runs" / "toy"
    edit_json(run / EVIDENCE, lambda found: found["cascade"].update(threshold=0.0))
    assert run_command("predict", root, own, "--cascade") == 0
    assert not list((own / "features").glob("efficientnet-*/parts/*"))


def test_a_cascade_needs_an_ablation(root: Path, own: Path) -> None:
    (own / "runs" / "toy" / EVIDENCE).unlink()
    workspace = Workspace(load_config(None, {"data.root": str(root), "cache": str(own)}))
    with pytest.raises(DataError, match="run `pairfuse ablate` first"):
        predict(workspace, cascade=True)


def _labelled(root: Path, place: Path, *labels: str) -> Path:
    """The data set, the first test pairs with these labels."""
    other = Path(copytree(root, place / "toy"))
    path = other / "test_without_label.txt"
    lines = path.read_text("utf-8").splitlines()
    for row, label in enumerate(labels, start=1):
        lines[row] = f"{lines[row].split(',')[0]},{label}"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return other


def test_labelled_test_pairs_are_scored_and_no_prediction_changes(
    root: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = own / "runs" / "toy"
    wanted = (run / "test_labels.csv").read_bytes()
    right = [row["tag"] for row in read_rows(run / "test_labels.csv")][:TEST_PAIRS]
    given = [*right[:-3], *("positive" if tag != "positive" else "neutral" for tag in right[-3:])]
    other = _labelled(root, tmp_path, *given)
    assert run_command("predict", other, own) == 0
    scores = json.loads((run / "test_scores.json").read_text("utf-8"))
    assert (scores["arm"], scores["rows"]) == ("fused", TEST_PAIRS)
    assert scores["accuracy"]["value"] == pytest.approx(1 - 3 / TEST_PAIRS)
    assert scores["accuracy"]["low"] < scores["accuracy"]["value"] < scores["accuracy"]["high"]
    assert (run / "test_labels.csv").read_bytes() == wanted
    assert (
        f"scores    of {TEST_PAIRS} labelled test pairs: accuracy 0.750" in capsys.readouterr().out
    )
    assert run_command("predict", root, own) == 0
    assert not (run / "test_scores.json").exists()


def test_labelled_test_pairs_are_never_trained_on(root: Path, tmp_path: Path) -> None:
    tables = [
        Workspace(load_config(None, {"data.root": str(place), "cache": str(tmp_path / "cache")}))
        for place in (root, _labelled(root, tmp_path, "positive", "neutral", "negative"))
    ]
    plain, labelled = [workspace.first_look.split("train", "val") for workspace in tables]
    assert [pair.guid for pair in plain] == [pair.guid for pair in labelled]
    assert sum(pair.label is not None for pair in tables[1].first_look.split("test")) == 3


def test_a_test_label_that_the_model_does_not_know_is_an_error_of_the_score(
    root: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = _labelled(root, tmp_path, *["never-seen"] * TEST_PAIRS)
    assert run_command("predict", other, own) == 0
    scores = json.loads((own / "runs" / "toy" / "test_scores.json").read_text("utf-8"))
    assert scores["accuracy"]["value"] == 0
    assert "that the model does not know (never-seen): they count as errors" in (
        capsys.readouterr().err
    )


def test_the_text_only_arm_predicts_without_images(root: Path, own: Path) -> None:
    for store in (own / "features").glob("efficientnet-*"):
        rmtree(store)
    run = own / "runs" / "toy"
    full = (run / "test_probabilities.csv").read_bytes()
    assert run_command("predict", root, own, "--arm", "text-only") == 0
    assert not list((own / "features").glob("efficientnet-*/parts/*"))
    assert (run / "test_probabilities.csv").read_bytes() != full


def test_the_text_only_arm_and_the_cascade_exclude_each_other(root: Path, own: Path) -> None:
    with pytest.raises(SystemExit):
        run_command("predict", root, own, "--arm", "text-only", "--cascade")

"""The whole way, from drawn pairs to labels, once; then what each stage promised of its files."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, rmtree

import numpy as np
import pytest

from pairfuse.cli import main
from pairfuse.commands.run_folder import EVIDENCE, read_evidence
from pairfuse.commands.tune import predict_stage
from pairfuse.commands.workspace import Workspace
from pairfuse.config import load_config
from pairfuse.data.demo import draw_demo
from pairfuse.errors import CheckpointError, DataError
from pairfuse.features import prefetch as inputs
from pairfuse.fusion.checkpoint import load_checkpoint
from toys.checkpoints import vilt
from toys.encoders import ToyEncoder
from toys.published import WRITERS

TEST_PAIRS = 12
QUICK = [
    *("--encoders", "ngram efficientnet-lite0", "--trials", "2", "--folds", "2"),
    *("--repeats", "1", "--n-models", "1", "--seed", "0", "--set", "recipe.epochs=5"),
]
BARE = "bare-pair"  # a test pair of which neither text nor image is there


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn data set; one test pair has neither file."""
    folder = tmp_path_factory.mktemp("stages") / "toy"
    draw_demo(folder, pairs=80, test_pairs=TEST_PAIRS)
    with (folder / "test_without_label.txt").open("a", encoding="utf-8") as file:
        file.write(f"{BARE},null\n")
    return folder


@pytest.fixture(scope="session")
def cache(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one `pairfuse run` leaves; read only."""
    folder = tmp_path_factory.mktemp("cache")
    assert _command("run", root, folder) == 0
    return folder


@pytest.fixture
def own(cache: Path, tmp_path: Path) -> Path:
    """A copy of the cache that a test may change."""
    return Path(copytree(cache, tmp_path / "cache"))


def _command(name: str, root: Path, cache: Path, *more: str) -> int:
    options = QUICK if name in ("run", "tune", "train", "ablate") else []
    if name == "features":
        options = QUICK[:2]
    return main([name, "--data", str(root), "--cache", str(cache), *options, *more])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _guids(root: Path, name: str) -> list[str]:
    lines = (root / name).read_text("utf-8-sig").splitlines()[1:]
    return [line.split(",")[0] for line in lines]


def _edit_json(path: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def test_a_run_leaves_every_file_it_promises(cache: Path) -> None:
    found = {path.name for path in (cache / "runs" / "toy").iterdir()}
    assert found >= {
        *("config.toml", "study.log", "best.toml", "model", "scores.json", "history.csv"),
        *("history.png", "ablation.csv", "ablation.png", "out_of_fold.csv", "predictions"),
        *("evidence.json", "text-only", "report.html", "test_labels.csv"),
        "test_probabilities.csv",
    }
    assert not [path for path in cache.rglob("*") if path.name.startswith(".writing-")]


def test_features_are_computed_once(
    root: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in (cache / "features").rglob("*") if p.is_file()}
    assert _command("features", root, cache) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert all("nothing computed" in line for line in said)
    after = {p: p.stat().st_mtime_ns for p in (cache / "features").rglob("*") if p.is_file()}
    assert after == before


def test_test_labels_are_in_file_order_with_a_known_label_each(root: Path, cache: Path) -> None:
    path = cache / "runs" / "toy" / "test_labels.csv"
    assert path.read_text("utf-8").splitlines()[0] == "guid,tag"
    rows = _rows(path)
    assert [row["guid"] for row in rows] == _guids(root, "test_without_label.txt")
    assert len(rows) == TEST_PAIRS + 1
    assert {row["tag"] for row in rows} <= {"positive", "neutral", "negative"}


def test_probabilities_sum_to_one_and_the_largest_is_the_label(cache: Path) -> None:
    run = cache / "runs" / "toy"
    labels = _rows(run / "test_labels.csv")
    for row, label in zip(_rows(run / "test_probabilities.csv"), labels, strict=True):
        chances = {name[2:]: float(p) for name, p in row.items() if name.startswith("p_")}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
        assert max(chances, key=chances.__getitem__) == row["tag"] == label["tag"]
        assert row["guid"] == label["guid"]


def test_a_pair_without_text_and_image_gets_the_prior_and_the_flag(cache: Path) -> None:
    run = cache / "runs" / "toy"
    rows = _rows(run / "test_probabilities.csv")
    bare = next(row for row in rows if row["guid"] == BARE)
    model = json.loads((run / "model" / "model.json").read_text("utf-8"))
    for label, prior in zip(model["labels"], model["prior"], strict=True):
        assert float(bare[f"p_{label}"]) == pytest.approx(prior, abs=1e-6)
    assert [row["guid"] for row in rows if row["flags"] == "prior"] == [BARE]


def test_the_ablation_has_all_arms_on_the_same_rows(cache: Path) -> None:
    rows = _rows(cache / "runs" / "toy" / "ablation.csv")
    assert [row["arm"] for row in rows] == ["fused", "text-only", "image-only", "prior", "majority"]
    assert [row["views"] for row in rows[1:4]] == ["ngram", "efficientnet-lite0", ""]
    assert {row["rows"] for row in rows} == {"80"}
    for row in rows:
        low, value, high = (float(row[f"macro_f1{end}"]) for end in ("_low", "", "_high"))
        assert low <= value <= high


def test_out_of_fold_guesses_give_the_scores_of_the_ablation(root: Path, cache: Path) -> None:
    run = cache / "runs" / "toy"
    rows = _rows(run / "out_of_fold.csv")
    assert sorted(row["guid"] for row in rows) == sorted(_guids(root, "train.txt"))
    for arm in _rows(run / "ablation.csv"):
        right = np.mean([row["tag"] == row[arm["arm"]] for row in rows])
        assert right == pytest.approx(float(arm["accuracy"]), abs=1e-4)


def test_history_has_the_rows_of_every_model(cache: Path) -> None:
    rows = _rows(cache / "runs" / "toy" / "history.csv")
    models = {row["model"] for row in rows}
    assert len(models) % 2 == 0  # two folds, one model of each for every recipe
    for model in models:
        epochs = [int(row["epoch"]) for row in rows if row["model"] == model]
        assert epochs == list(range(1, len(epochs) + 1))
        assert len(epochs) <= 5


def test_the_kept_configuration_reproduces_the_run(cache: Path, tmp_path: Path) -> None:
    run = cache / "runs" / "toy"
    again = tmp_path / "again"
    options = ["--config", str(run / "config.toml"), "--cache", str(again)]
    copytree(cache / "features", again / "features")
    for command in ("tune", "train", "predict"):
        assert main([command, *options]) == 0
    for name in ("test_probabilities.csv", "scores.json", "history.csv", "best.toml"):
        assert (again / "runs" / "toy" / name).read_bytes() == (run / name).read_bytes(), name


def test_another_metric_is_searched_for_and_said(
    root: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = json.loads((own / "runs" / "toy" / "scores.json").read_text("utf-8"))
    for command in ("tune", "train"):
        assert _command(command, root, own, "--metric", "auroc") == 0
    tuned, trained = re.findall(r"(?:tune|train) .*", capsys.readouterr().out)
    scores = json.loads((own / "runs" / "toy" / "scores.json").read_text("utf-8"))
    assert kept["metric"] == "macro_f1"
    assert scores["metric"] == "auroc"
    assert "best trial's AUROC 0." in tuned
    assert f", AUROC {scores['auroc']['value']:.3f} (" in trained


def test_a_metric_of_several_answers_is_refused_where_there_are_none(
    root: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _command("tune", root, own, "--metric", "vqa_accuracy") == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "needs several annotators' answers" in line


@pytest.mark.parametrize(
    ("layout", "metric"),
    [("vqa", "vqa_accuracy"), ("hateful-memes", "auroc"), ("mvsa", "accuracy")],
)
def test_a_search_is_for_what_the_publishers_score_by(
    layout: str, metric: str, tmp_path: Path
) -> None:
    root = WRITERS[layout](tmp_path / "set")
    assert Workspace(load_config(None, {"data.root": str(root)})).metric == metric


def test_the_same_command_again_gives_the_same_bytes(root: Path, own: Path) -> None:
    run = own / "runs" / "toy"
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert _command("run", root, own) == 0
    changed = {path.name for path, data in before.items() if path.read_bytes() != data}
    # The first names the cache, the second grows, the others say how long training took.
    assert changed <= {"config.toml", "study.log", "evidence.json", "report.html"}
    found = [json.loads(data) for data in (before[run / EVIDENCE], (run / EVIDENCE).read_bytes())]
    for evidence in found:
        for cost in evidence["cost"]:
            cost.pop("train_seconds")
    assert found[0] == found[1]


def test_a_run_may_have_another_name_and_labels_another_place(root: Path, own: Path) -> None:
    run, place = own / "runs" / "toy", own / "elsewhere" / "labels.csv"
    run.rename(own / "runs" / "renamed")
    assert _command("predict", root, own, "--run", "renamed", "--out", str(place)) == 0
    wanted = (own / "runs" / "renamed" / "test_labels.csv").read_bytes()
    assert place.read_bytes() == wanted
    assert place.with_name("test_probabilities.csv").is_file()
    assert not run.exists()


def test_predict_needs_no_training_configuration(root: Path, own: Path) -> None:
    """The encoders are those of the model, whatever is configured."""
    wanted = (own / "runs" / "toy" / "test_labels.csv").read_bytes()
    assert _command("predict", root, own, "--encoders", "minilm") == 0
    assert (own / "runs" / "toy" / "test_labels.csv").read_bytes() == wanted


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "incomplete": (lambda model: (model / "model.json").unlink(), "no complete model"),
    "other weights": (lambda model: (model / "weights.safetensors").write_bytes(b"x"), "not the"),
    "other encoder": (
        lambda model: _edit_json(
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
        predict_stage(workspace, None)


def test_predict_refuses_a_data_set_with_a_label_that_the_model_lacks(
    root: Path, own: Path, tmp_path: Path
) -> None:
    other = Path(copytree(root, tmp_path / "toy"))
    text = (other / "train.txt").read_text("utf-8")
    (other / "train.txt").write_text(text.replace("neutral", "mixed"), "utf-8")
    workspace = Workspace(load_config(None, {"data.root": str(other), "cache": str(own)}))
    with pytest.raises(CheckpointError, match="has 'mixed'"):
        predict_stage(workspace, None)


def test_train_refuses_a_recipe_tuned_on_other_encoders(
    root: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            ["train", "--data", str(root), "--cache", str(own), "--encoders", "efficientnet-lite0"]
        )
        == 1
    )
    assert "name the same ones: --encoders" in capsys.readouterr().err


def test_best_toml_holds_the_score_and_recipes_over_known_encoders(cache: Path) -> None:
    text = (cache / "runs" / "toy" / "best.toml").read_text("utf-8")
    assert re.match(r"# .*macro-F1.*0\.\d+", text)
    assert "ngram" in tomllib.loads(text)["features"]["encoders"]
    assert "epochs = 5" in text


def test_the_evidence_names_the_verdict_and_every_arm(cache: Path) -> None:
    found = read_evidence(cache / "runs" / "toy")
    assert found["verdict"]["outcome"] in {"helps", "does not help", "cannot be told"}
    assert found["verdict"]["use"] in {"fused", "text-only", "image-only"}
    assert len(found["comparisons"]) == 5 * 4 / 2
    assert sum(found["agreement"].values()) == pytest.approx(1)
    assert list(found["removal"]) == ["nothing", "image", "text"]
    fused = next(arm for arm in found["arms"] if arm["name"] == "fused")
    whole = found["removal"]["nothing"]["macro_f1"]["value"]
    assert whole == pytest.approx(fused["scores"]["macro_f1"]["value"], abs=1e-4)
    assert {cost["name"] for cost in found["cost"]} == {"fused", "text-only", "image-only"}
    assert all(cost["encode_ms"] > 0 for cost in found["cost"])


def test_prediction_sets_hold_the_label_that_is_predicted(cache: Path) -> None:
    for row in _rows(cache / "runs" / "toy" / "test_probabilities.csv"):
        assert row["tag"] in row["set"].split(" | ")


def test_a_cascade_takes_sure_texts_from_the_text_only_model(root: Path, own: Path) -> None:
    run = own / "runs" / "toy"
    _edit_json(run / EVIDENCE, lambda found: found["cascade"].update(threshold=0.0))
    assert _command("predict", root, own, "--cascade") == 0
    rows = _rows(run / "test_probabilities.csv")
    assert all("text-only" in row["flags"] for row in rows)
    _edit_json(run / EVIDENCE, lambda found: found["cascade"].update(threshold=2.0))
    assert _command("predict", root, own, "--cascade") == 0
    full = (run / "test_probabilities.csv").read_bytes()
    assert _command("predict", root, own) == 0
    assert (run / "test_probabilities.csv").read_bytes() == full


def test_a_cascade_encodes_no_image_of_a_sure_text(root: Path, own: Path) -> None:
    for store in (own / "features").glob("efficientnet-*"):
        rmtree(store)
    run = own / "runs" / "toy"
    _edit_json(run / EVIDENCE, lambda found: found["cascade"].update(threshold=0.0))
    assert _command("predict", root, own, "--cascade") == 0
    assert not list((own / "features").glob("efficientnet-*/parts/*"))


def test_a_cascade_needs_an_ablation(root: Path, own: Path) -> None:
    (own / "runs" / "toy" / EVIDENCE).unlink()
    workspace = Workspace(load_config(None, {"data.root": str(root), "cache": str(own)}))
    with pytest.raises(DataError, match="run `pairfuse ablate` first"):
        predict_stage(workspace, None, cascade=True)


def test_two_arms_of_a_run_are_compared(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "toy", "toy/text-only", "--cache", str(cache)]) == 0
    said = capsys.readouterr().out
    assert "McNemar" in said
    difference = next(
        found["difference"]["value"]
        for found in read_evidence(cache / "runs" / "toy")["comparisons"]
        if (found["first"], found["second"]) == ("fused", "text-only")
    )
    assert re.search(r"[+-]0\.\d{3}", said)
    assert abs(difference) < 1


@pytest.mark.parametrize("name", ["nowhere", "toy/none", "../toy", "toy/../../x"])
def test_what_is_no_run_cannot_be_compared(
    name: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "toy", name, "--cache", str(cache)]) == 1
    assert "no predictions of" in capsys.readouterr().err


def test_a_joint_encoder_goes_the_whole_way(root: Path, tmp_path: Path) -> None:
    encoders = f"ngram efficientnet-lite0 joint={vilt(tmp_path / 'vilt')}"
    views = ["--set", f"recipe.views={json.dumps(['ngram', 'efficientnet-lite0', 'vilt'])}"]
    quick = ["--encoders", encoders, "--trials", "1", *views]
    assert _command("run", root, tmp_path, *quick) == 0
    found = read_evidence(tmp_path / "runs" / "toy")
    arms = {arm["name"]: arm["views"] for arm in found["arms"]}
    assert arms["fused"] == ["ngram", "efficientnet-lite0", "vilt"]
    assert (arms["text-only"], arms["image-only"]) == (["ngram"], ["efficientnet-lite0"])
    assert arms["vilt"] == ["vilt"]
    assert found["emap"] is None
    assert len(_rows(tmp_path / "runs" / "toy" / "test_labels.csv")) == TEST_PAIRS + 1
    assert (tmp_path / "runs" / "toy" / "report.html").is_file()


def test_an_image_that_a_joint_encoder_cannot_read_counts_as_missing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(load_config(None, {"data.root": str(root), "cache": str(tmp_path)}))
    before = sum(pair.image is None for pair in workspace.dataset.pairs)

    def refuse(data: bytes, draft: int) -> None:
        raise DataError("cannot be decoded (broken)")

    monkeypatch.setattr(inputs, "open_image", refuse)
    workspace.extract([ToyEncoder(modality="joint")], workspace.dataset.pairs[:3])
    assert sum(pair.image is None for pair in workspace.dataset.pairs) == before + 3


def test_nested_tuning_makes_a_whole_ablation(root: Path, own: Path) -> None:
    assert _command("ablate", root, own, "--nested") == 0
    found = read_evidence(own / "runs" / "toy")
    assert found["nested"] is True
    assert found["arms"][0]["scores"]["rows"] == 80


def test_a_stack_goes_the_whole_way(root: Path, own: Path) -> None:
    stack = ("--set", "study.ensemble=stacking", "--heads", "concat linear")
    for name in ("tune", "train", "ablate"):
        assert _command(name, root, own, *stack) == 0
    folder = own / "runs" / "toy"
    found = read_evidence(folder)
    assert found["ensemble"] == "stacking"
    kept = json.loads((folder / "scores.json").read_text("utf-8"))
    assert found["arms"][0]["scores"]["macro_f1"] == kept["macro_f1"]
    models = [load_checkpoint(folder / name).ensemble for name in ("model", "text-only")]
    assert all(model.final_estimator is not None for model in models)
    assert _command("predict", root, own) == 0
    assert _command("predict", root, own, "--cascade") == 0


def test_a_matrix_sets_every_combination_side_by_side(
    root: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--text", "ngram", "--image", "efficientnet-lite0"]
    options += ["--heads", "stacking concat gated"]
    arguments = ["matrix", "--data", str(root), "--cache", str(own), *QUICK[2:], *options]
    assert main([*arguments, "--cost-only", "minilm"]) == 0
    rows = _rows(own / "runs" / "toy" / "matrix.csv")
    assert [row["model"] for row in rows] == [
        *("ngram, concat", "efficientnet-lite0, concat"),
        *("ngram + efficientnet-lite0, concat", "ngram + efficientnet-lite0, gated"),
        *("ngram + efficientnet-lite0, stacking", "minilm"),
    ]
    assert [row["difference"] == "" for row in rows] == [True, False, False, False, False, True]
    assert all(float(row["holm_p"]) <= 1 for row in rows[1:5])
    assert float(rows[4]["train_seconds"]) > float(rows[3]["train_seconds"])
    assert rows[5]["macro_f1"] == ""
    assert "not trained" in rows[5]["note"]
    assert (own / "runs" / "toy" / "matrix.png").is_file()
    assert "ngram + efficientnet-lite0, gated" in capsys.readouterr().out

"""The whole pipeline: the files that a run leaves, and that it can be repeated."""

from __future__ import annotations

import html
import json
import re
from dataclasses import asdict
from pathlib import Path
from shutil import copytree

import pytest

from pairfuse.cli import main
from pairfuse.commands.run_folder import EVIDENCE, read_evidence
from pairfuse.fusion.baselines import BASELINES
from pairfuse.fusion.checkpoint import load_checkpoint
from toys.checkpoints import vilt
from toys.commands import TEST_PAIRS, edit_json, read_rows, run_command


def test_a_run_leaves_every_file_it_promises(cache: Path) -> None:
    found = {path.name for path in (cache / "runs" / "toy").iterdir()}
    assert found >= {
        *("config.toml", "study.log", "best.toml", "model", "scores.json", "history.csv"),
        *("history.png", "ablation.csv", "ablation.png", "out_of_fold.csv", "predictions"),
        *("evidence.json", "text-only", "report.html", "test_labels.csv"),
        "test_probabilities.csv",
    }
    assert not [path for path in cache.rglob("*") if path.name.startswith(".writing-")]


def test_the_command_in_the_report_reproduces_the_run(cache: Path, tmp_path: Path) -> None:
    run = cache / "runs" / "toy"
    again = tmp_path / "again"
    page = html.unescape((run / "report.html").read_text("utf-8"))
    [config] = re.findall(r"pairfuse ablate --config (\S+config\.toml)", page)
    options = ["--config", config, "--cache", str(again)]
    copytree(cache / "features", again / "features")
    for command in ("tune", "train", "predict"):
        assert main([command, *options]) == 0
    for name in ("test_probabilities.csv", "scores.json", "history.csv", "best.toml"):
        assert (again / "runs" / "toy" / name).read_bytes() == (run / name).read_bytes(), name


def test_the_same_command_again_gives_the_same_bytes(root: Path, own: Path) -> None:
    run = own / "runs" / "toy"
    for path in (own / "costs").iterdir():  # a busy machine's are measured anew
        edit_json(path, lambda found: found.update(load=0.0))
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert run_command("run", root, own) == 0
    changed = {path.name for path, data in before.items() if path.read_bytes() != data}
    # The first names the cache, the second grows, the others say how long training took.
    assert changed <= {"config.toml", "study.log", "evidence.json", "report.html"}
    found = [json.loads(data) for data in (before[run / EVIDENCE], (run / EVIDENCE).read_bytes())]
    for evidence in found:
        for cost in evidence["cost"]:
            for name in ("train_seconds", "load", "measured"):
                cost.pop(name)
    assert found[0] == found[1]


def test_a_joint_encoder_goes_the_whole_way(root: Path, tmp_path: Path) -> None:
    encoders = f"ngram efficientnet-lite0 joint={vilt(tmp_path / 'vilt')}"
    views = ["--set", f"recipe.views={json.dumps(['ngram', 'efficientnet-lite0', 'vilt'])}"]
    quick = ["--encoders", encoders, "--trials", "1", *views]
    assert run_command("run", root, tmp_path, *quick) == 0
    found = read_evidence(tmp_path / "runs" / "toy")
    arms = {arm.name: arm.views for arm in found.arms}
    assert arms["fused"] == ("ngram", "efficientnet-lite0", "vilt")
    assert (arms["text-only"], arms["image-only"]) == (("ngram",), ("efficientnet-lite0",))
    assert arms["vilt"] == ("vilt",)
    assert found.emap is None
    assert len(read_rows(tmp_path / "runs" / "toy" / "test_labels.csv")) == TEST_PAIRS + 1
    assert (tmp_path / "runs" / "toy" / "report.html").is_file()


def test_a_mixture_goes_the_whole_way(root: Path, own: Path) -> None:
    for name in ("tune", "train", "ablate"):
        assert run_command(name, root, own, "--heads", "concat linear") == 0
    folder = own / "runs" / "toy"
    found = read_evidence(folder)
    assert found.design.ensemble == "mixture"
    assert sum(found.arms[0].shares.values()) == pytest.approx(1)
    names = [arm.name for arm in found.arms]
    assert names[-len(BASELINES) - 2 :] == [*BASELINES, "prior", "majority"]
    kept = json.loads((folder / "scores.json").read_text("utf-8"))
    assert asdict(found.arms[0].scores.macro_f1) == kept["macro_f1"]
    for name in ("model", "text-only"):
        assert sum(load_checkpoint(folder / name).ensemble.weights) == pytest.approx(1)
    assert run_command("predict", root, own) == 0
    assert run_command("predict", root, own, "--cascade") == 0

"""`pairfuse tune`: the metric that is searched for, and best.toml."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from toys.commands import run_command


def test_another_metric_is_searched_for_and_said(
    root: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = json.loads((own / "runs" / "toy" / "scores.json").read_text("utf-8"))
    for command in ("tune", "train"):
        assert run_command(command, root, own, "--metric", "auroc") == 0
    said = re.sub(r"\n {10}", " ", capsys.readouterr().out)  # long lines go on below
    tuned, trained = re.findall(r"(?:tune|train) .*", said)
    scores = json.loads((own / "runs" / "toy" / "scores.json").read_text("utf-8"))
    assert kept["metric"] == "macro_f1"
    assert scores["metric"] == "auroc"
    assert "best trial: AUROC 0." in tuned
    assert f", AUROC {scores['auroc']['value']:.3f} (" in trained


def test_a_metric_of_several_answers_is_refused_where_there_are_none(
    root: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("tune", root, own, "--metric", "vqa_accuracy") == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "needs several annotators' answers" in line


def test_best_toml_holds_the_score_and_recipes_over_known_encoders(cache: Path) -> None:
    text = (cache / "runs" / "toy" / "best.toml").read_text("utf-8")
    assert re.match(r"# .*macro-F1.*0\.\d+", text)
    assert "ngram" in tomllib.loads(text)["features"]["encoders"]
    assert "epochs = 5" in text

"""`pairfuse train`: the history of every model; a recipe belongs to its encoders."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairfuse.cli import main
from pairfuse.fusion.baselines import BASELINES
from toys.commands import read_rows, run_command


def test_history_has_the_rows_of_every_model(cache: Path) -> None:
    rows = read_rows(cache / "runs" / "toy" / "history.csv")
    models = {row["model"] for row in rows}
    assert len(models) % 2 == 0  # two folds, one model of each for every recipe
    for model in models:
        epochs = [int(row["epoch"]) for row in rows if row["model"] == model]
        assert epochs == list(range(1, len(epochs) + 1))
        assert len(epochs) <= 5


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


def test_an_average_fits_no_baseline(
    root: Path, own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pairfuse.study.ablation.cross_fit_baseline", None)
    assert run_command("train", root, own, "--set", "study.ensemble=average") == 0
    said = capsys.readouterr().out
    assert not any(name in said for name in BASELINES)

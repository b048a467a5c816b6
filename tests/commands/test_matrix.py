"""`pairfuse matrix`: every combination in one table."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairfuse.cli import main
from pairfuse.fusion.baselines import BASELINES
from toys.commands import QUICK, read_rows


def test_a_matrix_sets_every_combination_side_by_side(
    root: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--text", "ngram", "--image", "efficientnet-lite0"]
    options += ["--heads", "concat gated"]
    arguments = ["matrix", "--data", str(root), "--cache", str(own), *QUICK[2:], *options]
    assert main([*arguments, "--cost-only", "minilm"]) == 0
    rows = read_rows(own / "runs" / "toy" / "matrix.csv")
    assert [row["model"] for row in rows] == [
        *("ngram, concat", "efficientnet-lite0, concat"),
        *("ngram + efficientnet-lite0, concat", "ngram + efficientnet-lite0, gated"),
        *BASELINES,
        "minilm",
    ]
    compared = [row for row in rows[:-1] if row["difference"]]
    assert len(compared) == len(rows) - 2  # all but the best on texts, and what is not trained
    assert all(float(row["holm_p"]) <= 1 for row in compared)
    assert rows[-1]["macro_f1"] == ""
    assert "not trained" in rows[-1]["note"]
    assert (own / "runs" / "toy" / "matrix.png").is_file()
    assert "ngram + efficientnet-lite0, gated" in capsys.readouterr().out

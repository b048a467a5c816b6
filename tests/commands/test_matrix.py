"""`pairfuse matrix`: every combination in one table."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairfuse.cli import main
from toys.commands import QUICK, read_rows


def test_a_matrix_sets_every_combination_side_by_side(
    root: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--text", "ngram", "--image", "efficientnet-lite0"]
    options += ["--heads", "stacking concat gated"]
    arguments = ["matrix", "--data", str(root), "--cache", str(own), *QUICK[2:], *options]
    assert main([*arguments, "--cost-only", "minilm"]) == 0
    rows = read_rows(own / "runs" / "toy" / "matrix.csv")
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

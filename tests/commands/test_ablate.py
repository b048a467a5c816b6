"""`pairfuse ablate`: arms on the same rows, their predictions, the evidence."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from pairfuse.commands.run_folder import read_evidence
from pairfuse.data.demo import draw_demo
from pairfuse.fusion.baselines import BASELINES
from pairfuse.study.verdict import OUTCOMES
from toys.commands import QUICK, guids, read_rows, run_command
from toys.data import write_labels


def test_the_ablation_has_all_arms_on_the_same_rows(cache: Path) -> None:
    rows = read_rows(cache / "runs" / "toy" / "ablation.csv")
    trained = ["fused", "text-only", "image-only"]
    assert [row["arm"] for row in rows] == [*trained, *BASELINES, "prior", "majority"]
    views = {row["arm"]: row["views"] for row in rows}
    assert (views["text-only"], views["image-only"]) == ("ngram", "efficientnet-lite0")
    assert (views["linear-image"], views["prior"]) == ("efficientnet-lite0", "")
    assert {row["rows"] for row in rows} == {"80"}
    for row in rows:
        low, value, high = (float(row[f"macro_f1{end}"]) for end in ("_low", "", "_high"))
        assert low <= value <= high


def test_out_of_fold_guesses_give_the_scores_of_the_ablation(root: Path, cache: Path) -> None:
    run = cache / "runs" / "toy"
    rows = read_rows(run / "out_of_fold.csv")
    assert sorted(row["guid"] for row in rows) == sorted(guids(root, "train.txt"))
    for arm in read_rows(run / "ablation.csv"):
        right = np.mean([row["truth"] == row[arm["arm"]] for row in rows])
        assert right == pytest.approx(float(arm["accuracy"]), abs=1e-4)


def test_the_evidence_names_the_verdict_and_every_arm(cache: Path) -> None:
    found = read_evidence(cache / "runs" / "toy")
    assert found.verdict.outcome in OUTCOMES
    trained = {"fused", "text-only", "image-only", *BASELINES}
    assert found.verdict.use in trained
    assert len(found.comparisons) == 10 * 9 / 2
    assert sum(asdict(found.agreement).values()) == pytest.approx(1)
    assert list(found.missing_modality) == ["nothing", "image", "text"]
    fused = next(arm for arm in found.arms if arm.name == "fused")
    whole = found.missing_modality["nothing"].macro_f1.value
    assert whole == pytest.approx(fused.scores.macro_f1.value, abs=1e-4)
    assert {cost.name for cost in found.cost} == trained
    free = {cost.name for cost in found.cost if cost.encode_ms == 0}
    assert free == {"linear-text"}  # TF-IDF needs no encoder, and n-grams are left out beside it
    assert all(cost.encode_ms is not None for cost in found.cost)


def test_nested_tuning_makes_a_whole_ablation(root: Path, own: Path) -> None:
    assert run_command("ablate", root, own, "--nested") == 0
    found = read_evidence(own / "runs" / "toy")
    assert found.design.nested is True
    assert found.arms[0].scores.rows == 80


def test_rare_labels_that_are_kept_go_through_a_nested_ablation_and_a_prediction(
    tmp_path: Path,
) -> None:
    root, cache = tmp_path / "set", tmp_path / "cache"
    draw_demo(root, pairs=40, test_pairs=4)
    rows = [guid_tag.split(",") for guid_tag in (root / "train.txt").read_text().splitlines()]
    for at, label in ((5, "once"), (10, "twice"), (20, "twice")):
        rows[at][1] = label
    write_labels(root / "train.txt", {guid: label for guid, label, *_ in rows[1:]})
    for command in ("ablate", "train"):
        assert run_command(command, root, cache, "--rare", "keep", "--nested") == 0
    where = ["--rare", "keep", *QUICK[:2]]
    assert run_command("predict", root, cache, *where) == 0
    found = read_evidence(cache / "runs" / "set")
    assert {"once", "twice"} < set(found.labels)
    assert len(read_rows(cache / "runs" / "set" / "test_labels.csv")) == 4

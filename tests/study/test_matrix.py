"""Matrix: every combination once, rows kept as they finish, each compared with the best text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pairfuse.fusion.baselines import BASELINES
from pairfuse.fusion.fitting import ScaledRowSet, prepare_rows
from pairfuse.stats.bootstrap import draw_groups
from pairfuse.study import matrix
from pairfuse.study.cost import EncoderCost
from pairfuse.study.crossfit import FoldedTable, Table
from pairfuse.study.folds import make_folds
from pairfuse.study.matrix import (
    Model,
    ModelResult,
    baseline_results,
    matrix_rows,
    models,
    run_models,
)
from pairfuse.study.tuning import SearchSpec
from toys.fusion import PLAIN, noise, table, told_by_words

BASE = replace(PLAIN, epochs=3, n_components=8)


@pytest.fixture(scope="module")
def given() -> Table:
    return table(*told_by_words(120))


@pytest.fixture(scope="module")
def prepared(given: Table) -> list[ScaledRowSet]:
    rows = make_folds(given.targets, given.groups, given.labels, folds=2, n_models=1, seed=0)
    return prepare_rows(given.views, rows, seed=0)


def _run(
    given: Table,
    prepared: list[ScaledRowSet],
    folder: Path,
    *,
    trials: int = 1,
    heads: Sequence[str] = ("concat", "late"),
) -> list[ModelResult]:
    search = SearchSpec(base=BASE, storage=str(folder / "log"), n_trials=trials)
    chosen = models(given.views, heads)
    return list(run_models(chosen, FoldedTable(given, prepared), search, folder / "rows"))


def test_every_text_meets_every_image_by_every_head() -> None:
    views = noise(4, dims={"words": 2, "letters": 2, "look": 2})
    assert models(views, ["concat", "late"]) == [
        *(Model((view,), "concat") for view in ("words", "letters", "look")),
        *(Model((text, "look"), h) for text in ("words", "letters") for h in ("concat", "late")),
    ]


def test_a_row_uses_its_own_head_and_views(
    given: Table, prepared: list[ScaledRowSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    real = matrix.run_arm

    def watched(*args: object, **kwargs: object) -> object:
        arm = real(*args, **kwargs)  # type: ignore[arg-type]
        used.append((sorted(arm.fit.ensemble.dims), {r.head for r in arm.recipes}))
        return arm

    monkeypatch.setattr(matrix, "run_arm", watched)
    rows = _run(given, prepared, tmp_path)
    assert used == [(sorted(row.model.views), {row.model.head}) for row in rows]


def test_finished_rows_are_read_and_not_made_again(
    given: Table, prepared: list[ScaledRowSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _run(given, prepared, tmp_path)
    monkeypatch.setattr(matrix, "run_arm", None)
    after = _run(given, prepared, tmp_path)
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)
        assert (one.parameters, one.seconds) == (other.parameters, other.seconds)


@pytest.mark.parametrize("harm", ["cut", "other bytes", "no facts"])
def test_a_damaged_row_is_made_again(
    harm: str, given: Table, prepared: list[ScaledRowSet], tmp_path: Path
) -> None:
    before = _run(given, prepared, tmp_path)
    for path in (tmp_path / "rows").glob("*.npy" if harm != "no facts" else "*.json"):
        path.write_bytes(path.read_bytes()[:50] if harm == "cut" else b"no array")
    after = _run(given, prepared, tmp_path)
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)


def test_another_budget_or_label_makes_other_rows(
    given: Table, prepared: list[ScaledRowSet], tmp_path: Path
) -> None:
    _run(given, prepared, tmp_path)
    count = len(list((tmp_path / "rows").glob("*.npy")))
    _run(given, prepared, tmp_path, trials=2)
    assert len(list((tmp_path / "rows").glob("*.npy"))) == 2 * count
    turned = replace(given, targets=(given.targets + 1) % 3)
    _run(turned, prepared, tmp_path)
    assert len(list((tmp_path / "rows").glob("*.npy"))) == 3 * count


def test_every_row_but_the_best_text_is_compared_with_it(
    given: Table, prepared: list[ScaledRowSet], tmp_path: Path
) -> None:
    rows = _run(given, prepared, tmp_path)
    costs = [
        EncoderCost("words", "text", 6, "cpu", 0.001, 100.0, 10, 0.1),
        EncoderCost("look", "image", 5, "cpu", 0.002, 200.0, 20, 0.2),
    ]
    draws = draw_groups(given.groups, seed=0, resamples=200)
    lines = matrix_rows(rows, given, costs, draws, seed=0)
    found = {line.model: line for line in lines}
    text, image = Model(("words",), "concat"), Model(("look",), "concat")
    assert found[text].against is None
    gap = found[image].against
    assert gap is not None
    wanted = found[image].scores.macro_f1.value - found[text].scores.macro_f1.value
    assert gap.difference.value == pytest.approx(wanted)
    assert [line.cost.encode_ms for line in lines] == pytest.approx([1, 2, 3, 3])


def test_the_baselines_are_rows_too(given: Table, prepared: list[ScaledRowSet]) -> None:
    rows = baseline_results(FoldedTable(given, prepared), seed=0)
    assert [row.model.name for row in rows] == list(BASELINES)
    by_name = {row.model.name: row for row in rows}
    assert by_name["linear-image"].model.views == ("look",)
    assert by_name["linear-fused"].parameters > by_name["linear-text"].parameters > 0

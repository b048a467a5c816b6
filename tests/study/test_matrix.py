"""Matrix: every combination once, rows kept as they finish, each compared with the best text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusion_toys import PLAIN, noise, table, told_by_words
from pairfuse.fusion.ensemble import Prepared, prepare_rows
from pairfuse.study import matrix
from pairfuse.study.ablation import Budget
from pairfuse.study.bootstrap import draw_groups
from pairfuse.study.cost import EncoderCost
from pairfuse.study.crossfit import Table
from pairfuse.study.folds import make_folds
from pairfuse.study.matrix import Model, Row, models, run_models, table_lines

BASE = replace(PLAIN, epochs=3, reduce=8)


@pytest.fixture(scope="module")
def given() -> Table:
    return table(*told_by_words(120))


@pytest.fixture(scope="module")
def prepared(given: Table) -> list[Prepared]:
    rows = make_folds(given.targets, given.groups, given.labels, folds=2, members=1, seed=0)
    return prepare_rows(given.views, rows, seed=0)


def _run(given: Table, prepared: list[Prepared], folder: Path, *, trials: int = 1) -> list[Row]:
    budget = Budget(str(folder / "log"), trials=trials, members=1, seed=0, device="cpu")
    chosen = models(given.views, ["concat", "late"])
    return list(run_models(chosen, given, prepared, BASE, budget, folder / "rows"))


def test_every_text_meets_every_image_by_every_head() -> None:
    views = noise(4, dims={"words": 2, "letters": 2, "look": 2})
    assert models(views, ["concat", "late"]) == [
        *(Model((view,), "concat") for view in ("words", "letters", "look")),
        *(Model((text, "look"), h) for text in ("words", "letters") for h in ("concat", "late")),
    ]


def test_a_row_uses_its_own_head_and_views(
    given: Table, prepared: list[Prepared], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    given: Table, prepared: list[Prepared], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _run(given, prepared, tmp_path)
    monkeypatch.setattr(matrix, "run_arm", None)
    after = _run(given, prepared, tmp_path)
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)
        assert (one.parameters, one.seconds) == (other.parameters, other.seconds)


@pytest.mark.parametrize("harm", ["cut", "other bytes", "no facts"])
def test_a_damaged_row_is_made_again(
    harm: str, given: Table, prepared: list[Prepared], tmp_path: Path
) -> None:
    before = _run(given, prepared, tmp_path)
    for path in (tmp_path / "rows").glob("*.npy" if harm != "no facts" else "*.json"):
        path.write_bytes(path.read_bytes()[:50] if harm == "cut" else b"no array")
    after = _run(given, prepared, tmp_path)
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)


def test_another_budget_or_label_makes_other_rows(
    given: Table, prepared: list[Prepared], tmp_path: Path
) -> None:
    _run(given, prepared, tmp_path)
    count = len(list((tmp_path / "rows").glob("*.npy")))
    _run(given, prepared, tmp_path, trials=2)
    assert len(list((tmp_path / "rows").glob("*.npy"))) == 2 * count
    turned = replace(given, targets=(given.targets + 1) % 3)
    _run(turned, prepared, tmp_path)
    assert len(list((tmp_path / "rows").glob("*.npy"))) == 3 * count


def test_every_row_but_the_best_text_is_compared_with_it(
    given: Table, prepared: list[Prepared], tmp_path: Path
) -> None:
    rows = _run(given, prepared, tmp_path)
    costs = [
        EncoderCost("words", "text", 6, "cpu", 0.001, 100.0, 10, 0.1),
        EncoderCost("look", "image", 5, "cpu", 0.002, 200.0, 20, 0.2),
    ]
    draws = draw_groups(given.groups, seed=0, resamples=200)
    lines = table_lines(rows, given, costs, draws, seed=0)
    found = {line.model: line for line in lines}
    text, image = Model(("words",), "concat"), Model(("look",), "concat")
    assert found[text].against is None
    gap = found[image].against
    assert gap is not None
    wanted = found[image].scores.macro_f1.value - found[text].scores.macro_f1.value
    assert gap.difference.value == pytest.approx(wanted)
    assert [line.cost.encode_ms for line in lines] == pytest.approx([1, 2, 3, 3])

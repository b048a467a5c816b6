"""Matrix: every combination once, rows kept as they finish, each compared with the best text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from pairfuse.errors import ConfigError
from pairfuse.fusion.fitting import ScaledRowSet, prepare_rows
from pairfuse.stats.bootstrap import draw_groups
from pairfuse.study import matrix
from pairfuse.study.cost import EncoderCost
from pairfuse.study.crossfit import FoldedTable, Table
from pairfuse.study.folds import make_folds
from pairfuse.study.matrix import (
    Model,
    ModelResult,
    matrix_rows,
    models,
    order_heads,
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


STACKED = ("concat", "late", "stacking")


@pytest.fixture(scope="module")
def stacked(
    given: Table, prepared: list[ScaledRowSet], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[ModelResult], Path]:
    """Results with stacked heads among them, and where they are kept; read only."""
    folder = tmp_path_factory.mktemp("stacked")
    return _run(given, prepared, folder, heads=STACKED), folder


def _copy(folder: Path, place: Path) -> Path:
    return Path(copytree(folder, place / "copy"))


def _count_stackings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each stacking that is fitted from now on; nothing else may be."""
    made: list[object] = []
    real = matrix.fit_stacking

    def watched(*args: object, **kwargs: object) -> object:
        made.append(args)
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(matrix, "fit_stacking", watched)
    monkeypatch.setattr(matrix, "run_arm", None)
    return made


def test_heads_are_taken_once_and_stacking_last() -> None:
    assert order_heads(["stacking", "late", "concat", "late"]) == ["late", "concat", "stacking"]
    assert order_heads(["late", "concat"]) == ["late", "concat"]


@pytest.mark.parametrize(
    ("heads", "reason"),
    [
        (["concat", "stacking"], "two other heads or more, found concat; name them"),
        (["stacking"], "two other heads or more, found none"),
        (["concat", "?", "stacking"], "no head '?'"),
    ],
)
def test_stacking_fewer_than_two_heads_is_refused(heads: list[str], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        order_heads(heads)
    assert reason in str(caught.value)


def test_stacking_is_a_row_that_counts_what_it_is_made_of(
    given: Table, stacked: tuple[list[ModelResult], Path]
) -> None:
    *below, last = stacked[0]
    parts = [row for row in below if row.model.views == last.model.views]
    assert last.model == Model(("words", "look"), "stacking")
    assert [row.recipe.head for row in parts if row.recipe] == ["concat", "late"]
    assert last.parameters == sum(row.parameters for row in parts) + 6 * 3 + 3
    assert last.seconds > sum(row.seconds for row in parts)
    assert last.probabilities.shape == (1, 120, 3)
    assert np.allclose(last.probabilities.sum(axis=2), 1, atol=1e-5)


def test_a_finished_stacking_is_read_and_not_made_again(
    given: Table,
    prepared: list[ScaledRowSet],
    stacked: tuple[list[ModelResult], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, folder = stacked
    made = _count_stackings(monkeypatch)
    after = _run(given, prepared, folder, heads=STACKED)
    assert not made
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)
        assert replace(one, probabilities=other.probabilities) == other


@pytest.mark.parametrize("change", ["values", "recipe", "another part"])
def test_stacking_is_made_again_when_a_row_below_it_changes(
    change: str,
    given: Table,
    prepared: list[ScaledRowSet],
    stacked: tuple[list[ModelResult], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, folder = stacked[0], _copy(stacked[1], tmp_path)
    if change == "another part":
        _run(given, prepared, folder, heads=("concat", "late", "linear"))
    else:
        [facts] = [
            path
            for path in (folder / "rows").glob("*.json")
            if (json.loads(path.read_text("utf-8"))["recipe"] or {}).get("head") == "late"
        ]
        late = next(row for row in rows if row.model.head == "late")
        assert late.recipe is not None
        other = (
            replace(late, probabilities=late.probabilities[:, ::-1])
            if change == "values"
            else replace(late, recipe=replace(late.recipe, dropout=0.5))
        )
        matrix._write(other, facts.with_suffix(".npy"), facts)
    made = _count_stackings(monkeypatch)
    heads = ("concat", "late", "linear", "stacking") if change == "another part" else STACKED
    after = _run(given, prepared, folder, heads=heads)
    assert len(made) == 1
    assert not np.array_equal(after[-1].probabilities, rows[-1].probabilities)


def test_inner_folds_are_made_once_and_for_stacking_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = noise(60, dims={"words": 4, "letters": 3, "look": 3})
    given = table(views, np.arange(60) % 3)
    rows = make_folds(given.targets, given.groups, given.labels, folds=2, n_models=1, seed=0)
    own = prepare_rows(given.views, rows, seed=0)
    dealt = []
    real = matrix.prepare_inner

    def watched(*args: object, **kwargs: object) -> object:
        dealt.append(args)
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(matrix, "prepare_inner", watched)
    _run(given, own, tmp_path)
    assert not dealt
    found = _run(given, own, tmp_path, heads=STACKED)
    assert [row.model.name for row in found if row.model.head == "stacking"] == [
        "words + look, stacking",
        "letters + look, stacking",
    ]
    assert len(dealt) == 1


def test_a_stacking_keeps_rare_classes_where_it_is_asked_to(tmp_path: Path) -> None:
    targets = np.arange(60) % 2
    targets[:2] = 2  # a class of two pairs, fewer than there are folds inside each fold
    given = table(noise(60), targets)
    rows = make_folds(
        targets, given.groups, given.labels, folds=3, n_models=1, seed=0, keep_rare=True
    )
    data = FoldedTable(given, prepare_rows(given.views, rows, seed=0))
    search = SearchSpec(base=BASE, storage=str(tmp_path / "log"), n_trials=1)
    chosen = models(given.views, STACKED)
    found = list(run_models(chosen, data, search, tmp_path / "rows", keep_rare=True))
    assert found[-1].model.head == "stacking"
    np.testing.assert_allclose(found[-1].probabilities.sum(axis=-1), 1, atol=1e-5)

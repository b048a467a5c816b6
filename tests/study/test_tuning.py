"""Tuning: a study goes on where it was, counts trials in total, never mixes data."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from pairfuse.errors import ConfigError
from pairfuse.features.token_views import TokenRows
from pairfuse.features.views import Views
from pairfuse.fusion.fitting import ScaledRowSet, check_recipe, prepare_rows
from pairfuse.stats.metrics import macro_f1
from pairfuse.study import search_space, tuning
from pairfuse.study.crossfit import Table, cross_fit
from pairfuse.study.folds import make_folds
from pairfuse.study.search_space import (
    SEARCHED_HEADS,
    build_space,
    nearest_params,
    suggest,
    view_subsets,
)
from pairfuse.study.tuning import SearchSpec, TuningResult, tune
from toys.fusion import PLAIN, POOLED_HEADS, noise, table, told_by_words, warnings_logged

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
BASE = replace(PLAIN, hidden_dim=32, n_components=32, weight_decay=0.01, epochs=2, lr=0.005)


def _given(seed: int = 0) -> Table:
    return table(*told_by_words(90, seed=seed))


def _prepared(given: Table) -> list[ScaledRowSet]:
    rows = make_folds(given.targets, given.groups, given.labels, folds=2, n_models=1, seed=0)
    return prepare_rows(given.views, rows, seed=0)


def _tune(
    log: Path,
    trials: int,
    *,
    given: Table | None = None,
    name: str = "toy",
    on_trial: Callable[[TuningResult], object] | None = None,
    **changes: Any,
) -> TuningResult:
    given = given or _given()
    search = replace(SearchSpec(base=BASE, storage=str(log), n_trials=trials), **changes)
    return tune(given, _prepared(given), search, name=name, on_trial=on_trial)


def _storage(log: Path) -> optuna.storages.JournalStorage:
    return optuna.storages.JournalStorage(JournalFileBackend(str(log)))


def _studies(log: Path) -> list[optuna.Study]:
    storage = _storage(log)
    names = optuna.get_all_study_names(storage)
    return [optuna.load_study(study_name=name, storage=storage) for name in names]


def _values(log: Path) -> list[float | None]:
    """Values of the trials that ended well."""
    return [trial.value for trial in _studies(log)[0].trials if trial.state in ENDED]


def test_three_trials_and_three_more_equal_six_at_once(tmp_path: Path) -> None:
    at_once = _tune(tmp_path / "one.log", 6, heads=("concat",))  # two base points, four drawn
    _tune(tmp_path / "two.log", 3, heads=("concat",))
    resumed = _tune(tmp_path / "two.log", 6, heads=("concat",))
    assert resumed == at_once
    assert _values(tmp_path / "two.log") == _values(tmp_path / "one.log")


def test_a_study_killed_in_a_trial_ends_where_an_unbroken_one_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process leaves its trial RUNNING, and nobody tells Optuna."""
    log = tmp_path / "killed.log"
    for done in (0, 2):
        if done:
            _tune(log, done)
        with monkeypatch.context() as patch:
            patch.setattr(tuning, "cross_fit", _die)
            with pytest.raises(ZeroDivisionError):
                _tune(log, 6)
    with warnings_logged() as said:
        resumed = _tune(log, 6)
    assert ["was left unfinished" in line for line in said] == [True] * 4
    unbroken = _tune(tmp_path / "unbroken.log", 6)
    assert resumed == replace(unbroken, failed=6 + 4)
    assert sorted(_values(log)) == sorted(_values(tmp_path / "unbroken.log"))


def test_a_killed_study_of_fewer_trials_than_heads_tries_what_an_unbroken_one_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "cross_fit", _die)
        with pytest.raises(ZeroDivisionError):
            _tune(tmp_path / "killed.log", 2)
    resumed = _tune(tmp_path / "killed.log", 2)
    unbroken = _tune(tmp_path / "unbroken.log", 2)
    assert _tried(tmp_path / "killed.log") == _tried(tmp_path / "unbroken.log")
    assert resumed.recipes == unbroken.recipes


def test_a_trial_that_was_killed_half_drawn_is_tried_again_as_it_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, "suggest_float", _die)
        with pytest.raises(ZeroDivisionError):
            _tune(tmp_path / "killed.log", 1)
    resumed = _tune(tmp_path / "killed.log", 1)
    assert resumed.recipes == _tune(tmp_path / "unbroken.log", 1).recipes


def _die(*_: object, **__: object) -> None:
    raise ZeroDivisionError


def test_an_interrupted_trial_is_marked_failed(tmp_path: Path) -> None:
    _tune(tmp_path / "study.log", 1)
    [study] = _studies(tmp_path / "study.log")
    study.ask()
    assert _tune(tmp_path / "study.log", 1).failed == 1
    states = {trial.state for trial in _studies(tmp_path / "study.log")[0].trials}
    assert TrialState.RUNNING not in states


def test_trials_are_counted_in_total(tmp_path: Path) -> None:
    first = _tune(tmp_path / "study.log", 2)
    assert _tune(tmp_path / "study.log", 2) == first
    assert _tune(tmp_path / "study.log", 1) == first
    assert len(_values(tmp_path / "study.log")) == 2


def test_anything_else_in_the_same_journal_is_another_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others: dict[str, dict[str, Any]] = {
        "features": {"given": _given(seed=1)},
        "labels": {"given": replace(_given(), labels=("x", "y", "z"))},
        "base": {"base": replace(BASE, epochs=3)},
        "seed": {"seed": 1},
        "name": {"name": "text-only"},
        "metric": {"given": replace(_given(), metric="auroc")},
        "heads": {"heads": ("film",)},
    }
    _tune(tmp_path / "study.log", 2)
    for what, changes in others.items():
        assert _tune(tmp_path / "study.log", 1, **changes).finished == 1, what
    sizes = {"hidden_dim": (16, 32), "n_components": (16, 32)}
    for module in (search_space, tuning):
        monkeypatch.setattr(module, "SIZES", sizes)
    assert _tune(tmp_path / "study.log", 1).finished == 1
    studies = _studies(tmp_path / "study.log")
    assert sorted(len(s.get_trials(states=ENDED)) for s in studies) == [1] * 8 + [2]


def test_the_base_is_tried_first_and_the_best_is_never_worse(tmp_path: Path) -> None:
    base = _tune(tmp_path / "study.log", 1)
    wanted = replace(BASE, views=("look", "words"), balance_strength=0.0)
    assert base.recipes[0] == wanted
    assert _tune(tmp_path / "study.log", 5).value >= base.value


def test_the_value_is_that_of_the_recipe_on_the_held_out_rows(tmp_path: Path) -> None:
    best, given = _tune(tmp_path / "study.log", 4), _given()
    parts = _prepared(given)
    [fit] = cross_fit(given, parts, best.recipes[:1], seed=0)
    held = [part.rows.held_out for part in parts]
    scores = [macro_f1(given.targets[rows], fit.y_pred[rows], 3) for rows in held]
    assert best.value == pytest.approx(np.mean(scores), abs=1e-9)


OUTSIDE: list[dict[str, Any]] = [
    {"hidden_dim": 48},
    {"n_components": 7},
    {"views": ("words",)},
    {"lr": 0.5},
    {"weight_decay": 0.0},
    {"dropout": 0.9},
    {"label_smoothing": 0.5},
    {"balance": "smote", "balance_strength": 0.2},
]


@pytest.mark.parametrize("changes", OUTSIDE, ids=str)
def test_a_base_outside_the_search_space_is_tried_as_near_as_can_be(
    changes: dict[str, Any],
) -> None:
    base = replace(BASE, **changes)
    space = build_space(_given().views, base, SEARCHED_HEADS)
    recipe = suggest(optuna.trial.FixedTrial(nearest_params(base, space)), space)
    for name in changes.keys() & {
        "hidden_dim",
        "n_components",
        "views",
        "balance",
        "balance_strength",
    }:
        assert getattr(recipe, name) == changes[name]
    assert recipe.lr == (0.01 if "lr" in changes else 0.005)
    assert recipe.epochs == BASE.epochs


@pytest.mark.parametrize(
    ("changes", "message"), [({"head": "x"}, "no head"), ({"views": ("x",)}, "view 'x'")]
)
def test_a_base_that_fits_nothing_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        _tune(tmp_path / "study.log", 1, base=replace(BASE, **changes))
    assert not (tmp_path / "study.log").exists()


def test_the_best_so_far_is_handed_out_after_each_trial(tmp_path: Path) -> None:
    kept: list[TuningResult] = []
    best = _tune(tmp_path / "study.log", 4, on_trial=kept.append)
    values = [found.value for found in kept]
    assert values == sorted(values)
    assert kept[-1].recipes == best.recipes
    assert [found.finished for found in kept] == list(range(1, len(kept) + 1))


def test_a_broken_trial_keeps_its_error_and_the_study_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "cross_fit", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            _tune(tmp_path / "study.log", 2)
    assert _tune(tmp_path / "study.log", 2).finished == 2


def test_a_hopeless_trial_is_pruned_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: trial.number == 1)
    found = _tune(tmp_path / "study.log", 3, base=replace(BASE, epochs=4))
    assert (found.finished, found.pruned, found.failed) == (2, 1, 0)


STORAGES = {
    "a folder": lambda folder: folder,
    "no journal": lambda folder: _written(folder / "study.log", "no journal\n"),
    "no such database": lambda folder: "sqlite:////no/such/folder/x.db",
    "no such kind": lambda folder: "nonsense://host/x",
}


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("kind", list(STORAGES))
def test_a_storage_that_cannot_be_opened_is_an_error_in_one_line(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened") as caught:
        _tune(STORAGES[kind](tmp_path), 1)
    assert "\n" not in str(caught.value)


MIXES = [
    ({"t": "text"}, [("t",)]),
    ({"t": "text", "i": "image"}, [("i", "t")]),
    (
        {"t": "text", "u": "text", "i": "image"},
        [("i", "t", "u"), ("i", "t"), ("i", "u")],
    ),
    ({"b": "text", "a": "text"}, [("a", "b"), ("a",), ("b",)]),
    ({"t": "text", "j": "joint"}, [("j", "t"), ("j",)]),
    (
        {"t": "text", "i": "image", "j": "joint"},
        [("i", "j", "t"), ("i", "j"), ("i", "t"), ("j", "t"), ("j",)],
    ),
]


@pytest.mark.parametrize(("modality", "wanted"), MIXES)
def test_a_subset_has_every_modality_that_there_is(modality: Any, wanted: object) -> None:
    drawn = noise(2, dims=dict.fromkeys(modality, 2))
    assert view_subsets(Views(drawn.features, drawn.present, modality)) == wanted


def test_subsets_of_many_views_are_bounded() -> None:
    many = {f"view-{number}": 2 for number in range(9)}
    assert len(view_subsets(noise(2, dims=many))) == 15


def _tried(log: Path) -> list[str]:
    return [trial.params["head"] for trial in _studies(log)[0].trials if trial.state in ENDED]


def test_each_head_that_is_named_is_tried_first_and_no_other_is(tmp_path: Path) -> None:
    heads = ("film", "deepset")
    _tune(tmp_path / "study.log", 6, heads=heads, base=replace(BASE, head="linear"))
    tried = _tried(tmp_path / "study.log")
    assert tried[:3] == ["linear", *heads]
    assert set(tried) <= {"linear", *heads}


@pytest.mark.parametrize(
    ("head", "message"), [("big", "no head 'big'"), ("cross_attention", "choose bilinear")]
)
def test_a_head_that_cannot_be_searched_is_refused(head: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        _tune(tmp_path / "study.log", 2, heads=("concat", head))
    with pytest.raises(ConfigError, match=message):
        _tune(tmp_path / "study.log", 2, base=replace(BASE, head=head))


def test_every_head_can_be_searched(tmp_path: Path) -> None:
    _tune(tmp_path / "study.log", len(POOLED_HEADS), heads=tuple(POOLED_HEADS))
    assert set(_tried(tmp_path / "study.log")) == set(POOLED_HEADS)
    assert set(SEARCHED_HEADS) <= set(POOLED_HEADS)


def test_a_search_with_a_token_head_draws_only_what_it_can_read() -> None:
    given, none = noise(20), np.zeros(20, dtype=np.int64)
    tokens = {"words": TokenRows((), none - 1, none, none, 4)}
    base = replace(PLAIN, head="cross_attention", views=("words",))
    views = replace(given, tokens=tokens)
    space = build_space(views, base, ("concat",))
    assert space.subsets == (("words",),)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [suggest(study.ask(), space) for _ in range(40)]
    for recipe in drawn:
        check_recipe(recipe, views)
    assert {recipe.head for recipe in drawn} == {"concat", "cross_attention"}
    assert "smote" in {recipe.balance for recipe in drawn}


def test_a_study_has_one_leader_at_a_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, second = tmp_path / "study.log", []

    def begin_another(_: TuningResult) -> None:
        if not second:
            second.append(pool.submit(_tune, log, 3))
            time.sleep(0.5)  # enough to mark the living trials as left over

    with ThreadPoolExecutor(1) as pool:
        first = _tune(log, 3, on_trial=begin_another)
        assert second[0].result() == first
    assert first.failed == 0
    assert "waits for another search" in capsys.readouterr().err


@pytest.mark.parametrize("epochs", [2, 5])
def test_trials_that_a_search_on_another_machine_marks_failed_are_made_up_for(
    epochs: int, tmp_path: Path
) -> None:
    storage, marked = f"sqlite:///{tmp_path}/studies.db", []

    def mark(_: TuningResult) -> None:
        if not marked:
            marked.append(True)
            tuning._fail_interrupted_trials(optuna.load_study(study_name=None, storage=storage))

    given, base = _given(), replace(BASE, epochs=epochs)
    search = SearchSpec(base=base, storage=storage, n_trials=3)
    found = tune(given, _prepared(given), search, name="toy", on_trial=mark)
    assert (found.finished, found.failed) == (3, 2)

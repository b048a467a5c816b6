"""Ablation: an arm sees its own views only; all arms are judged on the same rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pairfuse.errors import ConfigError
from pairfuse.features.views import Views
from pairfuse.fusion.baselines import BASELINES
from pairfuse.fusion.fitting import ScaledRowSet, prepare_rows
from pairfuse.stats.metrics import macro_f1
from pairfuse.study import ablation
from pairfuse.study.ablation import (
    Arm,
    KnownFits,
    arm_views,
    baseline_arms,
    baseline_candidates,
    dummies,
    run_arm,
)
from pairfuse.study.crossfit import FoldedTable, Table
from pairfuse.study.folds import make_folds
from pairfuse.study.tuning import SearchSpec
from toys.fusion import PLAIN, noise, table, told_by_words

BASE = replace(PLAIN, hidden_dim=32, n_components=32, weight_decay=0.01, epochs=12)
ARMS = {"fused": ["words", "look"], "text-only": ["words"], "image-only": ["look"]}


def _prepared(given: Table) -> list[ScaledRowSet]:
    rows = make_folds(
        given.targets, given.groups, given.labels, folds=2, repeats=2, n_models=2, seed=0
    )
    return prepare_rows(given.views, rows, seed=0)


def _run(given: Table, name: str, storage: Path) -> Arm:
    search = SearchSpec(base=BASE, storage=str(storage), n_trials=1)
    data = FoldedTable(given, _prepared(given)).only(arm_views(given)[name])
    return run_arm(name, data, search)


@pytest.fixture(scope="module")
def given() -> Table:
    return table(*told_by_words(150))


@pytest.fixture(scope="module")
def arms(given: Table, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Arm]:
    log = tmp_path_factory.mktemp("study") / "study.log"
    return {name: _run(given, name, log) for name in ARMS}


def test_there_is_an_arm_for_both_modalities_and_for_each(given: Table) -> None:
    assert arm_views(given) == ARMS


def test_a_modality_of_two_views_has_an_arm_for_each_of_them() -> None:
    views = noise(4, dims={"words": 2, "letters": 2, "look": 2})
    given = table(views, np.array([0, 1, 0, 1]))
    assert list(arm_views(given)) == ["fused", "text-only", "image-only", "words", "letters"]


def test_a_joint_view_is_in_the_fused_arm_and_in_its_own() -> None:
    drawn = noise(4, dims={"words": 2, "look": 2, "both": 2})
    views = Views(drawn.features, drawn.present, {**drawn.modality, "both": "joint"})
    given = table(views, np.array([0, 1, 0, 1]))
    alone = {"text-only": ["words"], "image-only": ["look"], "both": ["both"]}
    assert arm_views(given) == {"fused": ["words", "look", "both"], **alone}


@pytest.mark.parametrize(("view", "lacking"), [("words", "image"), ("look", "text")])
def test_one_modality_alone_cannot_be_ablated(given: Table, view: str, lacking: str) -> None:
    alone = replace(given, views=given.views.only([view]))
    with pytest.raises(ConfigError, match=f"no {lacking} encoder among {view}"):
        arm_views(alone)


def test_an_arm_uses_its_own_views(arms: dict[str, Arm]) -> None:
    for arm in arms.values():
        assert arm.fit is not None
        assert {tuple(sorted(r.views)) for r in arm.recipes} == {tuple(sorted(ARMS[arm.name]))}
        assert sorted(arm.fit.ensemble.dims) == sorted(ARMS[arm.name])
        assert len(arm.fit.ensemble.members) == 2 * 2 * 2


@pytest.mark.parametrize("name", ["text-only", "image-only"])
def test_an_arm_does_not_depend_on_the_views_of_others(
    name: str, given: Table, arms: dict[str, Arm], tmp_path: Path
) -> None:
    hidden = "look" if name == "text-only" else "words"
    features = {**given.views.features, hidden: -7 * given.views.features[hidden]}
    spoilt = replace(given, views=Views(features, given.views.present, given.views.modality))
    after = _run(spoilt, name, tmp_path / "study.log")
    assert np.array_equal(arms[name].probabilities, after.probabilities)


def test_a_mixture_takes_the_baseline_that_sees_what_the_heads_do_not(
    given: Table, arms: dict[str, Arm], tmp_path: Path
) -> None:
    search = SearchSpec(base=BASE, storage=str(tmp_path / "log"), n_trials=1)
    data = FoldedTable(given, _prepared(given)).only(["look"])
    assert arms["text-only"].fit is not None
    told = {"told": arms["text-only"].fit}
    mixed = run_arm("image-only", data, search, candidates=told)
    assert mixed.shares["told"] > 0.9
    y_pred = mixed.probabilities.mean(axis=0).argmax(axis=1)
    assert macro_f1(given.targets, y_pred, 3) > 0.8


def test_baselines_are_arms_on_the_same_folds(given: Table) -> None:
    found = {arm.name: arm for arm in baseline_arms(FoldedTable(given, _prepared(given)), seed=0)}
    assert list(found) == list(BASELINES)
    assert set(found["linear-text"].views) == {"words"}
    assert set(found["linear-image"].views) == {"look"}
    assert found["linear-fused"].probabilities.shape == (2, 150, 3)
    f1 = {
        name: macro_f1(given.targets, arm.probabilities.mean(axis=0).argmax(axis=1), 3)
        for name, arm in found.items()
    }
    assert min(f1["linear-text"], f1["linear-fused"]) > 0.8  # words tell the label
    assert f1["linear-image"] < 0.5


def test_an_arm_mixes_baselines_that_read_what_it_reads_alone(given: Table) -> None:
    data = FoldedTable(given, _prepared(given))
    plain = baseline_arms(data, seed=0)
    for name in ("text-only", "image-only"):
        found = baseline_candidates(name, data, plain, seed=0)
        assert {view for fit in found.values() for view in fit.ensemble.dims} == set(ARMS[name])
    assert list(baseline_candidates("fused", data, plain, seed=0)) == list(BASELINES)


def test_the_arm_that_sees_the_telling_view_wins(given: Table, arms: dict[str, Arm]) -> None:
    scores = {
        name: macro_f1(given.targets, arm.probabilities.mean(axis=0).argmax(axis=1), 3)
        for name, arm in arms.items()
    }
    assert scores["text-only"] > scores["image-only"] + 0.2
    assert scores["fused"] > scores["image-only"] + 0.2


def test_a_fit_that_is_known_is_not_made_again(
    given: Table, arms: dict[str, Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = arms["text-only"]
    assert text.fit is not None
    monkeypatch.setattr(ablation, "fit_recipes", None)
    known = KnownFits(text.recipes, {"concat": text.fit}, ())
    data = FoldedTable(given, _prepared(given)).only(["words"])
    search = SearchSpec(base=BASE, storage=str(tmp_path / "log"), n_trials=1)
    again = run_arm("text-only", data, search, known=known)
    assert np.allclose(again.probabilities, text.probabilities, atol=1e-6)


def test_every_row_has_a_probability_in_every_repeat(given: Table, arms: dict[str, Arm]) -> None:
    for arm in arms.values():
        assert arm.probabilities.shape == (2, len(given.targets), 3)
        assert np.allclose(arm.probabilities.sum(axis=2), 1, atol=1e-5)
        assert not np.allclose(arm.probabilities[0], arm.probabilities[1])


def test_the_prior_of_a_row_is_that_of_rows_outside_its_fold(given: Table) -> None:
    prepared = _prepared(given)
    prior, majority = dummies(given, prepared)
    rows = prepared[0].rows
    outside = np.setdiff1d(np.arange(len(given.targets)), rows.held_out)
    wanted = np.bincount(given.targets[outside], minlength=3) / len(outside)
    assert np.allclose(prior.probabilities[0, rows.held_out], wanted)
    assert (majority.probabilities[0, rows.held_out].argmax(axis=1) == wanted.argmax()).all()
    assert set(np.unique(majority.probabilities)) == {0.0, 1.0}

"""Ablation: an arm sees its own views only; all arms are judged on the same rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pairfuse.errors import ConfigError
from pairfuse.features.views import Views
from pairfuse.fusion.ensemble import Prepared, prepare_rows
from pairfuse.stats.metrics import macro_f1
from pairfuse.study import ablation
from pairfuse.study.ablation import Arm, arm_views, baselines, run_arm
from pairfuse.study.crossfit import FoldedTable, Table
from pairfuse.study.folds import make_folds
from pairfuse.study.nested import prepare_inner
from pairfuse.study.tuning import SearchSpec
from toys.fusion import PLAIN, noise, table, told_by_words

BASE = replace(PLAIN, hidden_dim=32, n_components=32, weight_decay=0.01, epochs=12)
ARMS = {"fused": ["words", "look"], "text-only": ["words"], "image-only": ["look"]}


def _prepared(given: Table) -> list[Prepared]:
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


def test_stacked_arms_differ_from_averaged_ones_in_the_vote_alone(
    given: Table, tmp_path: Path
) -> None:
    prepared = _prepared(given)
    inner = prepare_inner(given, prepared, seed=0)
    data = FoldedTable(given, prepared, inner).only(["words"])
    search = SearchSpec(
        base=replace(BASE, epochs=2),
        storage=str(tmp_path / "log"),
        n_trials=2,
        heads=("concat", "linear"),
    )
    mean, stacked = (
        run_arm("text-only", data, search, stacking=stacking) for stacking in (False, True)
    )
    assert mean.fit is not None
    assert stacked.fit is not None
    assert stacked.recipes == mean.recipes
    assert len(stacked.recipes) == 2
    assert len(stacked.fit.final_estimators) == 2 * 2
    assert stacked.fit.ensemble.final_estimator is not None
    assert stacked.fit.ensemble.final_estimator.weights.shape == (2 * 3, 3)
    assert mean.fit.ensemble.final_estimator is None
    one, other = (arm.fit.ensemble.members[3] for arm in (mean, stacked))
    assert np.array_equal(one.predict_proba(given.views), other.predict_proba(given.views))
    assert not np.allclose(mean.probabilities, stacked.probabilities, atol=1e-3)


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
    data = FoldedTable(given, _prepared(given)).only(["words"])
    search = SearchSpec(base=BASE, storage=str(tmp_path / "log"), n_trials=1)
    again = run_arm("text-only", data, search, known={text.recipes: text.fit})
    assert again.fit is text.fit


def test_every_row_has_a_probability_in_every_repeat(given: Table, arms: dict[str, Arm]) -> None:
    for arm in arms.values():
        assert arm.probabilities.shape == (2, len(given.targets), 3)
        assert np.allclose(arm.probabilities.sum(axis=2), 1, atol=1e-5)
        assert not np.allclose(arm.probabilities[0], arm.probabilities[1])


def test_the_prior_of_a_row_is_that_of_rows_outside_its_fold(given: Table) -> None:
    prepared = _prepared(given)
    prior, majority = baselines(given, prepared)
    rows = prepared[0].rows
    outside = np.setdiff1d(np.arange(len(given.targets)), rows.held)
    wanted = np.bincount(given.targets[outside], minlength=3) / len(outside)
    assert np.allclose(prior.probabilities[0, rows.held], wanted)
    assert (majority.probabilities[0, rows.held].argmax(axis=1) == wanted.argmax()).all()
    assert set(np.unique(majority.probabilities)) == {0.0, 1.0}

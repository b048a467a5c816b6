"""Ablation: an arm sees its own views only; arms are compared on the same rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusion_toys import PLAIN, table, told_by_words
from pairfuse.errors import ConfigError
from pairfuse.features.table import Views
from pairfuse.fusion.ensemble import Prepared, prepare_rows
from pairfuse.study.ablation import Arm, arm_views, compare_arms, only_views, run_arm
from pairfuse.study.crossfit import Table
from pairfuse.study.folds import make_folds
from pairfuse.study.metrics import macro_f1

BASE = replace(PLAIN, width=32, reduce=32, weight_decay=0.01, epochs=12)
ARMS = {"text-only": ["words"], "image-only": ["look"], "fused": ["words", "look"]}


def _prepared(given: Table) -> list[Prepared]:
    rows = make_folds(given.targets, given.groups, given.labels, folds=2, members=2, seed=0)
    return prepare_rows(given.views, rows, seed=0)


def _run(given: Table, name: str, storage: Path) -> Arm:
    part, prepared = only_views(given, _prepared(given), arm_views(given)[name])
    return run_arm(
        *(name, part, prepared, BASE),
        storage=str(storage),
        trials=1,
        members=2,
        seed=0,
        device="cpu",
        known={},
    )


@pytest.fixture(scope="module")
def given() -> Table:
    return table(*told_by_words(150))


@pytest.fixture(scope="module")
def arms(given: Table, tmp_path_factory: pytest.TempPathFactory) -> list[Arm]:
    log = tmp_path_factory.mktemp("study") / "study.log"
    return [_run(given, name, log) for name in ARMS]


def test_there_is_an_arm_for_each_modality_and_one_for_both(given: Table) -> None:
    assert arm_views(given) == ARMS


@pytest.mark.parametrize(("view", "lacking"), [("words", "image"), ("look", "text")])
def test_one_modality_alone_cannot_be_ablated(given: Table, view: str, lacking: str) -> None:
    alone = replace(given, views=given.views.only([view]))
    with pytest.raises(ConfigError, match=f"no {lacking} encoder among {view}"):
        arm_views(alone)


def test_an_arm_uses_its_own_views(arms: list[Arm]) -> None:
    for arm in arms:
        assert {tuple(sorted(r.views)) for r in arm.recipes} == {tuple(sorted(ARMS[arm.name]))}
        assert sorted(arm.fit.ensemble.dims) == sorted(ARMS[arm.name])
        assert len(arm.fit.ensemble.members) == 4


@pytest.mark.parametrize("name", ["text-only", "image-only"])
def test_an_arm_does_not_depend_on_the_views_of_others(
    name: str, given: Table, arms: list[Arm], tmp_path: Path
) -> None:
    hidden = "look" if name == "text-only" else "words"
    features = {**given.views.features, hidden: -7 * given.views.features[hidden]}
    spoilt = replace(given, views=Views(features, given.views.present, given.views.modality))
    before = next(arm for arm in arms if arm.name == name)
    after = _run(spoilt, name, tmp_path / "study.log")
    assert np.array_equal(before.fit.probabilities, after.fit.probabilities)


def test_the_arm_that_sees_the_telling_view_wins(arms: list[Arm]) -> None:
    text, image, fused = (arm.scores.macro_f1 for arm in arms)
    assert text > image + 0.2
    assert fused > image + 0.2


def test_scores_of_an_arm_are_those_of_its_out_of_fold_guesses(
    given: Table, arms: list[Arm]
) -> None:
    for arm in arms:
        assert arm.scores.rows == len(given.targets)
        assert arm.scores.macro_f1 == pytest.approx(macro_f1(given.targets, arm.fit.guesses, 3))


def test_the_fused_arm_is_compared_with_each_other_one(given: Table, arms: list[Arm]) -> None:
    found = compare_arms(arms, given, seed=0)
    assert [difference.other for difference in found] == ["text-only", "image-only"]
    for difference, arm in zip(found, arms, strict=False):
        wanted = arms[-1].scores.macro_f1 - arm.scores.macro_f1
        assert difference.value == pytest.approx(wanted)
        low, high = difference.interval
        assert low < difference.value < high
    assert found[1].interval[0] > 0


def test_an_arm_does_not_differ_from_itself(given: Table, arms: list[Arm]) -> None:
    [found] = compare_arms([arms[0], arms[0]], given, seed=0)
    assert (found.value, found.interval) == (0.0, (0.0, 0.0))

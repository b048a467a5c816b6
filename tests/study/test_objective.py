"""Objective: each metric is what its publishers compute, of the rows that are named alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from pairfuse.arrays import Floats
from pairfuse.config import METRIC_NAMES
from pairfuse.data.pairs import Pair
from pairfuse.data.readers.vqa_accuracy import vqa_accuracy
from pairfuse.data.soft_labels import soft_labels_of
from pairfuse.fusion.ensemble import Ensemble
from pairfuse.fusion.fitting import prepare_rows
from pairfuse.recipe import Recipe
from pairfuse.stats.bootstrap import draw_groups
from pairfuse.stats.metrics import score
from pairfuse.study.crossfit import CrossFit, Table
from pairfuse.study.folds import make_folds
from pairfuse.study.objective import objective, official
from pairfuse.study.tuning import SEARCHED, Space, study_mark
from toys.fusion import noise, table

ROWS = 60


def _given(metric: str, classes: int = 3) -> tuple[Table, Floats]:
    random = np.random.default_rng(0)
    targets = np.arange(ROWS, dtype=np.int64) % classes
    chances = random.dirichlet(np.ones(classes), size=ROWS).astype(np.float32)
    return replace(table(noise(ROWS), targets), metric=metric), chances


def _fit(chances: Floats) -> CrossFit:
    empty = Ensemble((), (), np.zeros(0, np.float32), {}, {})
    return CrossFit(empty, chances[None])


def _theirs(metric: str, targets: NDArray[np.int64], chances: Floats) -> float:
    y_pred = chances.argmax(axis=1)
    if metric == "auroc" and chances.shape[1] == 2:
        return float(roc_auc_score(targets, chances[:, 1]))
    if metric == "auroc":
        exact = chances.astype(np.float64)
        exact /= exact.sum(axis=1, keepdims=True)
        return float(roc_auc_score(targets, exact, multi_class="ovr"))
    if metric == "accuracy":
        return float(accuracy_score(targets, y_pred))
    return float(f1_score(targets, y_pred, average="macro"))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("metric", ["macro_f1", "accuracy", "auroc"])
def test_a_metric_is_that_of_scikit_learn(metric: str, classes: int) -> None:
    given, chances = _given(metric, classes)
    rows = np.arange(0, ROWS - 7)
    wanted = _theirs(metric, given.targets[rows], chances[rows])
    assert objective(given, rows, _fit(chances)) == pytest.approx(wanted, abs=1e-6)


def _answered() -> tuple[Table, Floats, dict[str, tuple[str, ...]]]:
    given, chances = _given("vqa_accuracy")
    random = np.random.default_rng(1)
    said = ["yes", "No", "the yes", "a no", "two", "perhaps"]
    answers = {guid: tuple(random.choice(said, size=10).tolist()) for guid in given.guids}
    answers[given.guids[0]] = ("yes",) * 10
    pairs = [Pair(guid, "", None, None, "train") for guid in given.guids]
    labels = ("yes", "no", "2")
    credit = soft_labels_of(pairs, labels, answers)
    return replace(given, labels=labels, answers=credit), chances, answers


def test_vqa_accuracy_is_the_official_one_of_these_rows() -> None:
    given, chances, answers = _answered()
    rows = np.arange(0, ROWS, 2)
    y_pred = {given.guids[r]: given.labels[chances[r].argmax()] for r in rows}
    wanted = vqa_accuracy(y_pred, {given.guids[r]: answers[given.guids[r]] for r in rows})
    assert objective(given, rows, _fit(chances)) == pytest.approx(wanted, abs=1e-6)
    assert 0 < wanted < 1


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_what_training_says_is_the_metric_of_all_rows_with_an_interval(metric: str) -> None:
    given, chances, _ = _answered()
    given = replace(given, metric=metric)
    draws = draw_groups(given.groups, seed=0, resamples=200)
    scores = score(given.targets, chances[None], given.labels, draws)
    found = official(given, chances[None], scores, draws)
    every = np.arange(ROWS)
    assert found.value == pytest.approx(objective(given, every, _fit(chances)), abs=1e-6)
    assert found.low < found.value < found.high


def test_rows_of_a_table_keep_their_metric_and_answers() -> None:
    given, chances, _ = _answered()
    some = np.array([5, 3, 8])
    part = given.rows(some)
    alone = objective(part, np.arange(3), _fit(chances[some]))
    assert alone == objective(given, some, _fit(chances))


def _mark(given: Table) -> str:
    rows = make_folds(given.targets, given.groups, given.labels, folds=2, members=1, seed=0)
    space = Space.of(given.views, Recipe(), SEARCHED)
    return study_mark(given, prepare_rows(given.views, rows, seed=0), space, 0)


def test_a_study_is_known_by_its_metric_and_the_answers_behind_it() -> None:
    given, _, _ = _answered()
    assert given.answers is not None
    other = replace(given.answers, right=given.answers.right / 2)
    tables = [replace(given, metric=metric) for metric in METRIC_NAMES]
    marks = {_mark(each) for each in [*tables, replace(given, answers=other)]}
    assert len(marks) == len(METRIC_NAMES) + 1

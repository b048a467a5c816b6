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
from pairfuse.study.objective import objective, objective_estimate
from pairfuse.study.search_space import SEARCHED_HEADS, build_space
from pairfuse.study.tuning import study_fingerprint
from toys.fusion import noise, table

ROWS = 60


def _given(metric: str, classes: int = 3) -> tuple[Table, Floats]:
    random = np.random.default_rng(0)
    targets = np.arange(ROWS, dtype=np.int64) % classes
    probabilities = random.dirichlet(np.ones(classes), size=ROWS).astype(np.float32)
    return replace(table(noise(ROWS), targets), metric=metric), probabilities


def _fit(probabilities: Floats) -> CrossFit:
    empty = Ensemble((), (), (), np.zeros(0, np.float32), {}, {})
    return CrossFit(empty, (), probabilities[None])


def _theirs(metric: str, targets: NDArray[np.int64], probabilities: Floats) -> float:
    y_pred = probabilities.argmax(axis=1)
    if metric == "auroc" and probabilities.shape[1] == 2:
        return float(roc_auc_score(targets, probabilities[:, 1]))
    if metric == "auroc":
        exact = probabilities.astype(np.float64)
        exact /= exact.sum(axis=1, keepdims=True)
        return float(roc_auc_score(targets, exact, multi_class="ovr"))
    if metric == "accuracy":
        return float(accuracy_score(targets, y_pred))
    return float(f1_score(targets, y_pred, average="macro"))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("metric", ["macro_f1", "accuracy", "auroc"])
def test_a_metric_is_that_of_scikit_learn(metric: str, classes: int) -> None:
    given, probabilities = _given(metric, classes)
    rows = np.arange(0, ROWS - 7)
    wanted = _theirs(metric, given.targets[rows], probabilities[rows])
    assert objective(given, rows, _fit(probabilities)) == pytest.approx(wanted, abs=1e-6)


def _answered() -> tuple[Table, Floats, dict[str, tuple[str, ...]]]:
    given, probabilities = _given("vqa_accuracy")
    random = np.random.default_rng(1)
    said = ["yes", "No", "the yes", "a no", "two", "perhaps"]
    answers = {guid: tuple(random.choice(said, size=10).tolist()) for guid in given.guids}
    answers[given.guids[0]] = ("yes",) * 10
    pairs = [Pair(guid, "", None, None, "train") for guid in given.guids]
    labels = ("yes", "no", "2")
    soft_labels = soft_labels_of(pairs, labels, answers)
    return replace(given, labels=labels, soft_labels=soft_labels), probabilities, answers


def test_vqa_accuracy_is_the_official_one_of_these_rows() -> None:
    given, probabilities, answers = _answered()
    rows = np.arange(0, ROWS, 2)
    y_pred = {given.guids[r]: given.labels[probabilities[r].argmax()] for r in rows}
    wanted = vqa_accuracy(y_pred, {given.guids[r]: answers[given.guids[r]] for r in rows})
    assert objective(given, rows, _fit(probabilities)) == pytest.approx(wanted, abs=1e-6)
    assert 0 < wanted < 1


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_what_training_says_is_the_metric_of_all_rows_with_an_interval(metric: str) -> None:
    given, probabilities, _ = _answered()
    given = replace(given, metric=metric)
    draws = draw_groups(given.groups, seed=0, resamples=200)
    scores = score(given.targets, probabilities[None], given.labels, draws)
    found = objective_estimate(given, probabilities[None], scores, draws)
    every = np.arange(ROWS)
    assert found.value == pytest.approx(objective(given, every, _fit(probabilities)), abs=1e-6)
    assert found.low < found.value < found.high


def test_rows_of_a_table_keep_their_metric_and_answers() -> None:
    given, probabilities, _ = _answered()
    some = np.array([5, 3, 8])
    part = given.rows(some)
    alone = objective(part, np.arange(3), _fit(probabilities[some]))
    assert alone == objective(given, some, _fit(probabilities))


def _fingerprint(given: Table) -> str:
    rows = make_folds(given.targets, given.groups, given.labels, folds=2, n_models=1, seed=0)
    space = build_space(given.views, Recipe(), SEARCHED_HEADS)
    return study_fingerprint(given, prepare_rows(given.views, rows, seed=0), space, 0)


def test_a_study_is_known_by_its_metric_and_the_soft_labels_behind_it() -> None:
    given, _, _ = _answered()
    assert given.soft_labels is not None
    other = replace(given.soft_labels, accuracy=given.soft_labels.accuracy / 2)
    tables = [replace(given, metric=metric) for metric in METRIC_NAMES]
    found = {_fingerprint(each) for each in [*tables, replace(given, soft_labels=other)]}
    assert len(found) == len(METRIC_NAMES) + 1

"""Nested tuning: what is held out of a fold steers neither its search nor its models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pairfuse.fusion.fitting import ScaledRowSet, prepare_rows
from pairfuse.study.crossfit import CrossFit, FoldedTable, Table, combine
from pairfuse.study.folds import make_folds, outer_folds
from pairfuse.study.nested import nested_fit, prepare_inner
from pairfuse.study.tuning import SearchSpec
from toys.fusion import PLAIN, table, told_by_words

BASE = replace(PLAIN, epochs=4, patience=4, n_components=32)


def _prepared(given: Table) -> list[ScaledRowSet]:
    rows = make_folds(given.targets, given.groups, given.labels, folds=2, n_models=2, seed=0)
    return prepare_rows(given.views, rows, seed=0)


def _fit(given: Table, prepared: list[ScaledRowSet], storage: Path) -> CrossFit:
    data = FoldedTable(given, prepared, prepare_inner(given, prepared, seed=0))
    search = SearchSpec(base=BASE, storage=str(storage), n_trials=3)
    _, ranked = nested_fit(data, search, name="arm")
    return combine(list(ranked.values()), folds=outer_folds(prepared))


@pytest.fixture(scope="module")
def given() -> Table:
    return table(*told_by_words(120))


@pytest.fixture(scope="module")
def prepared(given: Table) -> list[ScaledRowSet]:
    return _prepared(given)


@pytest.fixture(scope="module")
def fit(
    given: Table, prepared: list[ScaledRowSet], tmp_path_factory: pytest.TempPathFactory
) -> CrossFit:
    return _fit(given, prepared, tmp_path_factory.mktemp("nested") / "log")


def test_the_search_of_a_fold_sees_rows_outside_it_only(
    given: Table, prepared: list[ScaledRowSet]
) -> None:
    for fold in prepare_inner(given, prepared, seed=0):
        held = prepared[fold.outer_sets[0]].rows.held_out
        assert not np.intersect1d(fold.rows, held).size
        seen = np.concatenate([part.rows.held_out for part in fold.prepared])
        assert np.array_equal(np.sort(seen), np.arange(len(fold.rows)))


def test_every_row_is_predicted(fit: CrossFit) -> None:
    assert fit.probabilities.shape == (1, 120, 3)
    assert np.allclose(fit.probabilities.sum(axis=2), 1, atol=1e-5)


def test_members_lie_recipe_by_recipe_and_row_set_by_row_set(
    given: Table, prepared: list[ScaledRowSet], fit: CrossFit
) -> None:
    assert len(fit.ensemble.members) % len(prepared) == 0
    for number, member in enumerate(fit.ensemble.members):
        held = prepared[number % len(prepared)].rows.held_out
        assert member.model.held_out is not None
        assert len(member.model.held_out) == len(held)
        probabilities = member.predict_proba(given.views.rows(held))
        assert (probabilities.argmax(axis=1) == member.model.held_out.argmax(axis=1)).mean() > 0.99


def test_held_out_labels_and_features_change_nothing_for_their_own_fold(
    given: Table, prepared: list[ScaledRowSet], fit: CrossFit, tmp_path: Path
) -> None:
    held = prepared[0].rows.held_out
    targets = given.targets.copy()
    targets[held[:7]] = (targets[held[:7]] + 1) % 3
    after = _fit(replace(given, targets=targets), prepared, tmp_path / "two")
    assert np.array_equal(fit.probabilities[0, held], after.probabilities[0, held])

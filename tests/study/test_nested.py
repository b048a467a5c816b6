"""Nested tuning: what is held out of a fold steers neither its search nor its models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pairfuse.fusion.fitting import ScaledRowSet, prepare_rows
from pairfuse.study.crossfit import CrossFit, Table
from pairfuse.study.folds import make_folds
from pairfuse.study.nested import nested_fit, prepare_inner
from toys.fusion import PLAIN, table, told_by_words

BASE = replace(PLAIN, epochs=4, patience=4, n_components=32)


def _prepared(given: Table) -> list[ScaledRowSet]:
    rows = make_folds(given.targets, given.groups, given.labels, folds=2, members=2, seed=0)
    return prepare_rows(given.views, rows, seed=0)


def _fit(given: Table, storage: Path) -> tuple[list[ScaledRowSet], CrossFit]:
    prepared = _prepared(given)
    inner = prepare_inner(given, prepared, members=2, seed=0)
    _, fit = nested_fit(
        *(given, prepared, inner, BASE),
        storage=str(storage),
        name="arm",
        trials=3,
        seed=0,
        device="cpu",
    )
    return prepared, fit


@pytest.fixture(scope="module")
def given() -> Table:
    return table(*told_by_words(120))


def test_the_search_of_a_fold_sees_rows_outside_it_only(given: Table) -> None:
    prepared = _prepared(given)
    for fold in prepare_inner(given, prepared, members=2, seed=0):
        held = prepared[fold.outer[0]].rows.held_out
        assert not np.intersect1d(fold.inside, held).size
        seen = np.concatenate([part.rows.held_out for part in fold.prepared])
        assert np.array_equal(np.sort(seen), np.arange(len(fold.inside)))


def test_every_row_is_predicted(given: Table, tmp_path: Path) -> None:
    _, fit = _fit(given, tmp_path / "log")
    assert fit.probabilities.shape == (1, 120, 3)
    assert np.allclose(fit.probabilities.sum(axis=2), 1, atol=1e-5)


def test_members_lie_recipe_by_recipe_and_row_set_by_row_set(given: Table, tmp_path: Path) -> None:
    prepared, fit = _fit(given, tmp_path / "log")
    assert len(fit.ensemble.members) % len(prepared) == 0
    for number, member in enumerate(fit.ensemble.members):
        held = prepared[number % len(prepared)].rows.held_out
        assert member.model.held_out is not None
        assert len(member.model.held_out) == len(held)
        chances = member.predict_proba(given.views.rows(held))
        assert (chances.argmax(axis=1) == member.model.held_out.argmax(axis=1)).mean() > 0.99


def test_held_out_labels_and_features_change_nothing_for_their_own_fold(
    given: Table, tmp_path: Path
) -> None:
    prepared, before = _fit(given, tmp_path / "one")
    held = prepared[0].rows.held_out
    targets = given.targets.copy()
    targets[held[:7]] = (targets[held[:7]] + 1) % 3
    folds = [part.rows for part in prepared]
    spoilt = replace(given, targets=targets)
    again = prepare_rows(spoilt.views, folds, seed=0)
    inner = prepare_inner(spoilt, again, members=2, seed=0)
    _, after = nested_fit(
        *(spoilt, again, inner, BASE),
        storage=str(tmp_path / "two"),
        name="arm",
        trials=3,
        seed=0,
        device="cpu",
    )
    assert np.array_equal(before.probabilities[0, held], after.probabilities[0, held])

"""Stacking: no held-out row is in its own final estimator; new pairs get that of all rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pairfuse.fusion.ensemble import Prepared, class_prior, prepare_rows
from pairfuse.fusion.final_estimator import fit_final_estimator
from pairfuse.stats.metrics import macro_f1
from pairfuse.study.crossfit import CrossFit, FoldedTable, Table, combine, cross_fit
from pairfuse.study.emap import emap
from pairfuse.study.folds import make_folds
from pairfuse.study.missing_modality import held_out
from pairfuse.study.nested import prepare_inner
from pairfuse.study.stacking import stacked_ensemble
from toys.fusion import PLAIN, noise, table, told_by_both, told_by_words, without

QUICK = replace(PLAIN, n_components=6, epochs=6, balance="weights", balance_strength=0.5)


def _prepared(given: Table, like: Table) -> list[Prepared]:
    """Two folds as dealt for `like`, two models for each."""
    rows = make_folds(
        like.targets, like.groups, like.labels, folds=2, n_models=2, repeats=1, seed=0
    )
    return prepare_rows(given.views, rows, seed=0)


def _stacked(
    given: Table, *heads: str, like: Table | None = None, epochs: int = 6
) -> tuple[CrossFit, list[CrossFit], list[Prepared]]:
    """The stacked ensemble, the heads' own fits and the row sets."""
    prepared = _prepared(given, like or given)
    recipes = [replace(QUICK, head=head, epochs=epochs) for head in heads]
    fits = cross_fit(given, prepared, recipes, seed=0)
    data = FoldedTable(given, prepared, prepare_inner(given, prepared, seed=0))
    found = stacked_ensemble(data, recipes, fits, seed=0, device="cpu")
    return found, fits, prepared


@pytest.fixture(scope="module")
def bare() -> Table:
    """Rows of which one view or both are not there."""
    views, targets = told_by_words(90)
    return table(without(without(views, "words", [5, 9, 60]), "look", [5, 7, 60]), targets)


@pytest.fixture(scope="module")
def made(bare: Table) -> tuple[CrossFit, list[CrossFit], list[Prepared]]:
    return _stacked(bare, "linear", "concat")


def test_stacking_is_as_good_as_its_best_head_where_the_others_fail() -> None:
    given = table(*told_by_both(400))
    found, fits, _ = _stacked(given, "linear", "bilinear", epochs=25)
    linear, bilinear = (macro_f1(given.targets, fit.y_pred, 2) for fit in fits)
    assert linear < 0.6
    assert macro_f1(given.targets, found.y_pred, 2) > max(0.8, bilinear - 0.03)


def test_labels_of_held_out_rows_do_not_reach_their_own_probabilities() -> None:
    given = table(*told_by_words(150))
    found, _, prepared = _stacked(given, "concat", "linear")
    held = [part.rows.held for part in prepared[::2]]
    targets = given.targets.copy()
    targets[held[0]] = (targets[held[0]] + 1) % 3
    other, _, _ = _stacked(replace(given, targets=targets), "concat", "linear", like=given)
    one, same = found.probabilities, other.probabilities
    assert np.array_equal(one[:, held[0]], same[:, held[0]])
    assert not np.allclose(one[:, held[1]], same[:, held[1]], atol=1e-2)
    assert np.array_equal(found.final_estimators[0].weights, other.final_estimators[0].weights)


def test_rows_without_any_view_get_the_prior(
    bare: Table, made: tuple[CrossFit, list[CrossFit], list[Prepared]]
) -> None:
    found = made[0]
    prior = class_prior(bare.targets, 3)
    for probabilities in (found.probabilities[0], found.ensemble.predict_proba(bare.views)):
        assert np.allclose(probabilities[[5, 60]], prior, atol=1e-6)
        assert not np.allclose(probabilities[6], prior, atol=1e-3)
        assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_a_row_of_which_no_recipe_uses_a_view_gets_the_prior(bare: Table) -> None:
    prepared = _prepared(bare, bare)
    recipes = [replace(QUICK, head=head, views=("words",)) for head in ("linear", "concat")]
    fits = cross_fit(bare, prepared, recipes, seed=0)
    data = FoldedTable(bare, prepared, prepare_inner(bare, prepared, seed=0))
    found = stacked_ensemble(data, recipes, fits, seed=0, device="cpu")
    assert np.allclose(found.probabilities[0, 9], found.ensemble.prior, atol=1e-6)
    assert np.allclose(found.ensemble.predict_proba(bare.views)[9], found.ensemble.prior)


def test_what_is_kept_is_all_members_under_a_final_estimator_of_all_out_of_fold_rows(
    bare: Table, made: tuple[CrossFit, list[CrossFit], list[Prepared]]
) -> None:
    found, fits, _ = made
    final_estimator = fit_final_estimator(
        np.stack([fit.mean for fit in fits]), bare.targets, strength=0.5
    )
    assert found.ensemble.final_estimator is not None
    assert np.array_equal(found.ensemble.final_estimator.weights, final_estimator.weights)
    mean = combine(fits)
    assert found.ensemble.members == mean.ensemble.members
    assert found.seconds > mean.seconds
    views = noise(20, seed=3)
    by_head = np.stack([fit.ensemble.predict_proba(views) for fit in fits])
    wanted = final_estimator.logits(by_head).argmax(axis=1)
    assert np.array_equal(found.ensemble.predict_proba(views).argmax(axis=1), wanted)


def test_later_analyses_of_held_out_rows_use_the_final_estimators_of_their_folds(
    bare: Table, made: tuple[CrossFit, list[CrossFit], list[Prepared]]
) -> None:
    found, _, prepared = made
    projection = emap(
        bare.views, found.ensemble, prepared, final_estimators=found.final_estimators, seed=0
    )
    again = held_out(bare.views, found.ensemble, prepared, found.final_estimators)
    assert projection.fused == pytest.approx(found.probabilities, abs=1e-5)
    assert again == pytest.approx(found.probabilities, abs=1e-5)
    assert np.allclose(projection.additive.sum(axis=2), 1, atol=1e-5)

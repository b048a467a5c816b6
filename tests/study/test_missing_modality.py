"""What a missing modality costs at test time, by models that held the row out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pairfuse.fusion.fitting import ScaledRowSet, prepare_rows
from pairfuse.stats.bootstrap import draw_groups
from pairfuse.study.crossfit import CrossFit, Table, combine, cross_fit
from pairfuse.study.folds import make_folds, outer_folds
from pairfuse.study.missing_modality import NOTHING, held_out, missing_modality_scores
from pairfuse.study.missing_modality import without as without_modality
from toys.fusion import PLAIN, POOLED_HEADS, table, told_by_words, without

QUICK = replace(PLAIN, n_components=6, epochs=8, modality_dropout=0.2)


def _fitted(given: Table, *heads: str) -> tuple[CrossFit, list[ScaledRowSet]]:
    rows = make_folds(
        *(given.targets, given.groups, given.labels), folds=2, n_models=2, repeats=2, seed=0
    )
    prepared = prepare_rows(given.views, rows, seed=0)
    recipes = [replace(QUICK, head=head) for head in heads]
    fits = cross_fit(given, prepared, recipes, seed=0)
    return combine(fits, folds=outer_folds(prepared)), prepared


def test_with_nothing_missing_the_rows_get_their_out_of_fold_probabilities() -> None:
    views, targets = told_by_words(120)
    given = table(without(without(views, "words", [3, 5]), "look", [4, 5]), targets)
    fit, prepared = _fitted(given, "concat", "linear")
    found = held_out(given.views, fit, prepared)
    assert found == pytest.approx(fit.probabilities, abs=1e-5)


def test_what_tells_the_label_costs_when_it_is_removed_and_noise_does_not() -> None:
    given = table(*told_by_words(240))
    fit, prepared = _fitted(given, "concat")
    draws = draw_groups(given.groups, seed=0, resamples=200)
    found = missing_modality_scores(given, fit, prepared, draws)
    assert list(found) == [NOTHING, "image", "text"]
    f1 = {name: scores.macro_f1.value for name, scores in found.items()}
    assert f1["text"] < f1[NOTHING] - 0.3
    assert f1["image"] > f1[NOTHING] - 0.1


def test_a_removed_modality_does_not_show() -> None:
    given = table(*told_by_words(120))
    fit, prepared = _fitted(given, "concat")
    bare = without_modality(given.views, "text")
    other = {**given.views.features, "words": given.views.features["words"][::-1]}
    turned = without_modality(replace(given.views, features=other), "text")
    found = [held_out(views, fit, prepared) for views in (bare, turned)]
    assert np.array_equal(*found)
    assert given.views.present["words"].all()


@pytest.mark.parametrize("head", POOLED_HEADS)
def test_rows_that_lost_all_get_the_prior(head: str) -> None:
    views, targets = told_by_words(60)
    given = table(without(views, "look", [7, 9]), targets)
    fit, prepared = _fitted(given, head)
    found = held_out(without_modality(given.views, "text"), fit, prepared)
    assert np.allclose(found[:, [7, 9]], fit.ensemble.prior, atol=1e-6)
    assert np.allclose(found.sum(axis=2), 1, atol=1e-5)

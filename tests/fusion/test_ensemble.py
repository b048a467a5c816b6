"""No leak: nothing about a fold's held-out rows reaches the models of that fold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pairfuse.arrays import Ints
from pairfuse.errors import CheckpointError, ConfigError
from pairfuse.features.views import Views
from pairfuse.fusion.ensemble import class_prior
from pairfuse.fusion.fitting import ScaledRowSet, fit_members, prepare_rows
from pairfuse.recipe import BALANCES, Recipe
from pairfuse.stats.metrics import macro_f1
from pairfuse.study.crossfit import CrossFit, Table, cross_fit
from pairfuse.study.folds import make_folds
from toys.fusion import (
    PLAIN,
    farthest,
    noise,
    reversed_views,
    table,
    told_by_words,
    without,
)

QUICK = replace(PLAIN, epochs=4, n_components=4, dropout=0.2, label_smoothing=0.1)


def _prepared(given: Table, *, folds: int = 2, members: int = 1) -> list[ScaledRowSet]:
    rows = make_folds(
        given.targets, given.groups, given.labels, folds=folds, n_models=members, seed=0
    )
    return prepare_rows(given.views, rows, seed=0)


def _fit(
    given: Table, recipe: Recipe = QUICK, like: list[ScaledRowSet] | None = None, members: int = 1
) -> CrossFit:
    """Cross-fit on the row sets of `like`, with scalings fitted anew."""
    parts = like or _prepared(given, members=members)
    fresh = prepare_rows(given.views, [part.rows for part in parts], seed=0)
    [fit] = cross_fit(given, fresh, [recipe], seed=0)
    return fit


def _spoilt(views: Views, rows: Ints) -> Views:
    """The same views, but every feature of these rows is something else."""
    changed = {view: values.copy() for view, values in views.features.items()}
    for values in changed.values():
        values[rows] = 50 - 3 * values[rows]
    return Views(changed, views.present, views.modality)


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("fold", [0, 1])
def test_held_out_rows_change_no_parameter_of_their_fold(balance: str, fold: int) -> None:
    given = table(*told_by_words(120))
    parts = _prepared(given)
    held = parts[fold].rows.held_out
    targets = given.targets.copy()
    targets[held] = (targets[held] + 1) % 3
    other = replace(given, views=_spoilt(given.views, held), targets=targets)
    recipe = replace(QUICK, balance=balance)
    before, after = _fit(given, recipe, parts), _fit(other, recipe, parts)
    one, same = before.ensemble.members[fold], after.ensemble.members[fold]
    assert farthest(one.model, same.model) == 0
    for view, part in one.scaling.items():
        assert np.array_equal(part.mean, same.scaling[view].mean)
        assert np.array_equal(part.axes, same.scaling[view].axes)
    assert one.model.history == same.model.history
    elsewhere = 1 - fold  # there the same rows were trained on
    assert farthest(*(fit.ensemble.members[elsewhere].model for fit in (before, after))) > 0


@pytest.mark.parametrize("balance", BALANCES)
def test_labels_of_validation_rows_choose_the_epoch_and_nothing_else(balance: str) -> None:
    given = table(*told_by_words(120))
    parts = _prepared(given)
    targets = given.targets.copy()
    val = parts[0].rows.val
    targets[val] = (targets[val] + 1) % 3
    recipe = replace(QUICK, balance=balance)
    fits = [_fit(t, recipe, parts) for t in (given, replace(given, targets=targets))]
    one, other = (fit.ensemble.members[0].model.history for fit in fits)
    for row, same in zip(one, other, strict=True):
        assert row["train_loss"] == same["train_loss"]
        assert row["train_macro_f1"] == same["train_macro_f1"]
    assert [row["val_loss"] for row in one] != [row["val_loss"] for row in other]


def test_shuffled_labels_score_at_chance() -> None:
    views, targets = told_by_words(450)
    shuffled = np.random.default_rng(1).permutation(targets)
    scores = [
        macro_f1(labels, _fit(table(views, labels), replace(QUICK, epochs=10)).y_pred, 3)
        for labels in (targets, shuffled)
    ]
    assert scores[0] > 0.7
    assert 0.2 < scores[1] < 0.42


def _score_with_canary(seed: int) -> float:
    """Features are noise, but the held-out rows of each fold carry their label."""
    views, targets = noise(300, seed=seed), np.random.default_rng(seed).integers(0, 3, 300)
    y_pred = np.zeros_like(targets)
    for part in _prepared(table(views, targets)):
        sung = {view: values.copy() for view, values in views.features.items()}
        held = part.rows.held_out
        sung["words"][held, :3] += 2 * np.eye(3, dtype=np.float32)[targets[held]]
        told = Views(sung, views.present, views.modality)
        fresh = prepare_rows(told, [part.rows], seed=0)
        [[member]] = fit_members(told, targets, fresh, [QUICK], num_classes=3, seed=0)
        y_pred[held] = member.predict_proba(told.rows(held)).argmax(axis=1)
    return macro_f1(targets, y_pred, 3)


def test_a_feature_that_tells_the_label_only_when_held_out_lifts_no_score() -> None:
    assert np.mean([_score_with_canary(seed) for seed in range(8)]) < 0.42


def test_every_probability_is_made_by_models_that_held_the_row_out() -> None:
    given = table(*told_by_words(90))
    parts = _prepared(given, folds=3, members=2)
    fit = _fit(given, QUICK, parts)
    for start in (0, 2, 4):
        held = parts[start].rows.held_out
        pair = fit.ensemble.members[start : start + 2]
        mean = np.mean([m.predict_proba(given.views.rows(held)) for m in pair], axis=0)
        assert np.allclose(fit.mean[held], mean, atol=1e-6)


def test_probabilities_sum_to_one_and_a_row_without_views_gets_the_prior() -> None:
    views, targets = told_by_words(120)
    bare = without(without(views, "words", [5, 80]), "look", [5, 80])
    fit = _fit(table(bare, targets))
    prior = class_prior(targets, 3)
    for chances in (fit.mean, fit.ensemble.predict_proba(bare)):
        assert np.allclose(chances.sum(axis=1), 1, atol=1e-5)
        assert np.allclose(chances[[5, 80]], prior, atol=1e-6)
        assert not np.allclose(chances[6], prior, atol=1e-3)


def test_members_of_equal_weight_vote_by_their_mean() -> None:
    given = table(*told_by_words(90))
    ensemble = _fit(given, members=2).ensemble
    mean = np.mean([member.predict_proba(given.views) for member in ensemble.members], axis=0)
    assert np.allclose(ensemble.predict_proba(given.views), mean, atol=1e-6)


def test_views_in_another_order_give_the_same_models() -> None:
    given = table(*told_by_words(100))
    turned = replace(given, views=reversed_views(given.views))
    one, other = (_fit(t, replace(QUICK, balance="smote")) for t in (given, turned))
    assert np.array_equal(one.probabilities, other.probabilities)
    assert np.array_equal(
        one.ensemble.predict_proba(given.views), one.ensemble.predict_proba(turned.views)
    )


def test_a_row_alone_gets_the_probabilities_it_gets_in_company() -> None:
    given = table(*told_by_words(100))
    ensemble = _fit(given).ensemble
    together = ensemble.predict_proba(given.views)
    for row in (0, 42, 99):
        alone = ensemble.predict_proba(given.views.rows(np.array([row])))
        assert np.allclose(alone[0], together[row], atol=1e-5)


def test_an_ensemble_uses_only_the_views_of_its_recipe() -> None:
    given = table(*told_by_words(100))
    ensemble = _fit(given, replace(QUICK, views=("words",))).ensemble
    spoilt = Views(
        {**given.views.features, "look": given.views.features["look"] * 99},
        given.views.present,
        given.views.modality,
    )
    assert list(ensemble.dims) == ["words"]
    assert np.array_equal(ensemble.predict_proba(given.views), ensemble.predict_proba(spoilt))


@pytest.mark.parametrize("dims", [{"words": 6}, {"words": 6, "look": 4}, {"words": 6, "sight": 5}])
def test_other_views_than_in_training_are_refused(dims: dict[str, int]) -> None:
    ensemble = _fit(table(*told_by_words(60))).ensemble
    with pytest.raises(CheckpointError, match="the model was trained on views"):
        ensemble.predict_proba(noise(3, dims=dims))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"views": ("sound",)}, "'sound', there are words, look"), ({"head": "big"}, "no head 'big'")],
)
def test_a_recipe_that_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    given = table(*told_by_words(60))
    with pytest.raises(ConfigError, match=message):
        _fit(given, replace(QUICK, **changes))  # type: ignore[arg-type]


def test_models_with_fewer_axes_are_trained_beside_the_others() -> None:
    """One row set is so small that a view has fewer axes: it comes out as it would alone."""
    views, targets = told_by_words(120)
    given = table(views, targets)
    large, other = _prepared(given)
    small = replace(large.rows, train=large.rows.train[:4])
    recipe = replace(QUICK, n_components=6)
    parts = [large, *prepare_rows(views, [small], seed=0), other]
    [models] = fit_members(views, targets, parts, [recipe], num_classes=3, seed=0)
    assert [m.model.shape.dims["words"] for m in models] == [6, 3, 6]
    [[alone]] = fit_members(views, targets, [large], [recipe], num_classes=3, seed=0)
    assert farthest(alone.model, models[0].model) < 1e-4


def test_few_rows_are_trained_in_smaller_batches_than_the_recipe_says() -> None:
    few, many = table(*told_by_words(200)), table(*told_by_words(900))
    for given, wanted in ((few, 32), (many, 900 * 7 // 8 // 2 // 5)):
        rows = make_folds(given.targets, given.groups, given.labels, folds=2, n_models=1, seed=0)
        prepared = prepare_rows(given.views, rows, seed=0)
        [fit] = cross_fit(given, prepared, [replace(QUICK, batch_size=256, epochs=1)], seed=0)
        assert {m.model.recipe.batch_size for m in fit.ensemble.members} == {wanted}

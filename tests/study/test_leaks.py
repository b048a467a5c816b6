"""Leak guard: nothing of a row that is held out, or that only watches, reaches what scores it.

Each guard is held against a study that leaks on purpose: one that it passes would guard nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pairfuse.arrays import Ints
from pairfuse.features.views import Views
from pairfuse.fusion.ensemble import Member
from pairfuse.fusion.fitting import RowSet, ScaledRowSet, prepare_rows
from pairfuse.recipe import BALANCES, Recipe
from pairfuse.stats.bootstrap import draw_groups
from pairfuse.stats.metrics import Scores, score
from pairfuse.study.crossfit import CrossFit, Table, cross_fit
from pairfuse.study.folds import make_folds
from toys.fusion import PLAIN, POOLED_HEADS, farthest, noise, table, told_by_words
from toys.worlds import World, draw_world

QUICK = replace(PLAIN, n_components=8, epochs=6, balance="weights")
FOLDS, N_MODELS, REPEATS = 3, 2, 2


def folds_of(given: Table, *, seed: int = 0) -> list[RowSet]:
    return make_folds(
        given.targets,
        given.groups,
        given.labels,
        folds=FOLDS,
        n_models=N_MODELS,
        repeats=REPEATS,
        seed=seed,
    )


def fitted(given: Table, rows: list[RowSet], recipe: Recipe = QUICK) -> CrossFit:
    """The way of the ablation: folds, scaling inside each, one model for each row set."""
    [fit] = cross_fit(given, prepare_rows(given.views, rows, seed=0), [recipe], seed=0)
    return fit


def scores_of(given: Table, fit: CrossFit) -> Scores:
    draws = draw_groups(given.groups, seed=0, resamples=1000)
    return score(given.targets, fit.probabilities, given.labels, draws)


def above_chance(given: Table, fit: CrossFit) -> bool:
    """Whether even the interval's lower end of the macro-F1 is above that of guessing."""
    return scores_of(given, fit).macro_f1.low > 1 / len(given.labels)


def seeing_all(rows: list[RowSet]) -> list[RowSet]:
    """A leak: what is held out is trained on too."""
    return [replace(part, train=np.concatenate([part.train, part.held_out])) for part in rows]


def watching_held(rows: list[RowSet]) -> list[RowSet]:
    """A leak: training stops when the held-out rows say so."""
    return [replace(part, val=part.held_out) for part in rows]


# --- Labels that nothing tells ---------------------------------------------------------------


@pytest.mark.parametrize("head", POOLED_HEADS)
def test_shuffled_labels_score_at_chance(head: str) -> None:
    views, targets = told_by_words(240, classes=2)
    given = table(views, np.random.default_rng(5).permutation(targets))
    fit = fitted(given, folds_of(given), replace(QUICK, head=head))
    found = scores_of(given, fit).macro_f1
    assert found.low < 0.5 < found.high + 0.02  # y_pred of one class too often are below a half
    assert scores_of(given, fit).auroc.low < 0.5 < scores_of(given, fit).auroc.high


def test_shuffled_labels_are_above_chance_where_held_out_rows_are_trained_on() -> None:
    views, targets = told_by_words(240, classes=2)
    given = table(views, np.random.default_rng(5).permutation(targets))
    long = replace(QUICK, epochs=60, patience=60)
    assert not above_chance(given, fitted(given, folds_of(given), long))
    assert above_chance(given, fitted(given, seeing_all(folds_of(given)), long))


# --- A canary: a column that tells the label of the rows of one fold -------------------------


def canary(fold: int) -> tuple[Table, list[RowSet]]:
    """Noise, but for a column that holds the label wherever this fold of the first repeat holds
    rows out; and the folds of that repeat.
    """
    targets = np.random.default_rng(3).integers(2, size=300)
    # Of the seeds 4 to 11 the one whose noise tells most nearly nothing, either way.
    given = table(noise(300, seed=8), targets)
    rows = [part for part in folds_of(given) if part.repeat == 0]
    told = rows[N_MODELS * fold].held_out
    words = given.views.features["words"].copy()
    words[told, 0] = 2 * targets[told] - 1
    views = Views(
        {**given.views.features, "words": words}, given.views.present, given.views.modality
    )
    return replace(given, views=views), rows


def right(given: Table, fit: CrossFit, held: Ints) -> float:
    return float((fit.y_pred[held] == given.targets[held]).mean())


@pytest.mark.parametrize("fold", range(FOLDS))
def test_a_canary_in_the_rows_of_a_fold_does_not_raise_their_score(fold: int) -> None:
    given, rows = canary(fold)
    assert right(given, fitted(given, rows), rows[N_MODELS * fold].held_out) < 0.75


def test_the_canary_sings_where_held_out_rows_are_trained_on() -> None:
    given, rows = canary(0)
    assert right(given, fitted(given, seeing_all(rows)), rows[0].held_out) > 0.8


# --- rows changed to garbage -----------------------------------------------------------------


def spoilt(given: Table, rows: Ints) -> Table:
    """The same table with garbage for the features of these rows, and other labels."""
    features = {}
    for view, values in given.views.features.items():
        features[view] = values.copy()
        features[view][rows] = 1e3 * np.random.default_rng(9).normal(size=values[rows].shape)
    targets = given.targets.copy()
    targets[rows] = (targets[rows] + 1) % len(given.labels)
    views = Views(features, given.views.present, given.views.modality)
    return replace(given, views=views, targets=targets)


def same(one: Member, other: Member) -> bool:
    """Bit for bit the same model and scaling."""
    scalings = all(
        np.array_equal(getattr(one.scaling[view], name), getattr(other.scaling[view], name))
        for view in one.scaling
        for name in ("mean", "axes", "deviation")
    )
    return scalings and farthest(one.model, other.model) == 0.0


@pytest.fixture(scope="module")
def uneven() -> Table:
    return draw_world(World(classes=3, added=1.0, imbalance=3.0, duplicates=0.1), 240, seed=1)


@pytest.mark.parametrize("balance", BALANCES)
def test_the_models_of_a_fold_never_look_at_its_held_out_rows(balance: str, uneven: Table) -> None:
    rows, recipe = folds_of(uneven), replace(QUICK, balance=balance, balance_strength=1.0)
    before = fitted(uneven, rows, recipe).ensemble.members
    for number in (0, len(rows) - 1):
        after = fitted(spoilt(uneven, rows[number].held_out), rows, recipe).ensemble.members
        own = [
            k for k, part in enumerate(rows) if np.array_equal(part.held_out, rows[number].held_out)
        ]
        assert all(same(before[k], after[k]) for k in own)
        assert not any(same(before[k], after[k]) for k in range(len(rows)) if k not in own)


def test_a_model_that_sees_the_held_out_rows_is_another_one_when_they_are_spoilt(
    uneven: Table,
) -> None:
    rows = folds_of(uneven)
    for leak in (seeing_all, watching_held):
        before = fitted(uneven, leak(rows)).ensemble.members[0]
        after = fitted(spoilt(uneven, rows[0].held_out), leak(rows)).ensemble.members[0]
        assert not same(before, after)


@pytest.mark.parametrize("balance", BALANCES)
def test_validation_rows_decide_nothing_but_when_to_stop(balance: str, uneven: Table) -> None:
    rows = folds_of(uneven)
    recipe = replace(
        QUICK, balance=balance, balance_strength=1.0, epochs=1, patience=1
    )  # no other choice
    before = fitted(uneven, rows, recipe).ensemble.members
    after = fitted(spoilt(uneven, rows[0].val), rows, recipe).ensemble.members
    assert same(before[0], after[0])


def test_validation_rows_of_a_fold_stop_no_model_that_holds_them_out(uneven: Table) -> None:
    rows = folds_of(uneven)
    before = fitted(uneven, rows).ensemble.members
    after = fitted(spoilt(uneven, rows[0].val[:1]), rows).ensemble.members
    apart = [k for k, part in enumerate(rows) if rows[0].val[0] in part.held_out]
    assert apart
    assert all(same(before[k], after[k]) for k in apart)


# --- Duplicates ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_duplicates_are_never_on_two_sides_of_a_fold(seed: int) -> None:
    given = draw_world(World(classes=3, text=0.5, duplicates=0.5), 300, seed=seed)
    for part in folds_of(given, seed=seed):
        sides = [set(given.groups[rows].tolist()) for rows in (part.train, part.val, part.held_out)]
        assert len(set.union(*sides)) == sum(map(len, sides))


def test_duplicates_on_two_sides_would_score_above_chance() -> None:
    world = World(classes=2, duplicates=0.7, disputed=0.0)  # nothing tells the label
    given = draw_world(world, 300, seed=2)
    loose = replace(given, groups=np.arange(300, dtype=np.int64))
    long = replace(QUICK, epochs=40, patience=40)
    kept = fitted(given, folds_of(given), long)
    assert not above_chance(given, kept)
    assert above_chance(given, fitted(given, folds_of(loose), long))


def test_prepared_rows_are_scaled_by_their_own_training_rows(uneven: Table) -> None:
    prepared: list[ScaledRowSet] = prepare_rows(uneven.views, folds_of(uneven), seed=0)
    for part in prepared:
        for view, values in uneven.views.features.items():
            own = values[part.rows.train].mean(axis=0)
            assert part.scaling[view].mean == pytest.approx(own, abs=1e-5)

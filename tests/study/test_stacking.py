"""Stacking: the linear model weighs heads by what they are worth, and sees no held-out row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fusion_toys import PLAIN, table, told_by_both, told_by_words, without
from pairfuse.features.table import Floats, Ints
from pairfuse.fusion.ensemble import class_prior, prepare_rows
from pairfuse.study.crossfit import CrossFit, Table, cross_fit
from pairfuse.study.folds import make_folds
from pairfuse.study.metrics import macro_f1
from pairfuse.study.nested import prepare_inner
from pairfuse.study.stacking import fit_blend, stack

QUICK = replace(PLAIN, reduce=6, epochs=6, balance="weights", strength=0.5)


def _stacked(
    given: Table, *heads: str, like: Table | None = None, epochs: int = 6
) -> tuple[Floats, list[CrossFit], list[Ints]]:
    """Stacked probabilities, the heads' own fits, held rows of each fold as dealt for `like`."""
    dealt = like or given
    rows = make_folds(
        *(dealt.targets, dealt.groups, dealt.labels), folds=2, members=2, repeats=1, seed=0
    )
    prepared = prepare_rows(given.views, rows, seed=0)
    recipes = [replace(QUICK, head=head, epochs=epochs) for head in heads]
    fits = cross_fit(given, prepared, recipes, seed=0)
    inner = prepare_inner(given, prepared, members=2, seed=0)
    found = stack(given, prepared, inner, recipes, fits, seed=0)
    return found, fits, [part.held for part in rows[::2]]


def _chances(guesses: Ints, classes: int, *, sure: float = 0.9) -> Floats:
    rest = (1 - sure) / (classes - 1)
    out = np.full((len(guesses), classes), rest, dtype=np.float32)
    out[np.arange(len(guesses)), guesses] = sure
    return out


@pytest.mark.parametrize("classes", [2, 3])
def test_a_blend_trusts_the_head_that_is_right(classes: int) -> None:
    random = np.random.default_rng(0)
    targets, noise = random.integers(0, classes, (2, 400))
    right = np.where(random.random(400) < 0.8, targets, noise)
    chances = np.stack([_chances(noise, classes, sure=0.99), _chances(right, classes, sure=0.6)])
    found = fit_blend(chances, targets).predict_proba(chances)
    assert found.shape == (400, classes)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found.argmax(axis=1) == targets).mean() > 0.8
    assert (chances.mean(axis=0).argmax(axis=1) == targets).mean() < 0.7


def test_weighing_classes_raises_the_recall_of_the_rare_one() -> None:
    random = np.random.default_rng(0)
    targets = (random.random(600) < 0.1).astype(np.int64)
    guesses = np.where(random.random(600) < 0.7, targets, 1 - targets)
    chances = _chances(guesses, 2)[None]
    recall = [
        (
            fit_blend(chances, targets, strength=s)
            .predict_proba(chances)
            .argmax(axis=1)[targets == 1]
        )
        for s in (0.0, 1.0)
    ]
    assert recall[1].mean() > recall[0].mean() + 0.3


def test_a_stack_is_as_good_as_its_best_head_where_the_others_fail() -> None:
    given = table(*told_by_both(400))
    found, fits, _ = _stacked(given, "linear", "bilinear", epochs=25)
    linear, bilinear = (macro_f1(given.targets, fit.guesses, 2) for fit in fits)
    assert linear < 0.6
    assert macro_f1(given.targets, found[0].argmax(axis=1), 2) > max(0.8, bilinear - 0.03)


def test_labels_of_held_out_rows_do_not_reach_their_own_probabilities() -> None:
    given = table(*told_by_words(150))
    found, _, held = _stacked(given, "concat", "linear")
    targets = given.targets.copy()
    targets[held[0]] = (targets[held[0]] + 1) % 3
    other, _, _ = _stacked(replace(given, targets=targets), "concat", "linear", like=given)
    assert np.array_equal(found[:, held[0]], other[:, held[0]])
    assert not np.allclose(found[:, held[1]], other[:, held[1]], atol=1e-2)


def test_rows_without_any_view_get_the_prior() -> None:
    views, targets = told_by_words(90)
    bare = without(without(views, "words", [5, 60]), "look", [5, 60])
    found, _, _ = _stacked(table(bare, targets), "linear", "concat")
    assert np.allclose(found[:, [5, 60]], class_prior(targets, 3), atol=1e-6)
    assert np.allclose(found.sum(axis=2), 1, atol=1e-5)

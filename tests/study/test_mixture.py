"""Mixture: greedy selection takes what predicts, weighs it, and is scored on rows it never saw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pairfuse.arrays import Floats, Ints
from pairfuse.features.views import Views
from pairfuse.fusion.ensemble import Ensemble, Member, equal_weights
from pairfuse.fusion.fitting import ScaledRowSet
from pairfuse.stats.metrics import macro_f1
from pairfuse.study.crossfit import CrossFit, Table
from pairfuse.study.folds import make_folds, outer_folds
from pairfuse.study.mixture import mixture, select
from toys.fusion import noise, table

ROWS, CLASSES = 200, 3


class Told:
    """A model that says what it was told, whatever the row."""

    views: tuple[str, ...] = ("words",)
    reads_texts = False
    size = 0

    def __init__(self, name: str) -> None:
        self.name = name

    def predict_proba(self, rows: Views) -> Floats:
        """The same for every row."""
        return np.full((len(rows), CLASSES), 1 / CLASSES, dtype=np.float32)


def world(seed: int) -> tuple[Table, list[ScaledRowSet]]:
    """Labels that nothing tells, in three folds of two repeats."""
    targets = np.random.default_rng(seed).integers(CLASSES, size=ROWS)
    given = table(noise(ROWS, seed=seed), targets)
    rows = make_folds(
        targets, given.groups, given.labels, folds=3, n_models=1, repeats=2, seed=seed
    )
    return given, [ScaledRowSet(part, {}) for part in rows]


def fit_of(name: str, probabilities: Floats, prepared: list[ScaledRowSet]) -> CrossFit:
    """A fit that gave these probabilities."""
    ensemble = Ensemble(
        members=(Told(name),),
        weights=(1.0,),
        labels=tuple("abc"),
        prior=np.full(CLASSES, 1 / CLASSES, dtype=np.float32),
        modality={"words": "text"},
        dims={"words": 6},
    )
    return CrossFit(ensemble, (ensemble,) * len(outer_folds(prepared)), probabilities)


def guesses(targets: Ints, right: float, *, seed: int, repeats: int = 2) -> Floats:
    """Probabilities that are largest at the true class for a share of the rows."""
    random = np.random.default_rng(seed)
    truth = np.eye(CLASSES)[targets]
    drawn = random.dirichlet([1] * CLASSES, size=(repeats, len(targets)))
    knows = random.random((repeats, len(targets), 1)) < right
    return np.asarray(0.6 * np.where(knows, truth, drawn) + 0.4 * drawn, dtype=np.float32)


def test_what_predicts_is_taken_and_noise_is_left_out() -> None:
    given, prepared = world(0)
    good, bad = (guesses(given.targets, share, seed=1) for share in (1.0, 0.0))
    fits = [fit_of("bad", bad, prepared), fit_of("good", good, prepared)]
    fit, weights = mixture(fits, given, prepared)
    assert weights == [0, 1]
    assert [member.name for member in fit.ensemble.members] == ["good"]  # type: ignore[attr-defined]
    assert np.array_equal(fit.probabilities, good)


def test_models_that_know_different_rows_are_joined() -> None:
    given, prepared = world(1)
    fits = [fit_of(f"{n}", guesses(given.targets, 0.5, seed=n), prepared) for n in range(4)]
    fit, weights = mixture(fits, given, prepared)
    assert sum(weight > 0 for weight in weights) > 1
    alone = [macro_f1(given.targets, each.y_pred, CLASSES) for each in fits]
    assert macro_f1(given.targets, fit.y_pred, CLASSES) > max(alone)


def test_weights_are_selected_without_the_rows_that_they_are_scored_on() -> None:
    given, prepared = world(2)
    fits = [fit_of(f"{n}", guesses(given.targets, 0.4, seed=n), prepared) for n in range(3)]
    before, _ = mixture(fits, given, prepared)
    fold = outer_folds(prepared)[0]
    turned = given.targets.copy()
    turned[fold.held_out] = (turned[fold.held_out] + 1) % CLASSES
    after, _ = mixture(fits, replace(given, targets=turned), prepared)
    assert before.folds[0].weights == after.folds[0].weights
    assert np.array_equal(
        before.probabilities[0, fold.held_out], after.probabilities[0, fold.held_out]
    )


def test_twins_of_the_rows_that_are_scored_do_not_select() -> None:
    given, prepared = world(5)
    fold = outer_folds(prepared)[0]
    twins = np.setdiff1d(np.arange(ROWS), fold.held_out)[:40]
    groups = given.groups.copy()
    groups[twins] = groups[fold.held_out[:40]]
    paired = replace(given, groups=groups)
    turned = given.targets.copy()
    turned[twins] = (turned[twins] + 1) % CLASSES
    fits = [fit_of(f"{n}", guesses(given.targets, 0.4, seed=n), prepared) for n in range(3)]
    before, _ = mixture(fits, paired, prepared)
    after, _ = mixture(fits, replace(paired, targets=turned), prepared)
    assert before.folds[0].weights == after.folds[0].weights


def test_selecting_among_guesses_gains_nothing() -> None:
    honest, selected = [], []
    for seed in range(60):
        given, prepared = world(seed)
        fits = [
            fit_of(f"{n}", guesses(given.targets, 0.0, seed=100 * seed + n), prepared)
            for n in range(6)
        ]
        fit, weights = mixture(fits, given, prepared)
        alone = np.mean([macro_f1(given.targets, each.y_pred, CLASSES) for each in fits])
        honest.append(macro_f1(given.targets, fit.y_pred, CLASSES) - alone)
        every = sum(w * each.mean for w, each in zip(weights, fits, strict=True))
        selected.append(macro_f1(given.targets, np.argmax(every, axis=1), CLASSES) - alone)
    error = np.std(honest) / np.sqrt(len(honest))
    assert abs(np.mean(honest)) < 3 * error
    assert np.mean(selected) > 3 * error  # what would be reported if scored where selected


def test_equal_candidates_leave_the_first() -> None:
    given, _ = world(3)
    same = guesses(given.targets, 0.7, seed=0)
    rows = np.arange(ROWS)
    assert select(np.stack([same.mean(axis=0)] * 3), given, rows) == [1, 0, 0]


@pytest.mark.parametrize("metric", ["macro_f1", "accuracy", "auroc"])
def test_any_metric_can_be_selected_for(metric: str) -> None:
    given, _ = world(4)
    told = Table(given.views, given.targets, given.groups, given.guids, given.labels, metric)
    both = [guesses(given.targets, share, seed=5).mean(axis=0) for share in (0.0, 0.9)]
    weights = select(np.stack(both), told, np.arange(ROWS))
    assert weights[1] > 0.6
    assert sum(weights) == pytest.approx(1)


def test_an_ensemble_weighs_its_members_and_the_prior_stands_for_what_they_cannot_read() -> None:
    members = (Told("a"), Told("b"))
    ensemble = Ensemble(
        members=members,
        weights=equal_weights(2),
        labels=tuple("abc"),
        prior=np.array([0.5, 0.3, 0.2], dtype=np.float32),
        modality={"words": "text"},
        dims={"words": 6},
    )
    views = noise(4)
    views.present["words"][2] = False
    found = ensemble.predict_proba(views.only(["words"]))
    assert found[2] == pytest.approx([0.5, 0.3, 0.2])
    assert found[0] == pytest.approx([1 / 3] * 3)
    assert not any(isinstance(member, Member) for member in ensemble.members)

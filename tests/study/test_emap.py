"""EMAP: additive models are their own projection, interactions are lost in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pairfuse.arrays import Ints
from pairfuse.errors import ConfigError
from pairfuse.features.views import Views
from pairfuse.fusion.baselines import BASELINES, fit_baseline
from pairfuse.fusion.blocks import HeadShape
from pairfuse.fusion.ensemble import Ensemble, Member, equal_weights, softmax
from pairfuse.fusion.fitting import RowSet, ScaledRowSet, prepare_rows
from pairfuse.fusion.heads import FusionNetwork
from pairfuse.fusion.scaling import fit_scaling
from pairfuse.fusion.training import FittedModel
from pairfuse.recipe import Recipe
from pairfuse.stats.bootstrap import draw_groups
from pairfuse.stats.metrics import macro_f1
from pairfuse.study.crossfit import CrossFit, cross_fit
from pairfuse.study.emap import (
    PARTNERS,
    Projection,
    additive_logits,
    emap,
    interaction,
)
from pairfuse.study.folds import outer_folds
from toys import fusion as toys

ROWS = np.arange(40)


def _member(head: str, views: Views, *, seed: int = 0) -> Member:
    """An untrained model over these views."""
    scaling = fit_scaling(views, seed=0)
    dims = {view: part.axes.shape[1] for view, part in scaling.items()}
    shape = HeadShape(dict(sorted(dims.items())), dict(views.modality), 3, 8)
    found = FusionNetwork(head, shape, seed=seed).named_parameters()
    parameters = {name: values.detach().numpy() for name, values in found}
    return Member(FittedModel(shape, Recipe(head=head, hidden_dim=8), parameters), scaling)


def _joined(members: Sequence[Member], weights: Sequence[float] = ()) -> Ensemble:
    """An ensemble of these members."""
    views = {view for member in members for view in member.views}
    return Ensemble(
        members=tuple(members),
        weights=tuple(weights) or equal_weights(len(members)),
        labels=("a", "b", "c"),
        prior=np.full(3, 1 / 3, dtype=np.float32),
        modality={view: toys.MODALITY.get(view, "text") for view in views},
        dims={view: len(part.mean) for m in members for view, part in m.scaling.items()},
    )


def _by_hand(views: Views, ensemble: Ensemble, rows: Ints) -> object:
    """The projection by its definition, pair by pair."""
    text, image = (each.ravel() for each in np.meshgrid(rows, rows, indexing="ij"))
    index = {"text": text, "image": image}
    crossed = Views(
        {view: x[index[views.modality[view]]] for view, x in views.features.items()},
        {view: x[index[views.modality[view]]] for view, x in views.present.items()},
        views.modality,
    )
    each = [
        weight * member.predict_proba(crossed)
        for member, weight in zip(ensemble.members, ensemble.weights, strict=True)
    ]
    f = np.log(np.sum(each, axis=0)).reshape(len(rows), len(rows), -1)
    return f.mean(axis=1) + f.mean(axis=0) - f.mean(axis=(0, 1))


@pytest.mark.parametrize("head", toys.POOLED_HEADS)
def test_the_projection_is_what_its_definition_says(head: str) -> None:
    views = toys.noise(40, dims={"words": 4, "more": 3, "look": 5})
    views = toys.without(toys.without(views, "look", [1, 7]), "words", [3, 7])
    ensemble = _joined([_member(head, views, seed=seed) for seed in range(2)])
    found = additive_logits(views, ensemble, seed=0)
    assert found == pytest.approx(_by_hand(views, ensemble, ROWS), abs=1e-5)


def test_the_projection_of_a_mixture_weighs_its_members() -> None:
    views = toys.without(toys.noise(40), "look", [1, 7])
    members = [_member(head, views) for head in ("linear", "bilinear")]
    found = additive_logits(views, _joined(members, [0.9, 0.1]), seed=0)
    assert found == pytest.approx(_by_hand(views, _joined(members, [0.9, 0.1]), ROWS), abs=1e-5)
    assert found != pytest.approx(_by_hand(views, _joined(members), ROWS), abs=0.01)


@pytest.mark.parametrize("name", BASELINES)
def test_the_projection_of_a_baseline_is_what_its_definition_says(name: str) -> None:
    views, targets = toys.told_by_words(60)
    fitted = fit_baseline(
        BASELINES[name], views, targets, 3, train=np.arange(50), val=np.arange(50, 60), seed=0
    )
    ensemble = replace(_joined([_member("linear", views)]), members=(fitted,), weights=(1.0,))
    found = additive_logits(views.rows(ROWS), ensemble, seed=0)
    assert softmax(found) == pytest.approx(
        softmax(_by_hand(views, ensemble, ROWS)),
        abs=1e-4,  # type: ignore[arg-type]
    )


def test_an_additive_model_is_its_own_projection() -> None:
    views = toys.noise(40)
    member = _member("linear", views)
    found = softmax(additive_logits(views, _joined([member]), seed=0))
    assert found == pytest.approx(member.predict_proba(views), abs=1e-5)


def test_drawn_partners_do_not_matter_to_an_additive_model() -> None:
    views = toys.noise(40)
    member = _member("linear", views)
    found = softmax(additive_logits(views, _joined([member]), partners=5, seed=0))
    assert found == pytest.approx(member.predict_proba(views), abs=1e-5)


def test_drawn_partners_come_close_to_all() -> None:
    views = toys.noise(400)
    ensemble = _joined([_member("projected", views, seed=1)])
    exact = additive_logits(views, ensemble, partners=400, seed=0)
    drawn = additive_logits(views, ensemble, seed=0)
    assert np.abs(exact - drawn).max() < 0.1 * exact.std(axis=0).min()
    assert not np.array_equal(exact, drawn)


def test_same_seed_same_partners() -> None:
    views = toys.noise(60)
    ensemble = _joined([_member("concat", views)])
    first, again, other = (
        additive_logits(views, ensemble, partners=9, seed=seed) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("view", ["words", "look"])
def test_a_model_of_one_modality_is_its_own_projection(view: str) -> None:
    views = toys.noise(40)
    member = _member("concat", views.only([view]))
    found = softmax(additive_logits(views, _joined([member]), partners=7, seed=0))
    assert found == pytest.approx(member.predict_proba(views), abs=1e-5)


def _sets(rows: int, *, repeats: int = 2, members: int = 2) -> list[RowSet]:
    """Three folds, each held out by so many row sets, in repeats."""
    out = []
    for repeat in range(repeats):
        order = np.random.default_rng(repeat).permutation(rows)
        for held in np.array_split(order, 3):
            rest = np.setdiff1d(order, held)
            out += [RowSet(rest[20:], rest[:20], np.sort(held), repeat)] * members
    return out


def test_a_joint_view_cannot_be_crossed() -> None:
    drawn, targets = toys.told_by_words(90)
    views = Views(drawn.features, drawn.present, {**drawn.modality, "look": "joint"})
    fit, prepared = _fitted(views, targets, toys.PLAIN)
    with pytest.raises(ConfigError, match="cannot be told from look, which saw both"):
        emap(views, fit.folds, prepared, seed=0)


def _fitted(views: Views, targets: Ints, recipe: Recipe) -> tuple[CrossFit, list[ScaledRowSet]]:
    prepared = prepare_rows(views, _sets(len(targets)), seed=0)
    table = toys.table(views, targets)
    return cross_fit(table, prepared, [recipe], seed=0)[0], prepared


XOR = Recipe(
    head="concat", hidden_dim=32, dropout=0.0, label_smoothing=0.0, balance="none",
    epochs=60, patience=60, batch_size=32, lr=0.02, n_components=2,
)  # fmt: skip


def test_an_exclusive_or_is_lost_in_the_projection() -> None:
    views, targets = toys.told_by_both(300)
    fit, prepared = _fitted(views, targets, XOR)
    projection = emap(views, fit.folds, prepared, seed=0)
    found = interaction(projection, targets, draw_groups(np.arange(300), seed=0, resamples=500))
    assert found.fused.value > 0.85
    assert found.additive.value < 0.62
    assert found.is_there


def test_what_the_text_tells_is_kept_and_no_interaction_is_claimed() -> None:
    views, targets = toys.told_by_words(300)
    fit, prepared = _fitted(views, targets, toys.PLAIN)
    projection = emap(views, fit.folds, prepared, seed=0)
    found = interaction(projection, targets, draw_groups(np.arange(300), seed=0, resamples=500))
    assert found.additive.value > found.fused.value - 0.05
    assert not found.is_there
    assert json.loads(json.dumps(found.as_dict()))["interaction"].keys() == {"value", "low", "high"}


def test_the_fused_side_is_what_cross_fitting_gave() -> None:
    views, targets = toys.told_by_words(150)
    views = toys.without(toys.without(views, "words", [4, 9]), "look", [9])
    fit, prepared = _fitted(views, targets, toys.PLAIN)
    projection = emap(views, fit.folds, prepared, seed=0)
    assert projection.fused == pytest.approx(fit.probabilities, abs=1e-5)
    assert projection.additive[:, 9] == pytest.approx(np.tile(fit.ensemble.prior, (2, 1)))


def test_rows_are_projected_by_members_that_held_them_out() -> None:
    views, targets = toys.told_by_words(90)
    fit, prepared = _fitted(views, targets, toys.PLAIN)
    projection = emap(views, fit.folds, prepared, seed=0)
    fold = outer_folds(prepared)[4]
    held = views.rows(fold.held_out)
    wanted = softmax(additive_logits(held, fit.folds[4], seed=0))
    members = [fit.ensemble.members[place] for place in fold.sets]
    assert list(fit.folds[4].members) == members
    assert len(fold.held_out) < PARTNERS  # exact, whatever the seed
    assert projection.additive[fold.repeat, fold.held_out] == pytest.approx(wanted, abs=1e-6)


def test_equal_projections_differ_by_nothing() -> None:
    random = np.random.default_rng(0)
    same = random.dirichlet([1] * 3, size=(2, 50)).astype(np.float32)
    targets = random.integers(3, size=50)
    found = interaction(
        Projection(same, same), targets, draw_groups(np.arange(50), seed=0, resamples=200)
    )
    assert found.interaction.value == found.interaction.low == found.interaction.high == 0
    assert not found.is_there
    mean = np.mean([macro_f1(targets, each, 3) for each in same.argmax(axis=-1)])
    assert found.fused.value == pytest.approx(mean)

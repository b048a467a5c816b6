"""Token heads in training: they keep the promises of the others, and see what pooling hides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pairfuse.arrays import Ints
from pairfuse.encoders.tokens import Tokens, offsets_of
from pairfuse.errors import ConfigError
from pairfuse.features.store import FeatureStore
from pairfuse.features.token_views import TokenRows, open_tokens
from pairfuse.features.views import Views
from pairfuse.fusion import rowbank
from pairfuse.fusion.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pairfuse.fusion.ensemble import Ensemble, Member, class_prior, equal_weights
from pairfuse.fusion.fitting import RowSet, fit_members, prepare_rows
from pairfuse.recipe import Recipe
from toys.fusion import PLAIN, TOKEN_HEADS

DIM, ROWS = 4, 160
RECIPE = replace(
    PLAIN,
    head="cross_attention",
    hidden_dim=8,
    n_components=4,
    epochs=30,
    patience=30,
    batch_size=16,
)
MODALITY = {"words": "text", "look": "image"}


def sequences(folder: Path, view: str, values: list[np.ndarray]) -> TokenRows:
    store = FeatureStore(folder / view / "parts", view, "text", "ab" * 32, 2, token_dim=DIM)
    keys = [number.to_bytes(32, "big") for number in range(len(values))]
    tokens = Tokens(np.concatenate(values).astype(np.float16), offsets_of([len(v) for v in values]))
    store.add(keys, np.zeros((len(keys), 2), np.float32), tokens)
    return open_tokens(store, list(keys))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Views, Ints]:
    """The label is whether one of the words has a high first number; pooled features are noise."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("tokens")
    targets = random.integers(0, 2, ROWS)
    words, look = [], []
    for target in targets.tolist():
        own = random.normal(size=(random.integers(2, 6), DIM))
        own[:, 0] = -1.0
        own[random.integers(len(own)), 0] = 3.0 if target else -1.0
        words.append(own)
        look.append(random.normal(size=(3, DIM)))
    features = {view: random.normal(size=(ROWS, 2)).astype(np.float32) for view in MODALITY}
    tokens = {
        "words": sequences(folder, "words", words),
        "look": sequences(folder, "look", look),
    }
    there = {view: np.ones(ROWS, dtype=bool) for view in MODALITY}
    there["look"][:7] = False
    return Views(features, there, MODALITY, tokens), targets.astype(np.int64)  # type: ignore[arg-type]


def folds(count: int = 2) -> list[RowSet]:
    order = np.random.default_rng(1).permutation(ROWS)
    parts = np.array_split(order, count)
    out = []
    for number, held in enumerate(parts):
        rest = np.concatenate([part for n, part in enumerate(parts) if n != number])
        out.append(RowSet(rest[16:], rest[:16], held))
    return out


def fitted(views: Views, targets: Ints, rows: list[RowSet], recipe: Recipe) -> list[Member]:
    prepared = prepare_rows(views, rows, seed=0)
    return fit_members(views, targets, prepared, [recipe], num_classes=2, seed=0)[0]


@pytest.fixture(scope="module", params=TOKEN_HEADS)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return replace(RECIPE, head=request.param)


@pytest.fixture(scope="module")
def members(world: tuple[Views, Ints], recipe: Recipe) -> list[Member]:
    return fitted(*world, folds(), recipe)


def test_a_token_head_learns_what_one_token_says(
    world: tuple[Views, Ints], members: list[Member]
) -> None:
    views, targets = world
    for member, rows in zip(members, folds(), strict=True):
        y_pred = member.predict_proba(views.rows(rows.held_out)).argmax(axis=1)
        assert (y_pred == targets[rows.held_out]).mean() > 0.85


def test_what_was_predicted_in_training_is_what_the_member_predicts(
    world: tuple[Views, Ints], members: list[Member]
) -> None:
    held = members[0].model.held_out
    assert held is not None
    again = members[0].predict_proba(world[0].rows(folds()[0].held_out))
    assert np.allclose(np.exp(held) / np.exp(held).sum(1, keepdims=True), again, atol=1e-5)


def test_a_rows_probabilities_do_not_depend_on_the_others(
    world: tuple[Views, Ints], members: list[Member]
) -> None:
    some = members[0].predict_proba(world[0].rows(np.array([3, 90, 20])))
    whole = members[0].predict_proba(world[0])
    assert np.allclose(some, whole[[3, 90, 20]], atol=1e-5)


def test_tokens_read_at_each_step_give_what_tokens_held_in_memory_give(
    world: tuple[Views, Ints],
    members: list[Member],
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rowbank, "HELD_BYTES", 0)
    read = fitted(*world, folds(), recipe)
    for one, other in zip(read, members, strict=True):
        assert np.array_equal(one.predict_proba(world[0]), other.predict_proba(world[0]))


def test_a_model_comes_out_the_same_alone_and_in_a_stack(
    world: tuple[Views, Ints], members: list[Member], recipe: Recipe
) -> None:
    [alone] = fitted(*world, folds()[:1], recipe)
    assert np.allclose(alone.predict_proba(world[0]), members[0].predict_proba(world[0]), atol=1e-3)


def test_a_saved_token_model_predicts_the_same(
    world: tuple[Views, Ints], members: list[Member], tmp_path: Path
) -> None:
    views, targets = world
    ensemble = Ensemble(
        members=tuple(members),
        weights=equal_weights(len(members)),
        labels=("bad", "good"),
        prior=class_prior(targets, 2),
        modality=views.modality,
        dims=views.dims,
    )
    marks = dict.fromkeys(views.dims, "ab" * 32)
    options = {"encoders": ["words", "look"], "tokens": True}
    save_checkpoint(tmp_path / "m", Checkpoint(ensemble, marks, options, {}, 1.0, 0.1, 0.9))
    again = load_checkpoint(tmp_path / "m").ensemble
    assert np.allclose(again.predict_proba(views), ensemble.predict_proba(views), atol=1e-6)


def test_validation_tokens_leave_the_scaling_alone(world: tuple[Views, Ints]) -> None:
    rows = folds()[0]
    [one] = prepare_rows(world[0], [rows], seed=0)
    [other] = prepare_rows(world[0], [replace(rows, val=rows.held_out)], seed=0)
    assert (one.token_scaling["words"].mean == other.token_scaling["words"].mean).all()


REFUSED = {
    "no tokens": (lambda views: replace(views, tokens={}), RECIPE, "choose bilinear, or keep"),
    "one view without": (
        lambda views: replace(views, tokens={"words": views.tokens["words"]}),
        RECIPE,
        "view 'look' has none; leave its encoder out",
    ),
    "smote": (lambda views: views, replace(RECIPE, balance="smote"), "rows that have no tokens"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_token_head_cannot_read_is_refused(case: str, world: tuple[Views, Ints]) -> None:
    change, recipe, reason = REFUSED[case]
    with pytest.raises(ConfigError, match=reason):
        fitted(change(world[0]), world[1], folds(), recipe)


def test_modality_dropout_and_accumulation_work_on_tokens(world: tuple[Views, Ints]) -> None:
    recipe = replace(RECIPE, modality_dropout=0.5, grad_accumulation_steps=2, epochs=2)
    [member] = fitted(*world, folds()[:1], recipe)
    assert np.isfinite(member.predict_proba(world[0])).all()

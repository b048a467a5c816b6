"""Training: a model is the same in any company, its best epoch is kept, each option works."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pairfuse.arrays import Ints
from pairfuse.features.views import Views
from pairfuse.fusion.training import (
    FittedModel,
    TrainingSpec,
    _confusion,
    drop_modalities,
    predict_logits,
    train_stack,
)
from toys.fusion import (
    PLAIN,
    POOLED_HEADS,
    f1_of,
    farthest,
    noise,
    split_task,
    stand_ins,
    task,
    told_by_words,
    without,
)

COLUMNS = [
    "epoch",
    *("train_loss", "train_accuracy", "train_macro_f1"),
    *("val_loss", "val_accuracy", "val_macro_f1"),
]
#: Recipes of models that are trained at the same time.
OTHERS = [
    {"lr": 0.03, "dropout": 0.0},
    {"lr": 0.001, "dropout": 0.6, "weight_decay": 0.9},
    {"label_smoothing": 0.3, "balance": "weights", "max_grad_norm": 0.05},
    {"epochs": 2},
    {"patience": 1, "lr": 0.5},
    {"monitor": "loss", "warmup_ratio": 0.8},
    {"modality_dropout": 0.5},
]


def _alone(given: TrainingSpec) -> FittedModel:
    [model] = train_stack([given])
    return model


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _lopsided(rows: int, *, seed: int = 0) -> tuple[Views, Ints]:
    """Two classes that overlap; one row in eight is of the second."""
    random = np.random.default_rng(seed)
    targets = (random.random(rows) < 1 / 8).astype(np.int64)
    views = noise(rows, seed=seed)
    views.features["words"][:, 0] += 1.2 * targets
    return views, targets


@pytest.mark.parametrize("head", POOLED_HEADS)
@pytest.mark.parametrize("place", [0, 3, len(OTHERS)])
def test_a_model_is_the_same_alone_and_in_a_stack(head: str, place: int) -> None:
    recipe = replace(PLAIN, head=head, dropout=0.3, balance="weights", epochs=6)
    ours = replace(
        task(recipe, rows=100, seed=5), train=without(task(rows=100).train, "look", [1, 2, 3])
    )
    stack = [
        task(replace(recipe, **changes), rows=70 + 30 * number, seed=number, world=number)
        for number, changes in enumerate(OTHERS)
    ]
    stack += [
        task(recipe, rows=rows, seed=rows, world=rows) for rows in (100, 97, 128)
    ]  # of the same recipe and as many steps: these share a stack with it
    stack.insert(place, ours)
    alone, together = _alone(ours), train_stack(stack)[place]
    assert farthest(alone, together) < 1e-4
    assert alone.best_epoch == together.best_epoch
    difference = predict_logits(alone, ours.val) - predict_logits(together, ours.val)
    assert abs(difference).max() < 1e-3


@pytest.mark.parametrize("head", POOLED_HEADS)
def test_models_of_other_widths_and_views_train_side_by_side(head: str) -> None:
    """Each comes out as it does alone."""
    views = noise(160, dims={"look": 5, "more": 4, "words": 6})
    targets = views.features["words"][:, :3].argmax(axis=1).astype(np.int64)
    narrow = Views(
        {view: values[:, :3] for view, values in views.features.items()},
        views.present,
        views.modality,
    )
    recipe = replace(PLAIN, head=head, dropout=0.3, epochs=6, weight_decay=0.3)
    lossy = replace(recipe, modality_dropout=0.4)
    stack = [
        split_task(given, targets, 60, replace(each, hidden_dim=width), seed=width)
        for given, each, width in (
            (views, lossy, 16),
            (narrow, recipe, 24),
            (views.only(["look", "words"]), lossy, 8),
            (without(narrow, "look", range(20)).only(["look", "more"]), lossy, 18),
        )
    ]
    for given, together in zip(stack, train_stack(stack), strict=True):
        alone = _alone(given)
        assert farthest(alone, together) < 1e-4
        assert alone.shape == together.shape
        assert alone.history[-1]["val_loss"] == pytest.approx(together.history[-1]["val_loss"])


def test_modality_dropout_trains_the_stand_ins_of_views_that_are_always_there() -> None:
    for rate, learnt in ((0.0, False), (0.3, True)):
        found = stand_ins(_alone(task(replace(PLAIN, modality_dropout=rate))))
        assert [bool(vector.detach().any()) for vector in found.values()] == [learnt, learnt]


def test_dropout_keeps_no_trace_in_what_others_draw() -> None:
    torch.manual_seed(1)
    _alone(task(replace(PLAIN, dropout=0.3, epochs=1)))
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))


def _left(rate: float, *, step: int = 0, **hidden: int) -> dict[str, torch.Tensor]:
    """What 4,000 rows of two texts and an image still have, of which some lack a view already."""
    modality = {"one": "text", "two": "text", "look": "image"}
    present = {view: torch.ones(1, 4000, dtype=torch.bool) for view in modality}
    for view, row in hidden.items():
        present[view][:, :row] = False
    uniform = torch.rand(4000, 2, generator=torch.Generator().manual_seed(step))
    return drop_modalities(present, modality, uniform, rate=rate)


def test_modality_dropout_hides_one_modality_in_its_share_of_rows() -> None:
    assert all(there.all() for there in _left(0.0).values())
    left = _left(0.4)
    assert torch.equal(left["one"], left["two"])
    for view in left:
        assert (~left[view]).float().mean() == pytest.approx(0.2, abs=0.03)
    assert (left["one"] | left["look"]).all()


def test_modality_dropout_takes_no_row_its_only_modality() -> None:
    left = _left(0.9, look=1000)
    assert left["one"][0, :1000].all()
    assert not left["look"][0, :1000].any()
    assert not left["one"][0, 1000:].all()


def test_modality_dropout_hides_all_tokens_of_a_view() -> None:
    present = {view: torch.ones(1, 500, 3, dtype=torch.bool) for view in ("words", "look")}
    present["words"][0, :, 2] = False
    uniform = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    left = drop_modalities(present, {"words": "text", "look": "image"}, uniform, rate=0.5)
    assert 0.5 < left["words"][0, :, :2].all(dim=1).float().mean() < 0.95
    assert torch.equal(left["words"][..., 0], left["words"][..., 1])
    assert not left["words"][..., 2].any()


def test_modality_dropout_helps_where_the_modality_is_missing_later() -> None:
    """Both views tell the label, the text better; a model that never lost it leans on it."""
    views, targets = told_by_words(700)
    tells = views.features["words"][:, :5]
    noisy = tells + np.random.default_rng(1).normal(size=tells.shape).astype(np.float32)
    views = Views({**views.features, "look": noisy}, views.present, views.modality)
    found = []
    for rate in (0.0, 0.5):
        given = split_task(views, targets, 300, replace(PLAIN, modality_dropout=rate))
        bare = without(given.val, "words", slice(None))
        found.append(f1_of(_alone(given), bare, given.val_targets))
    assert found[1] > found[0] + 0.03


def test_modality_dropout_in_pieces_equals_that_of_the_whole_batch() -> None:
    recipe = replace(PLAIN, epochs=4, modality_dropout=0.5, lr=0.003)
    whole, pieces = (
        _alone(task(replace(recipe, grad_accumulation_steps=n), rows=101)) for n in (1, 4)
    )
    assert farthest(whole, pieces) < 1e-4


def test_held_rows_get_the_logits_of_the_kept_model() -> None:
    given = replace(task(PLAIN), held_out=noise(7, seed=9))
    model = _alone(given)
    assert np.array_equal(model.held_out, predict_logits(model, given.held_out))


def test_a_watcher_may_stop_the_training() -> None:
    stack = [task(PLAIN, seed=seed) for seed in range(3)]
    models = train_stack(stack, on_epoch=lambda epoch, values: epoch >= 4)
    assert [len(model.history) for model in models] == [4, 4, 4]
    assert all(model.parameters for model in models)


def test_the_stack_lets_models_stop_at_their_own_epoch() -> None:
    recipe = replace(PLAIN, lr=0.5, epochs=60, patience=3)
    stack = [task(recipe, seed=seed, world=seed) for seed in range(4)]
    models = train_stack(stack)
    assert len({len(model.history) for model in models}) > 1
    for given, model in zip(stack, models, strict=True):
        assert len(model.history) == model.best_epoch + 3
        assert len(model.history) == len(_alone(given).history)


def test_models_of_other_epochs_stop_at_theirs() -> None:
    stack = [task(replace(PLAIN, epochs=epochs)) for epochs in (2, 7, 4)]
    assert [len(model.history) for model in train_stack(stack)] == [2, 7, 4]


def test_a_model_that_stays_goes_on_as_if_it_were_alone() -> None:
    """Another of its stack has stopped long before."""
    recipe = replace(PLAIN, dropout=0.3, epochs=20, patience=4, lr=0.05)
    stack = [task(recipe, seed=seed, world=seed) for seed in range(4)]
    models = train_stack(stack)
    longest = max(range(4), key=lambda number: len(models[number].history))
    assert min(len(model.history) for model in models) < len(models[longest].history)
    assert farthest(models[longest], _alone(stack[longest])) < 1e-3


def test_the_same_seed_gives_the_same_model() -> None:
    recipe = replace(PLAIN, dropout=0.4)
    one, other = _alone(task(recipe, seed=3)), _alone(task(recipe, seed=3))
    assert farthest(one, other) == 0
    assert one.history == other.history


def test_another_seed_gives_another_model() -> None:
    assert farthest(_alone(task(seed=3)), _alone(task(seed=4))) > 0.01


@pytest.mark.parametrize("monitor", ["macro_f1", "loss"])
def test_the_best_epoch_is_the_one_kept(monitor: str) -> None:
    given = task(replace(PLAIN, monitor=monitor, lr=0.2, epochs=15, patience=15))
    model = _alone(given)
    sign = 1 if monitor == "macro_f1" else -1
    watched = [sign * row[f"val_{monitor}"] for row in model.history]
    assert model.best_value == max(watched)
    assert model.best_epoch == 1 + watched.index(max(watched))
    assert model.best_epoch < len(model.history), "the last epoch is the best: this shows nothing"


def test_the_kept_parameters_give_the_validation_score_of_the_best_epoch() -> None:
    given = task(replace(PLAIN, lr=0.2, epochs=15, patience=15))
    model = _alone(given)
    best = model.history[model.best_epoch - 1]
    assert f1_of(model, given.val, given.val_targets) == pytest.approx(best["val_macro_f1"])
    chances = _softmax(predict_logits(model, given.val))
    loss = -np.log(chances[np.arange(len(chances)), given.val_targets]).mean()
    assert loss == pytest.approx(best["val_loss"], abs=1e-4)


@pytest.mark.parametrize("patience", [1, 3, 6])
def test_training_stops_when_patience_is_used_up(patience: int) -> None:
    given = task(replace(PLAIN, lr=0.5, epochs=60, patience=patience))
    model = _alone(given)
    assert len(model.history) == model.best_epoch + patience < 60


def test_each_monitor_keeps_the_epoch_that_is_best_by_it() -> None:
    recipe = replace(PLAIN, lr=0.2, epochs=15, patience=15)
    for monitor, column, sign in (("macro_f1", "val_macro_f1", 1), ("loss", "val_loss", -1)):
        model = _alone(task(replace(recipe, monitor=monitor)))
        values = [sign * row[column] for row in model.history]
        assert model.best_epoch == values.index(max(values)) + 1


@pytest.mark.parametrize("accumulate", [2, 4, 32])
@pytest.mark.parametrize("rows", [128, 101])
def test_accumulated_pieces_equal_the_whole_batch(accumulate: int, rows: int) -> None:
    recipe = replace(PLAIN, epochs=4, balance="weights", lr=0.003)
    whole = _alone(task(recipe, rows=rows))
    pieces = _alone(task(replace(recipe, grad_accumulation_steps=accumulate), rows=rows))
    assert farthest(whole, pieces) < 1e-4


def test_class_weights_raise_the_recall_of_the_rare_class() -> None:
    found = {}
    for balance in ("none", "weights"):
        recipe = replace(PLAIN, balance=balance, balance_strength=1.0, monitor="loss")
        given = split_task(*_lopsided(800), 400, recipe)
        y_pred = predict_logits(_alone(given), given.val).argmax(axis=1)
        found[balance] = (y_pred[given.val_targets == 1] == 1).mean()
    assert found["weights"] > found["none"] + 0.1


def test_label_smoothing_lowers_confidence() -> None:
    sure = [
        _softmax(predict_logits(_alone(given), given.val)).max(axis=1).mean()
        for given in (task(replace(PLAIN, label_smoothing=s, epochs=20)) for s in (0.0, 0.3))
    ]
    assert sure[1] < sure[0] - 0.05


def test_weight_decay_shrinks_the_weights() -> None:
    sizes = [
        abs(_alone(task(replace(PLAIN, weight_decay=decay))).parameters["head.hidden.weight"])
        for decay in (0.0, 5.0)
    ]
    assert sizes[1].mean() < 0.9 * sizes[0].mean()


def test_history_has_a_row_for_each_epoch_with_the_same_columns() -> None:
    model = _alone(task(PLAIN))
    assert [list(row) for row in model.history] == [COLUMNS] * PLAIN.epochs
    assert [row["epoch"] for row in model.history] == list(range(1, PLAIN.epochs + 1))
    for row in model.history:
        assert all(
            0 <= row[name] <= 1 for name in COLUMNS if "loss" not in name and name != "epoch"
        )


def test_training_learns_and_history_shows_it() -> None:
    history = _alone(task(PLAIN, rows=300)).history
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert history[-1]["val_macro_f1"] > history[0]["val_macro_f1"]


def test_a_watcher_sees_every_epoch_and_may_end_the_training() -> None:
    seen: list[tuple[int, list[float]]] = []

    def watch(epoch: int, values: object) -> None:
        seen.append((epoch, list(values)))  # type: ignore[call-overload]
        if epoch == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_stack([task(PLAIN), task(PLAIN, seed=1)], on_epoch=watch)
    assert [epoch for epoch, _ in seen] == [1, 2, 3]
    assert all(len(values) == 2 for _, values in seen)
    assert seen[0][1] <= seen[2][1]


def test_a_row_alone_gets_the_logits_it_gets_in_company() -> None:
    given = task(PLAIN)
    model = _alone(given)
    together = predict_logits(model, given.val)
    for row in (0, 17, 59):
        alone = predict_logits(model, given.val.rows(np.array([row])))
        assert np.allclose(alone[0], together[row], atol=1e-5)


@pytest.mark.parametrize("rows", [1, 31, 32, 33])
def test_any_number_of_rows_can_be_trained_on(rows: int) -> None:
    views, targets = told_by_words(rows + 20)
    given = split_task(views, targets, 20, replace(PLAIN, epochs=2))
    model = _alone(given)
    assert all(np.isfinite(values).all() for values in model.parameters.values())


def test_steps_are_counted_for_each_model_by_its_own_rows() -> None:
    short = replace(PLAIN, epochs=3)
    stack = [task(short, rows=40), task(short, rows=200)]
    for model, given in zip(train_stack(stack), stack, strict=True):
        assert farthest(model, _alone(given)) < 1e-5


def test_confusion_is_counted_in_whole_numbers() -> None:
    """A float32 count stands still at 16,777,216."""
    rows, mask = torch.zeros(1, 3, dtype=torch.int64), torch.tensor([[True, True, False]])
    found = _confusion(rows, rows, mask, 2)
    assert found.dtype == torch.int64
    assert found.tolist() == [[2, 0, 0, 0]]

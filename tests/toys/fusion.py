"""Tiny worlds for heads, training and study: drawn features whose labels follow a known rule."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from pairfuse.arrays import Ints
from pairfuse.console import log
from pairfuse.features.views import Views
from pairfuse.fusion.blocks import HeadShape
from pairfuse.fusion.fitting import RowSet
from pairfuse.fusion.heads import HEADS, FusionNetwork
from pairfuse.fusion.training import FittedModel, TrainingSpec, build_network, predict_logits
from pairfuse.recipe import Recipe
from pairfuse.stats.metrics import macro_f1
from pairfuse.study.crossfit import Table

torch.set_num_threads(1)

POOLED_HEADS = [name for name, spec in HEADS.items() if spec.reads == "pooled"]
TOKEN_HEADS = [name for name, spec in HEADS.items() if spec.reads == "tokens"]

DIMS = {"words": 6, "look": 5}
MODALITY = {"words": "text", "look": "image"}
#: Small and quick; nothing random but what a test turns on.
PLAIN = Recipe(
    hidden_dim=16,
    dropout=0.0,
    label_smoothing=0.0,
    balance="none",
    epochs=12,
    patience=12,
    batch_size=32,
    lr=0.01,
)


def noise(rows: int, *, seed: int = 0, dims: dict[str, int] | None = None) -> Views:
    """Views of standard normal features, all present."""
    random = np.random.default_rng(seed)
    dims = dims or DIMS
    return Views(
        {view: random.normal(size=(rows, dim)).astype(np.float32) for view, dim in dims.items()},
        {view: np.ones(rows, dtype=bool) for view in dims},
        {view: MODALITY.get(view, "text") for view in dims},
    )


def without(views: Views, view: str, rows: object) -> Views:
    """The same views with one of them missing in these rows."""
    features, present = dict(views.features), dict(views.present)
    features[view], present[view] = features[view].copy(), present[view].copy()
    features[view][rows] = 0
    present[view][rows] = False
    return Views(features, present, views.modality)


def reversed_views(views: Views) -> Views:
    """The same views, named in the opposite order."""
    return views.only(list(views.features)[::-1])


def told_by_words(rows: int, *, classes: int = 3, seed: int = 0) -> tuple[Views, Ints]:
    """The label is the largest of the first features of the text view; images are noise."""
    views = noise(rows, seed=seed)
    return views, views.features["words"][:, :classes].argmax(axis=1).astype(np.int64)


def told_by_both(rows: int, *, seed: int = 0) -> tuple[Views, Ints]:
    """The label is whether two signs, one of each view, agree: neither view alone tells it."""
    views = noise(rows, seed=seed, dims={"words": 2, "look": 2})
    signs = [views.features[view][:, 0] > 0 for view in ("words", "look")]
    return views, (signs[0] == signs[1]).astype(np.int64)


def task(
    recipe: Recipe = PLAIN, *, rows: int = 150, val: int = 60, seed: int = 0, world: int = 0
) -> TrainingSpec:
    """One model to train in the world where the text tells the label."""
    views, targets = told_by_words(rows + val, seed=world)
    return split_task(views, targets, val, recipe, seed=seed)


def split_task(
    views: Views, targets: Ints, val: int, recipe: Recipe, *, seed: int = 0
) -> TrainingSpec:
    """The last rows watch, the others train."""
    first = np.arange(len(targets) - val)
    last = np.arange(len(targets) - val, len(targets))
    classes = int(targets.max()) + 1
    return TrainingSpec(
        recipe, views.rows(first), targets[first], views.rows(last), targets[last], classes, seed
    )


def network(head: str, *, classes: int = 3, width: int = 8) -> FusionNetwork:
    """An untrained network over DIMS."""
    return FusionNetwork(head, HeadShape(DIMS, MODALITY, classes, width))


def tensors(views: Views) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Features and presence as a head takes them."""
    return (
        {view: torch.from_numpy(x) for view, x in views.features.items()},
        {view: torch.from_numpy(x) for view, x in views.present.items()},
    )


def f1_of(model: FittedModel, views: Views, targets: Ints) -> float:
    """Macro-F1 of one model on scaled rows."""
    y_pred = predict_logits(model, views).argmax(axis=1)
    return macro_f1(targets, y_pred, int(targets.max()) + 1)


def farthest(one: FittedModel, other: FittedModel) -> float:
    """The largest difference of any parameter."""
    assert one.parameters.keys() == other.parameters.keys()
    return max(float(abs(one.parameters[n] - other.parameters[n]).max()) for n in one.parameters)


def stand_ins(model: FittedModel) -> dict[str, torch.Tensor]:
    """The learnt vectors for missing views."""
    found = build_network(model).named_parameters()
    return {name: values for name, values in found if name.startswith("missing")}


def table(views: Views, targets: Ints, *, groups: Ints | None = None) -> Table:
    """A table with one group for each row unless groups are given."""
    rows = len(targets)
    labels = tuple(f"label-{number}" for number in range(int(targets.max()) + 1))
    own = np.arange(rows, dtype=np.int64)
    guids = tuple(str(row) for row in range(rows))
    return Table(views, targets, own if groups is None else groups, guids, labels)


def halves(rows: int, *, val: int) -> RowSet:
    """Train on the first half less `val` rows, hold out the second half."""
    numbers = np.arange(rows, dtype=np.int64)
    half = rows // 2
    return RowSet(numbers[: half - val], numbers[half - val : half], numbers[half:])


@contextmanager
def warnings_logged() -> Iterator[list[str]]:
    """What the package's logger says meanwhile, whether or not it propagates."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield said
    finally:
        log.removeHandler(handler)

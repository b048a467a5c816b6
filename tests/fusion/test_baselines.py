from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from pairfuse.arrays import Ints
from pairfuse.data.pairs import Modality
from pairfuse.features.views import Views
from pairfuse.fusion.baselines import (
    BASELINES,
    Baseline,
    FittedBaseline,
    fit_baseline,
    load_baseline,
)

CLASSES = 3
MODALITY: dict[str, Modality] = {"words": "text", "looks": "image"}
TOLD = ("cold rain", "mild wind", "warm sun")
#: Where a label can be planted: a view, or the raw texts.
TELLING = {
    "linear-text": ("words", "texts"),
    "linear-image": ("looks",),
    "linear-fused": ("words", "looks", "texts"),
    "neighbours": ("words", "looks"),
    "boosting": ("words", "looks"),
}


def world(telling: str = "", *, rows: int = 150) -> tuple[Views, Ints]:
    """Noise, but for one view, or the texts, which tells the label."""
    random = np.random.default_rng(0)
    targets = random.integers(0, CLASSES, rows)
    arrays = {view: random.normal(size=(rows, 5)) for view in MODALITY}
    if telling in arrays:
        arrays[telling][np.arange(rows), targets] += 4
    said = targets if telling == "texts" else random.integers(0, CLASSES, rows)
    texts = [f"{TOLD[each]} today {random.integers(9)}" for each in said]
    return Views.of_arrays(arrays, MODALITY, texts=texts), targets


def fitted(
    baseline: Baseline, views: Views, targets: Ints, *, train: int = 70, val: int = 100
) -> FittedBaseline:
    """Trained on the first rows, chosen on the next."""
    return fit_baseline(
        *(baseline, views, targets, CLASSES),
        train=np.arange(train),
        val=np.arange(train, val),
        seed=0,
    )


@pytest.fixture(params=BASELINES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def baseline(name: str) -> Baseline:
    return BASELINES[name]


def told_by(name: str) -> Views:
    """Views and texts of which some tell what this baseline reads."""
    return world(TELLING[name][0])[0]


@pytest.fixture
def views(name: str) -> Views:
    return told_by(name)


@pytest.fixture
def model(name: str, baseline: Baseline) -> FittedBaseline:
    return fitted(baseline, *world(TELLING[name][0]))


def test_every_row_gets_probabilities(model: FittedBaseline, views: Views) -> None:
    probabilities = model.predict_proba(views)
    assert probabilities.shape == (len(views), CLASSES)
    assert probabilities.dtype == np.float32
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_a_label_is_learnt_wherever_it_is_told(name: str) -> None:
    for telling in TELLING[name]:
        views, targets = world(telling)
        model = fitted(BASELINES[name], views, targets)
        y_pred = model.predict_proba(views.rows(np.arange(100, 150))).argmax(axis=1)
        assert (y_pred == targets[100:]).mean() > 0.7, telling


def test_saved_and_loaded_it_says_the_same(model: FittedBaseline, views: Views) -> None:
    arrays = load(save({n: np.ascontiguousarray(v) for n, v in model.arrays().items()}))
    back = load_baseline(model.description(), arrays)
    assert (back.views, back.reads_texts, back.size) == (model.views, model.reads_texts, model.size)
    np.testing.assert_allclose(back.predict_proba(views), model.predict_proba(views), atol=1e-5)


def test_crossed_is_what_crossed_rows_would_get(model: FittedBaseline, views: Views) -> None:
    texts, images = views.rows(np.arange(4)), views.rows(np.arange(10, 15))
    left, right = (grid.ravel() for grid in np.meshgrid(range(4), range(5), indexing="ij"))
    text, image = texts.rows(left), images.rows(right)
    features = {"words": text.features["words"], "looks": image.features["looks"]}
    rows = replace(text, features=features)
    expected = model.predict_proba(rows).reshape(4, 5, CLASSES)
    np.testing.assert_allclose(model.crossed(texts, images), expected, atol=1e-5)

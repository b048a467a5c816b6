from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from pairfuse.arrays import Ints
from pairfuse.data.pairs import Modality
from pairfuse.errors import ConfigError, DataError
from pairfuse.features.texts import ANALYZERS, Texts
from pairfuse.features.views import Views
from pairfuse.fusion.baselines import (
    BASELINES,
    Baseline,
    FittedBaseline,
    fit_baseline,
    load_baseline,
)
from pairfuse.fusion.boosting import grow_trees
from pairfuse.fusion.ensemble import softmax
from pairfuse.fusion.linear_baseline import fit_softmax
from pairfuse.fusion.plain import Fold
from pairfuse.fusion.tfidf import fit_tfidf

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


def test_views_that_it_does_not_read_change_nothing(model: FittedBaseline, views: Views) -> None:
    features = {view: f if view in model.views else f * 0 + 9 for view, f in views.features.items()}
    other = replace(views, features=features)
    if not model.reads_texts:
        other = other.without_texts()
    assert (model.predict_proba(other) == model.predict_proba(views)).all()


def test_the_same_seed_gives_the_same_model(name: str, model: FittedBaseline, views: Views) -> None:
    again = fitted(BASELINES[name], *world(TELLING[name][0]))
    assert (again.predict_proba(views) == model.predict_proba(views)).all()


def test_a_row_is_judged_without_its_company(model: FittedBaseline, views: Views) -> None:
    alone = np.concatenate([model.predict_proba(views.rows([row])) for row in range(100, 120)])
    np.testing.assert_allclose(alone, model.predict_proba(views)[100:120], atol=1e-5)


def test_a_row_of_a_new_table_is_judged_alike(model: FittedBaseline, views: Views) -> None:
    row = views.rows([120])
    texts = Texts.of([*row.texts.strings]) if row.texts else None
    found = model.predict_proba(replace(row, texts=texts))
    np.testing.assert_allclose(found, model.predict_proba(views)[[120]], atol=1e-5)


def test_what_is_missing_counts_as_zeros(model: FittedBaseline, views: Views) -> None:
    lacking = {view: np.zeros(len(views), dtype=bool) for view in views.features}
    blank = {view: np.zeros_like(values) for view, values in views.features.items()}
    missing = replace(views, features=blank, present=lacking).without_texts()
    found = model.predict_proba(missing)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found == found[0]).all()
    other = Views.of_arrays({"unknown": np.zeros((len(views), 2))})
    assert (model.predict_proba(other) == found).all()


def test_rows_may_be_missing_in_training(baseline: Baseline) -> None:
    views, targets = world("words")
    there = np.arange(len(views)) % 3 > 0
    some = Views.of_arrays(
        *(views.features, views.modality, {"words": there, "looks": ~there}),
        texts=[text if row % 2 else None for row, text in enumerate(views.texts.strings)],
    )
    assert np.isfinite(fitted(baseline, some, targets).predict_proba(some)).all()


def test_a_class_that_was_not_trained_on_gets_nothing(baseline: Baseline) -> None:
    views, targets = world("words")
    rows = np.flatnonzero(targets != 1)
    model = fit_baseline(baseline, views, targets, CLASSES, train=rows[:60], val=rows[60:], seed=0)
    probabilities = model.predict_proba(views)
    assert probabilities.shape == (len(views), CLASSES)
    assert (probabilities[:, 1] == 0).all()


def test_validation_rows_alone_may_have_a_class(baseline: Baseline) -> None:
    views, targets = world("words")
    is_train = (np.arange(150) < 70) & (targets != 1)
    val = np.arange(70, 100)
    args = (baseline, views, targets, CLASSES)
    model = fit_baseline(*args, train=np.flatnonzero(is_train), val=val, seed=0)
    assert (model.predict_proba(views)[:, 1] > 0).all()


def test_without_validation_rows_the_default_is_taken(baseline: Baseline) -> None:
    views, targets = world("words")
    description = fitted(baseline, views, targets, train=100, val=100).description()
    assert description.get("C", 2.0) == 2.0
    assert description.get("k", 40) == 40


def test_one_class_alone_is_certain(baseline: Baseline) -> None:
    views, targets = world("words")
    model = fitted(baseline, views, np.zeros_like(targets))
    np.testing.assert_allclose(model.predict_proba(views)[:, 0], 1, atol=1e-6)


def test_a_baseline_of_nothing_is_refused() -> None:
    views, targets = world()
    with pytest.raises(ConfigError, match="no view to read"):
        fitted(BASELINES["linear-image"], views.only(["words"]), targets)


def test_a_view_of_another_width_is_refused(model: FittedBaseline, views: Views) -> None:
    wide = {view: np.ones((2, 9)) for view in views.features}
    with pytest.raises(DataError, match="has width 9"):
        model.predict_proba(Views.of_arrays(wide, MODALITY))


def _without_last(values: NDArray[Any]) -> NDArray[Any]:
    return values[:-1]


def _not_finite(values: NDArray[Any]) -> NDArray[Any]:
    return np.full_like(values, np.nan if values.dtype.kind == "f" else 10**6)


def _other_type(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.complex64)


@pytest.mark.parametrize("change", [_without_last, _not_finite, _other_type])
def test_an_array_that_does_not_fit_is_refused(
    model: FittedBaseline, change: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    for key, values in model.arrays().items():
        if not values.size or (key.startswith("terms/") and change is not _other_type):
            continue  # a term without its last letter is one too
        with pytest.raises(ValueError):
            load_baseline(model.description(), {**model.arrays(), key: change(values)})


def test_an_array_that_lacks_is_refused(model: FittedBaseline) -> None:
    for key in model.arrays():
        rest = {name: values for name, values in model.arrays().items() if name != key}
        with pytest.raises(ValueError):
            load_baseline(model.description(), rest)


@pytest.mark.parametrize("value", [None, -1, 1.5, "much", [], {}, {"words": "smell"}, 10**30])
def test_a_description_that_does_not_fit_is_refused(model: FittedBaseline, value: Any) -> None:
    description = model.description()
    for key in set(description) - {"C", "terms"}:
        with pytest.raises(ValueError):
            load_baseline({**description, key: value}, model.arrays())
    with pytest.raises(ValueError):
        load_baseline(value, model.arrays())


def test_a_tree_that_leads_in_circles_is_refused() -> None:
    model = fitted(BASELINES["boosting"], *world("words"))
    arrays = model.arrays()
    inner = int(np.flatnonzero(arrays["trees/left"] > np.arange(len(arrays["trees/left"])))[1])
    left = arrays["trees/left"].copy()
    left[inner] = 0
    with pytest.raises(ValueError, match="leads back"):
        load_baseline(model.description(), {**arrays, "trees/left": left})


def test_the_linear_model_is_that_of_scikit_learn() -> None:
    views, targets = world("words")
    blocks = [views.features["words"], sparse.csr_array(views.features["looks"])]
    weights = fit_softmax(blocks, targets, CLASSES, C=0.7, ftol=1e-12)
    theirs = LogisticRegression(C=0.7, class_weight="balanced", tol=1e-8, max_iter=1000)
    theirs.fit(np.asarray(views), targets)
    np.testing.assert_allclose(weights[:-1].T, theirs.coef_, atol=1e-3)
    found = softmax((np.asarray(views) @ weights[:-1] + weights[-1]).astype(np.float32))
    np.testing.assert_allclose(found, theirs.predict_proba(np.asarray(views)), atol=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_trees_say_what_scikit_learn_says(classes: int) -> None:
    random = np.random.default_rng(0)
    targets, inputs = random.integers(0, classes, 200), random.normal(size=(200, 4))
    inputs = (inputs + targets[:, None]).astype(np.float32)
    rows = np.arange(200)
    start, trees = grow_trees(inputs, targets, Fold(targets, classes, rows, rows[:0], 0), 8)
    theirs = HistGradientBoostingClassifier(
        max_iter=8,
        learning_rate=0.15,
        max_leaf_nodes=15,
        max_bins=32,
        class_weight="balanced",
        random_state=0,
    ).fit(inputs, targets)
    found = softmax(trees.sums(inputs, start).astype(np.float32))
    np.testing.assert_allclose(found, theirs.predict_proba(inputs), atol=1e-6)


def test_terms_of_a_fold_are_weighed_as_by_scikit_learn() -> None:
    strings = ["The cold rain", "cold RAIN, cold wind!", None, "a warm\nwind", "rain rain", "warm"]
    texts, train = Texts.of(strings), np.array([0, 1, 2, 3, 4])
    found = fit_tfidf(texts.rows(train)).transform(texts).toarray()
    parts = []
    for options in ANALYZERS:
        theirs = TfidfVectorizer(**options, sublinear_tf=True, min_df=2)
        theirs.fit([strings[row] for row in train if strings[row] is not None])
        parts.append(theirs.transform([text or "" for text in strings]).toarray())
    np.testing.assert_allclose(found, np.concatenate(parts, axis=1), atol=1e-6)


def test_of_very_many_rows_a_sample_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairfuse.fusion.neighbours.MOST_ROWS", 30)
    model = fitted(BASELINES["neighbours"], *world("words"))
    assert len(model.arrays()["rows"]) == 30

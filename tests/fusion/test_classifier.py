"""FusionClassifier behaves as a scikit-learn estimator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pairfuse.errors import CheckpointError, DataError
from pairfuse.fusion.classifier import FusionClassifier
from toys.fusion import PLAIN, POOLED_HEADS, told_by_words

QUICK = replace(PLAIN, epochs=12, n_components=6, lr=0.02)
WORDS = np.array(["yes", "no", "maybe"])


def _given(rows: int = 150) -> tuple[dict[str, Any], Any]:
    views, targets = told_by_words(rows)
    return dict(views.features), WORDS[targets]


def _classifier(**options: Any) -> FusionClassifier:
    return FusionClassifier(recipe=QUICK, **options)


@pytest.mark.parametrize("head", POOLED_HEADS)
def test_it_learns_from_named_views(head: str) -> None:
    features, labels = _given(300)
    modality = {"words": "text", "look": "image"}
    model = FusionClassifier(recipe=replace(QUICK, head=head), modality=modality)
    assert model.fit(features, labels).score(features, labels) > 0.8


def test_it_learns_from_one_array() -> None:
    features, labels = _given(300)
    scores = cross_val_score(_classifier(), features["words"], labels, cv=3)
    assert len(scores) == 3
    assert scores.min() > 0.7


def test_it_works_at_the_end_of_a_pipeline() -> None:
    features, labels = _given()
    pipeline = make_pipeline(StandardScaler(), _classifier())
    assert pipeline.fit(features["words"], labels).score(features["words"], labels) > 0.7


def test_clone_copies_every_parameter_and_no_fit() -> None:
    features, labels = _given()
    model = _classifier(members=2, seed=5).fit(features, labels)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(features)


def test_parameters_can_be_set_by_name() -> None:
    model = FusionClassifier().set_params(seed=7, val_share=0.3)
    assert (model.seed, model.val_share) == (7, 0.3)
    assert set(model.get_params()) == {
        *("recipe", "modality", "members", "val_share", "seed", "device")
    }
    with pytest.raises(ValueError, match="Invalid parameter"):
        model.set_params(sead=7)


@pytest.mark.parametrize("labels", [WORDS, np.array([30, -1, 7]), np.array([2.5, 0.5, 1.5])])
def test_classes_are_sorted_and_name_the_columns(labels: Any) -> None:
    views, targets = told_by_words(150)
    model = _classifier().fit(views.features, labels[targets])
    assert model.classes_.tolist() == sorted(labels.tolist())
    chances = model.predict_proba(views.features)
    assert chances.shape == (150, 3)
    assert np.allclose(chances.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(model.predict(views.features), model.classes_[chances.argmax(axis=1)])


def test_the_seed_decides() -> None:
    features, labels = _given()
    first, again, other = (
        _classifier(seed=seed).fit(features, labels).predict_proba(features) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-3)


def test_members_are_averaged() -> None:
    features, labels = _given()
    model = _classifier(members=3).fit(features, labels)
    views = model._views(features)
    each = [member.predict_proba(views) for member in model.ensemble_.members]
    assert len(each) == 3
    assert not np.allclose(each[0], each[1], atol=1e-3)
    assert np.allclose(model.predict_proba(features), np.mean(each, axis=0), atol=1e-6)


def test_fitting_changes_neither_rows_nor_labels() -> None:
    features, labels = _given()
    before = {view: values.copy() for view, values in features.items()}, labels.copy()
    _classifier().fit(features, labels)
    assert all(np.array_equal(features[view], before[0][view]) for view in features)
    assert np.array_equal(labels, before[1])


def test_two_rows_a_class_are_enough() -> None:
    features, _ = _given(6)
    model = _classifier().fit(features, ["a", "a", "b", "b", "c", "c"])
    assert set(model.predict(features)) <= {"a", "b", "c"}


WRONG = [
    ({"x": np.zeros((4, 2))}, ["a", "b", "a"], "4 rows but 3 labels"),
    ({"x": np.zeros((4, 2)), "y": np.zeros((3, 2))}, ["a"] * 4, "the same number of rows"),
    ({}, [], "at least one view"),
    ({"x": np.zeros(4)}, ["a", "b"] * 2, "shape"),
    ({"x": np.zeros((4, 2))}, ["a"] * 4, "at least two classes"),
    ({"x": np.zeros((4, 2))}, ["a", "a", "a", "b"], "two rows or more"),
]


@pytest.mark.parametrize(("features", "labels", "message"), WRONG)
def test_what_cannot_be_fitted_is_refused(features: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _classifier().fit(features, labels)


def test_predicting_needs_the_same_views() -> None:
    features, labels = _given()
    model = _classifier().fit(features, labels)
    with pytest.raises(CheckpointError):
        model.predict({"words": features["words"]})

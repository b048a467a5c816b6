"""FusionClassifier behaves as a scikit-learn estimator."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from pairfuse.errors import CheckpointError, ConfigError, DataError, PairfuseError
from pairfuse.features.views import Views
from pairfuse.fusion.checkpoint import load_checkpoint, save_checkpoint
from pairfuse.fusion.classifier import FusionClassifier
from pairfuse.recipe import Recipe
from toys.fusion import PLAIN, POOLED_HEADS, told_by_both, told_by_words, without

QUICK = replace(PLAIN, epochs=12, n_components=6, lr=0.02)
WORDS = np.array(["yes", "no", "maybe"])


def _given(rows: int = 150) -> tuple[dict[str, Any], Any]:
    views, targets = told_by_words(rows)
    return dict(views.features), WORDS[targets]


def _classifier(**options: Any) -> FusionClassifier:
    return FusionClassifier(**{**asdict(QUICK), **options})


def _views(rows: int = 150) -> tuple[Views, Any]:
    views, targets = told_by_words(rows)
    return views, WORDS[targets]


# Few and steep epochs: the checks fit some two hundred models of a few rows.
@parametrize_with_checks([FusionClassifier(epochs=8, lr=0.05, hidden_dim=8, n_components=8)])
@pytest.mark.filterwarnings("ignore")
def test_it_is_an_estimator_to_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_its_parameters_are_those_of_a_recipe() -> None:
    assert FusionClassifier().recipe == Recipe()
    assert {part.name for part in fields(Recipe)} < set(FusionClassifier().get_params())
    assert _classifier(head="gated", views=["words"]).recipe == replace(
        QUICK, head="gated", views=("words",)
    )


@pytest.mark.parametrize("head", POOLED_HEADS)
def test_it_learns_from_named_views(head: str) -> None:
    features, labels = _given(300)
    modality = {"words": "text", "look": "image"}
    model = _classifier(head=head, modality=modality)
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
    model = _classifier(n_models=2, random_state=5).fit(features, labels)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(features)


def test_parameters_can_be_set_by_name() -> None:
    model = FusionClassifier().set_params(random_state=7, val_share=0.3, lr=0.5)
    assert (model.random_state, model.val_share, model.recipe.lr) == (7, 0.3, 0.5)
    with pytest.raises(ValueError, match="Invalid parameter"):
        model.set_params(random_sate=7)


@pytest.mark.parametrize("labels", [WORDS, np.array([30, -1, 7]), np.array([2.0, 0.0, 1.0])])
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
        _classifier(random_state=seed).fit(features, labels).predict_proba(features)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-3)


def test_models_are_averaged() -> None:
    features, labels = _given()
    model = _classifier(n_models=3).fit(features, labels)
    views = model.read_views(features)
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


def test_what_is_wrong_is_an_error_of_ours_and_of_pythons() -> None:
    features, labels = _given()
    with pytest.raises(PairfuseError) as raised:
        _classifier(lr=99.0).fit(features, labels)
    assert isinstance(raised.value, ConfigError)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_a_number_that_is_none_is_named_by_view_and_row(value: float, name: str) -> None:
    features, labels = _given()
    features["look"][17, 2] = value
    with pytest.raises(DataError, match=f"{name}: view 'look', row 17"):
        _classifier().fit(features, labels)


def test_a_column_of_labels_is_taken_with_a_warning() -> None:
    features, labels = _given()
    with pytest.warns(DataConversionWarning):
        _classifier().fit(features, labels[:, None])


def test_predicting_needs_the_same_views() -> None:
    features, labels = _given()
    model = _classifier().fit(features, labels)
    with pytest.raises(DataError, match="but fit was given"):
        model.predict({"words": features["words"]})


def test_one_array_is_cut_into_views() -> None:
    views, labels = _views()
    named = _classifier(head="late", modality=views.modality).fit(views, labels)
    cut = _classifier(head="late", modality=views.modality, view_dims=views.dims)
    cut.fit(np.asarray(views), labels)
    assert cut.ensemble_.dims == views.dims
    assert np.array_equal(cut.predict_proba(np.asarray(views)), named.predict_proba(views))
    with pytest.raises(DataError, match="has 11 columns, and view_dims"):
        clone(cut).set_params(view_dims={"words": 6}).fit(np.asarray(views), labels)


def test_columns_of_a_frame_are_known_by_name() -> None:
    pandas = pytest.importorskip("pandas")
    views, labels = _views()
    frame = pandas.DataFrame(views.features["words"], columns=list("abcdef"))
    model = _classifier().fit(frame, labels)
    assert model.feature_names_in_.tolist() == list("abcdef")
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[list("bacdef")])


def test_missing_rows_are_said_by_a_mask_or_by_views() -> None:
    views, labels = _views()
    lacking = without(views, "look", slice(0, 40))
    by_views = _classifier().fit(lacking, labels)
    arrays = {view: values.copy() for view, values in views.features.items()}
    arrays["look"][:40] = np.nan
    by_mask = _classifier(modality=views.modality).fit(arrays, labels, present=lacking.present)
    expected = by_views.predict_proba(lacking)
    assert np.array_equal(by_mask.predict_proba(arrays, present=lacking.present), expected)
    with pytest.raises(DataError, match="leave `present` out"):
        by_views.predict(lacking, present=lacking.present)


def test_the_order_of_the_rows_does_not_matter() -> None:
    views, labels = _views()
    order = np.random.default_rng(0).permutation(len(views))
    straight = _classifier().fit(views, labels)
    shuffled = _classifier().fit(views[order], labels[order])
    assert np.array_equal(straight.predict_proba(views), shuffled.predict_proba(views))


def test_a_weight_counts_a_row_that_often() -> None:
    views, labels = _views()
    weights = np.arange(len(views)) % 3
    weighted = _classifier().fit(views, labels, weights)
    repeated = np.repeat(np.arange(len(views)), weights)
    copied = _classifier().fit(views[repeated], labels[repeated])
    assert np.array_equal(weighted.predict_proba(views), copied.predict_proba(views))


def test_weights_of_any_scale_are_alike() -> None:
    views, labels = _views()
    plain = _classifier().fit(views, labels)
    same = _classifier().fit(views, labels, np.full(len(views), 0.3))
    assert np.array_equal(plain.predict_proba(views), same.predict_proba(views))


def test_rows_of_a_group_are_on_one_side() -> None:
    targets = np.arange(60) % 2
    groups = np.arange(60) // 4
    model = _classifier()
    model.classes_ = np.array([0, 1])
    for rows in model.set_params(n_models=4)._row_sets(targets, groups, 0):
        assert not set(groups[rows.train]) & set(groups[rows.val])
        assert len(rows.train) + len(rows.val) == 60
    with pytest.raises(DataError, match="rows of one group alone"):
        _classifier().fit({"x": np.eye(4)}, [0, 0, 1, 1], groups=[0, 0, 1, 1])


@pytest.mark.parametrize("labels", [WORDS, np.array([30, -1, 7]), np.array([True, False])])
def test_a_saved_model_predicts_the_same(labels: Any, tmp_path: Path) -> None:
    views, targets = (told_by_both if len(labels) == 2 else told_by_words)(150)
    model = _classifier(n_models=2, head="gated").fit(views, labels[targets])
    model.save(tmp_path / "model")
    back = FusionClassifier.load(tmp_path / "model")
    assert back.get_params() == model.get_params() | {"views": []}
    assert np.array_equal(back.predict(views), model.predict(views))
    assert np.array_equal(back.predict_proba(views), model.predict_proba(views))
    assert back.classes_.dtype.kind == model.classes_.dtype.kind


def test_a_checkpoint_of_a_run_can_be_loaded(tmp_path: Path) -> None:
    views, labels = _views()
    model = _classifier().fit(views, labels)
    model.save(tmp_path)
    (tmp_path / "classifier.json").unlink()
    save_checkpoint(tmp_path, replace(load_checkpoint(tmp_path), temperature=2.0))
    back = FusionClassifier.load(tmp_path)
    assert np.array_equal(back.predict(views), model.predict(views))
    assert back.predict_proba(views).max() < model.predict_proba(views).max()


@pytest.mark.parametrize("text", ["{", "[]", '{"params": {"width": 3}, "classes": [1]}', "{}"])
def test_a_damaged_description_is_refused(text: str, tmp_path: Path) -> None:
    views, labels = _views()
    _classifier(epochs=1).fit(views, labels).save(tmp_path)
    (tmp_path / "classifier.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"classifier\.json"):
        FusionClassifier.load(tmp_path)


def test_an_unfitted_model_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        _classifier().save(tmp_path)


def test_views_go_through_scikit_learn() -> None:
    views, labels = _views(240)
    found = cross_val_predict(_classifier(), views, labels, cv=3, method="predict_proba")
    assert found.shape == (240, 3)
    search = GridSearchCV(_classifier(), {"lr": [1e-5, 0.02]}, cv=3).fit(views, labels)
    assert search.best_params_ == {"lr": 0.02}
    calm = CalibratedClassifierCV(_classifier(), cv=3).fit(views, labels)
    assert calm.score(views, labels) > 0.7


def test_views_go_through_a_pipeline() -> None:
    views, labels = _views()
    text = FunctionTransformer(lambda views: views.only(views.of("text")))
    model = make_pipeline(text, _classifier()).fit(views, labels)
    assert model[-1].ensemble_.dims == {"words": 6}
    assert model.score(views, labels) > 0.7
    plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(views, labels)
    assert plain.score(views, labels) > 0.8

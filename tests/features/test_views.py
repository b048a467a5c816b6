from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pairfuse.data.loading import load_dataset
from pairfuse.data.pairs import MODALITIES, Dataset
from pairfuse.errors import DataError, StoreError
from pairfuse.features.extraction import contents, extract
from pairfuse.features.store import FeatureStore, open_store
from pairfuse.features.views import Views, load_views, targets_of
from toys.data import picture, write_set
from toys.encoders import ToyEncoder, toy_features

ENCODERS = [
    ToyEncoder("words", "text", 4),
    ToyEncoder("looks", "image", 6),
    ToyEncoder("letters", "text", 3, made_from={"weights": "letters"}),
    ToyEncoder("both", "joint", 5),
]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    root = write_set(tmp_path / "set", {"1": "negative", "2": "positive", "3": "negative"}, ["4"])
    (root / "data" / "2.png").unlink()
    (root / "data" / "3.txt").write_text("")
    return load_dataset(root)


@pytest.fixture
def stores(dataset: Dataset, tmp_path: Path) -> list[FeatureStore]:
    found = [open_store(tmp_path / "cache", encoder) for encoder in ENCODERS]
    for encoder, store in zip(ENCODERS, found, strict=True):
        extract(contents(dataset, encoder.modality), encoder, store, device="cpu")
    return found


@pytest.fixture
def views(dataset: Dataset, stores: list[FeatureStore]) -> Views:
    return load_views(dataset, dataset.pairs, stores)


def test_every_view_has_a_row_for_every_pair(views: Views) -> None:
    assert len(views) == 4
    assert views.dims == {"words": 4, "looks": 6, "letters": 3, "both": 5}
    assert {features.dtype for features in views.features.values()} == {np.dtype("f4")}


def test_a_row_is_what_the_encoder_gives_for_that_pair(dataset: Dataset, views: Views) -> None:
    assert dataset.pairs[1].text == "positive text 2"
    assert (views.features["words"][1] == toy_features(b"positive text 2", 4)).all()
    assert (views.features["looks"][2] == toy_features(picture(2).tobytes(), 6)).all()
    both = b"negative text 1" + picture(0).tobytes()
    assert (views.features["both"][0] == toy_features(both, 5)).all()


def test_a_missing_modality_is_a_zero_row_and_told(views: Views) -> None:
    assert views.present["words"].tolist() == [True, True, False, True]
    assert views.present["looks"].tolist() == [True, False, True, True]
    assert views.present["both"].tolist() == [True, False, False, True]
    for name, features in views.features.items():
        assert (features.any(axis=1) == views.present[name]).all()


def test_views_of_one_modality_agree_on_what_is_missing(views: Views) -> None:
    assert views.of("text") == ["words", "letters"]
    assert views.of("image") == ["looks"]
    assert views.of("joint") == ["both"]
    assert (views.present["words"] == views.present["letters"]).all()


def test_rows_follow_the_pairs_not_the_order_of_storing(
    dataset: Dataset, stores: list[FeatureStore], views: Views
) -> None:
    back = load_views(dataset, dataset.pairs[::-1], stores)
    for name in views.features:
        assert (back.features[name] == views.features[name][::-1]).all()
        assert (back.present[name] == views.present[name][::-1]).all()


def test_the_order_of_the_stores_changes_no_view(
    dataset: Dataset, stores: list[FeatureStore], views: Views
) -> None:
    back = load_views(dataset, dataset.pairs, stores[::-1])
    for name in views.features:
        assert (back.features[name] == views.features[name]).all()


def test_two_pairs_with_one_content_share_its_features(
    dataset: Dataset, stores: list[FeatureStore]
) -> None:
    twin = replace(dataset.pairs[3], text=dataset.pairs[0].text)
    views = load_views(dataset, [dataset.pairs[0], twin], stores[:3])  # as a pair it is another
    assert (views.features["words"][0] == views.features["words"][1]).all()
    assert (views.features["looks"][0] != views.features["looks"][1]).any()


def test_a_row_that_was_never_extracted_is_an_error(
    dataset: Dataset, stores: list[FeatureStore]
) -> None:
    stranger = replace(dataset.pairs[0], text="never seen")
    with pytest.raises(StoreError, match="does not hold 1 of 2 rows"):
        load_views(dataset, [stranger, dataset.pairs[1]], stores)


def test_rows_and_views_can_be_chosen(views: Views) -> None:
    chosen = views.only(["looks"]).rows(np.array([2, 0]))
    assert chosen.dims == {"looks": 6}
    assert chosen.modality == {"looks": "image"}
    assert (chosen.features["looks"] == views.features["looks"][[2, 0]]).all()
    masked = views.rows(views.present["words"])
    assert len(masked) == 3
    assert masked.present["words"].all()


def test_views_are_one_table_of_rows(views: Views) -> None:
    assert views.shape == (4, 18)
    assert repr(views).startswith("Views(4 rows: words text 4, looks image 6")
    joined = np.asarray(views)
    assert joined.shape == (4, 18)
    assert (joined[:, 4:10] == views.features["looks"]).all()


@pytest.mark.parametrize(
    "index",
    [[2, 0], np.array([2, 0]), slice(1, 3), np.array([True, False, True, False]), 3, -1],
    ids=repr,
)
def test_rows_are_chosen_as_of_an_array(index: object, views: Views) -> None:
    expected = np.atleast_2d(views.features["words"][index])  # type: ignore[index]
    assert (views[index].features["words"] == expected).all()
    assert (views[index, ...].features["words"] == expected).all()


def test_columns_are_not_chosen_by_number(views: Views) -> None:
    with pytest.raises(DataError, match="only"):
        views[:, 2]


def test_views_can_be_made_of_arrays() -> None:
    made = Views.of_arrays(
        {"words": [[1, 2], [np.nan, 4]], "look": np.ones((2, 3))},
        {"look": "image"},
        {"words": [True, False]},
    )
    assert made.modality == {"words": "text", "look": "image"}
    assert made.features["words"].tolist() == [[1, 2], [0, 0]]
    assert made.present["words"].tolist() == [True, False]


ONES = np.ones((3, 2))


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({}, {}, "at least one view"),
        ({"a": np.ones(3)}, {}, "shape"),
        ({"a": ONES, "b": np.ones((2, 2))}, {}, "the same number of rows"),
        ({"a": ONES}, {"present": {"b": [True] * 3}}, "no view 'b'"),
        ({"a": ONES}, {"present": {"a": [True] * 2}}, "a mask"),
        ({"a": ONES}, {"present": {"a": [1, 0, 1]}}, "a mask"),
        ({"a": ONES * np.inf}, {}, "infinity: view 'a', row 0"),
    ],
)
def test_arrays_that_make_no_table_are_refused(
    arrays: dict[str, object], options: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Views.of_arrays(arrays, **options)  # type: ignore[arg-type]


def test_targets_are_places_in_the_vocabulary(dataset: Dataset) -> None:
    assert targets_of(dataset.pairs, ("negative", "positive")).tolist() == [0, 1, 0, -1]
    assert targets_of(dataset.pairs, ("positive", "negative")).tolist() == [1, 0, 1, -1]


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_pair_without_anything_is_a_row_of_zeros(
    modality: str, dataset: Dataset, stores: list[FeatureStore]
) -> None:
    empty = replace(dataset.pairs[3], text=None, image=None)
    views = load_views(dataset, [empty], stores)
    assert views.of(modality)
    assert not any(present.any() for present in views.present.values())


def test_a_store_of_a_modality_of_another_version_is_refused(
    dataset: Dataset, stores: list[FeatureStore]
) -> None:
    with pytest.raises(StoreError, match="is of modality 'sound', which is not known here"):
        load_views(dataset, dataset.pairs, [replace(stores[0], modality="sound")])


def test_the_raw_texts_are_those_of_the_pairs(views: Views) -> None:
    assert views.texts is not None
    assert views.texts.strings == ["negative text 1", "positive text 2", None, "text 4"]

"""import pairfuse: what it gives, what it costs, and that its examples and its notebook run."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier

import pairfuse as pf
import pairfuse.features.views
import pairfuse.fusion.classifier
import pairfuse.stats.compare
from pairfuse import api
from pairfuse.data.demo import draw_demo
from pairfuse.errors import ConfigError, DataError
from pairfuse.features import extraction
from pairfuse.fusion.baselines import BASELINES
from pairfuse.recipe import Recipe
from toys.data import picture, saved

ENCODERS = ["ngram", "efficientnet-lite0"]
GUIDES = Path(pf.__file__).parent / "guides"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    draw_demo(folder / "data" / "demo", pairs=60, test_pairs=10)
    return folder


@pytest.fixture(autouse=True)
def _inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples name data/demo, and write into cache."""
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def data(place: Path) -> pf.Pairs:
    return pf.load_dataset(place / "data" / "demo", cache=place / "cache")


@pytest.fixture(scope="module")
def X(data: pf.Pairs) -> pf.Views:  # noqa: N802
    return pf.extract_features(data, ENCODERS)


@pytest.fixture(scope="module")
def study(data: pf.Pairs, X: pf.Views) -> Any:  # noqa: N803
    return pf.ablate(
        data, X, trials=1, cv=2, repeats=1, n_models=1, recipe=Recipe(epochs=2), heads=["linear"]
    )


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "sklearn")
    code = f"import sys, pairfuse; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_comparing_needs_no_torch() -> None:
    code = (
        "import sys, pairfuse as pf\n"
        "y = ['a', 'b'] * 20\n"
        "pf.compare(y, {'one': y, 'other': ['a'] * 40}, resamples=50)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_public_name_is_there_and_is_listed() -> None:
    assert 3 <= len(pf.__all__) <= 10
    assert set(pf.__all__) <= set(dir(pf))
    assert all(getattr(pf, name).__doc__ for name in pf.__all__)
    with pytest.raises(AttributeError, match="no attribute 'ablation_study'"):
        pf.ablation_study  # noqa: B018


@pytest.mark.parametrize(
    "module",
    [api, pairfuse.fusion.classifier, pairfuse.features.views, pairfuse.stats.compare],
    ids=lambda module: module.__name__,
)
@pytest.mark.usefixtures("study")
def test_the_examples_run(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_rows_of_all_that_a_data_set_gives_line_up(data: pf.Pairs, X: pf.Views) -> None:  # noqa: N803
    assert len(data) == len(X) == len(data.y) == len(data.groups) == len(data.texts) == 60
    assert data.guids == tuple(pair.guid for pair in data.dataset.split("train", "val"))
    assert set(data.y) == set(data.labels)
    lacking = [pair.text is None for pair in data.pairs]
    assert [text == "" for text in data.texts] == lacking
    assert X.present["ngram"].tolist() == [not each for each in lacking]


def test_test_pairs_have_features_and_no_labels(data: pf.Pairs) -> None:
    test = data.split("test")
    assert len(pf.extract_features(test, ["ngram"])) == len(test) == len(test.groups) == 10
    with pytest.raises(DataError, match="10 of 10 pairs have no label"):
        test.y  # noqa: B018


def test_what_the_store_holds_is_not_computed_again(
    data: pf.Pairs,
    X: pf.Views,  # noqa: N803
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extraction, "_compute", None)  # to compute is to call it
    again = pf.extract_features(data, ENCODERS)
    assert all(np.array_equal(again.features[view], X.features[view]) for view in X.features)


def test_an_image_that_fails_in_full_decoding_is_missing(
    data: pf.Pairs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pair = next(pair for pair in data.pairs if pair.image and pair.text)
    key = data.dataset.key(pair, "image")
    assert key is not None
    whole = api.extract

    def failing(*args: Any, **options: Any) -> Any:
        found = whole(*args, **options)
        return (
            replace(found, failed={key.hex(): "is cut"}) if args[1].modality == "image" else found
        )

    monkeypatch.setattr(api, "extract", failing)
    views = pf.extract_features(replace(data, cache=tmp_path), ENCODERS)
    row = data.guids.index(pair.guid)
    assert (views.present["ngram"][row], views.present["efficientnet-lite0"][row]) == (True, False)
    assert "is cut" in (tmp_path / "image_facts" / "images.jsonl").read_text()


def test_features_of_no_encoder_are_refused(data: pf.Pairs) -> None:
    with pytest.raises(DataError, match="no encoder is named"):
        pf.extract_features(data, [])


# Out-of-fold probabilities


def _drawn(rows: int = 120) -> tuple[Any, Any]:
    values = np.random.default_rng(0).normal(size=(rows, 4))
    return values, np.where(values[:, 0] > 0, "yes", "no")


@pytest.mark.parametrize(
    "estimator",
    [pf.FusionClassifier(epochs=8, lr=0.02, n_models=2), LogisticRegression()],
    ids=["fusion", "plain"],
)
def test_out_of_fold_probabilities_have_a_row_for_each(estimator: Any) -> None:
    values, y = _drawn()
    found = pf.cross_val_proba(estimator, values, y, cv=3)
    assert found.shape == (120, 2)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert ((found[:, 1] > 0.5) == (y == "yes")).mean() > 0.85
    assert not hasattr(estimator, "classes_")
    again = pf.cross_val_proba(estimator, values, y, cv=3, repeats=2)
    assert again.shape == (2, 120, 2)
    assert np.array_equal(again[0], pf.cross_val_proba(estimator, values, y, cv=3))


class _Noting(DummyClassifier):  # type: ignore[misc]
    """Notes the rows that it is fitted on."""

    seen: list[set[int]] = []  # noqa: RUF012

    def fit(self, X: Any, y: Any) -> Any:  # noqa: N803
        self.seen.append(set(np.asarray(X)[:, 0].astype(int).tolist()))
        return super().fit(X, y)


def test_rows_of_a_group_are_held_out_together() -> None:
    rows = np.arange(80)[:, None]
    groups = np.arange(80) // 2
    _Noting.seen.clear()
    pf.cross_val_proba(_Noting(), rows, np.tile([0, 0, 1, 1], 20), groups=groups, cv=4)
    assert len(_Noting.seen) == 4
    for seen in _Noting.seen:
        held = set(range(80)) - seen
        assert len(held) == 20
        assert {row ^ 1 for row in held} == held


def test_any_estimator_takes_views_and_texts(data: pf.Pairs, X: pf.Views) -> None:  # noqa: N803
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    words = make_pipeline(TfidfVectorizer(), LogisticRegression())
    for estimator, rows in (
        (LogisticRegression(max_iter=50), X.only(["ngram"])),
        (words, data.texts),
    ):
        found = pf.cross_val_proba(estimator, rows, data.y, groups=data.groups, cv=2)
        assert found.shape == (60, 3)


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (RidgeClassifier(), {}, "has no predict_proba"),
    (LogisticRegression(), {"groups": [1, 2]}, "groups has shape"),
    (LogisticRegression(), {"y": ["a", "b"] * 10}, "120 rows but 20 labels"),
    (pf.FusionClassifier(), {"y": ["a", "b"] * 10}, "120 rows but 20 labels"),
    (LogisticRegression(), {"cv": 100}, "100 folds need"),
]


@pytest.mark.parametrize(("estimator", "options", "message"), WRONG)
def test_what_cannot_be_cross_validated_is_refused(
    estimator: Any, options: dict[str, Any], message: str
) -> None:
    values, y = _drawn()
    with pytest.raises(DataError, match=message):
        pf.cross_val_proba(estimator, values, **{"y": y, **options})


# The ablation


def test_a_study_can_be_read_in_every_way(study: Any, tmp_path: Path) -> None:
    trained = ["fused", "text-only", "image-only"]
    assert list(study.scores) == [*trained, *BASELINES, "prior", "majority"]
    assert str(study.verdict) == study.verdict.words
    assert all(name in str(study) for name in study.scores)
    assert "<table>" in study._repr_html_()
    assert study.verdict.headline in repr(study)
    study.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert study.verdict.headline in page
    assert "not measured" in page


def test_a_study_is_a_frame_with_a_row_for_each_arm(study: Any) -> None:
    pytest.importorskip("pandas")
    frame = study.to_frame()
    assert frame["arm"].tolist() == list(study.scores)
    assert frame.loc[0, "macro_f1"] == study.scores["fused"].macro_f1.value


def test_arms_of_a_study_can_be_compared(data: pf.Pairs, study: Any) -> None:
    arms = {arm.name: arm.probabilities for arm in study.arms[:2]}
    found = pf.compare(data.y, arms, groups=data.groups, labels=data.labels)
    assert found.scores["fused"].macro_f1.value == study.scores["fused"].macro_f1.value


def test_what_cannot_be_ablated_is_refused(data: pf.Pairs, X: pf.Views) -> None:  # noqa: N803
    with pytest.raises(ConfigError, match="no image encoder"):
        pf.ablate(data, X.only(["ngram"]), trials=1, cv=2)
    with pytest.raises(DataError, match="X has 3 rows, and the data 60"):
        pf.ablate(data, X[:3], trials=1, cv=2)
    with pytest.raises(ConfigError, match="n_trials is 0"):
        pf.ablate(data, X, trials=0)


# The notebook


def _cells(notebook: Path) -> Iterator[str]:
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            yield "".join(cell["source"])


@pytest.mark.parametrize("notebook", sorted(GUIDES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_from_first_cell_to_last(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = list(_cells(notebook))
    assert len(cells) > 5
    for source in cells:
        exec(compile(source, notebook.name, "exec"), names)
    assert (tmp_path / "report.html").is_file()


def test_rare_labels_image_root_and_split_file_are_keywords_of_loading(tmp_path: Path) -> None:
    labels = ["a"] * 8 + ["b"] * 8 + ["c"]
    rows = [f"{n},{n} words {n * 7919},{n}.png,{label}" for n, label in enumerate(labels)]
    (tmp_path / "set.csv").write_text("\n".join(["id,text,image,label", *rows]))
    (tmp_path / "split.csv").write_text("id,split\n" + "\n".join(f"{n},train" for n in range(17)))
    (tmp_path / "pictures").mkdir()
    for n in range(17):
        (tmp_path / "pictures" / f"{n}.png").write_bytes(saved(picture(n)))
    found = pf.load_dataset(
        tmp_path / "set.csv",
        image_root=tmp_path / "pictures",
        split_file=tmp_path / "split.csv",
        rare="drop",
        cache=tmp_path / "cache",
    )
    assert (found.labels, len(found)) == (("a", "b"), 16)
    assert all(pair.image is not None for pair in found.pairs)


def test_an_unknown_way_with_rare_labels_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match="use refuse, drop or merge"):
        pf.load_dataset(place / "data" / "demo", rare="forget")

"""Fast paths give what the plain fp32 path gives: the same features, the same study."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pairfuse.data.demo import draw_demo
from pairfuse.data.duplicates import duplicate_groups
from pairfuse.data.images import open_image
from pairfuse.data.loading import load_dataset
from pairfuse.encoders import build_encoders
from pairfuse.features.extraction import contents, extract
from pairfuse.features.store import open_store
from pairfuse.features.views import Views, load_views, targets_of
from pairfuse.fusion.fitting import prepare_rows
from pairfuse.recipe import Recipe
from pairfuse.stats.bootstrap import draw_groups
from pairfuse.stats.paired import compare_all
from pairfuse.study.crossfit import Table, cross_fit
from pairfuse.study.folds import make_folds


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / lengths


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    """The demo's texts through the real MiniLM, plain and fast."""
    root = tmp_path_factory.mktemp("fast")
    draw_demo(root / "demo", pairs=400, test_pairs=0)
    dataset = load_dataset(root / "demo")
    pairs = [pair for pair in dataset.pairs if pair.text is not None]
    kept = np.array([pair.text is not None for pair in dataset.pairs])
    out = {}
    for precision in ("fp32", "bf16"):
        [encoder] = build_encoders(["minilm"], precision=precision, device="cpu")
        store = open_store(root / "cache", encoder)
        extract(contents(dataset, "text"), encoder, store, device="cpu")
        views: Views = load_views(dataset, pairs, [store])
        targets = targets_of(pairs, dataset.labels)
        groups = duplicate_groups(dataset)[kept]
        guids = tuple(pair.guid for pair in pairs)
        out[precision] = Table(views, targets, groups, guids, dataset.labels)
    return out


def test_every_text_has_the_features_of_the_plain_path(tables: dict[str, Table]) -> None:
    plain, fast = (tables[name].views.features["minilm"] for name in ("fp32", "bf16"))
    assert cosines(plain, fast).min() > 0.999


def test_out_of_fold_scores_are_those_of_the_plain_path(tables: dict[str, Table]) -> None:
    arms = {}
    for name, table in tables.items():
        # Of one model a fold the seed alone moves the score by 0.02: more than the interval says.
        rows = make_folds(
            table.targets, table.groups, table.labels, folds=5, repeats=2, n_models=4, seed=0
        )
        prepared = prepare_rows(table.views, rows, seed=0)
        arms[name] = cross_fit(table, prepared, [Recipe()], seed=0)[0].probabilities
    first = tables["fp32"]
    draws = draw_groups(first.groups, seed=0)
    gap = compare_all(arms, first.targets, draws, seed=0)[0].difference
    assert gap.low <= 0 <= gap.high


def large_photo(seed: int) -> bytes:
    """A picture of 3,000 pixels with soft areas, edges and a camera's noise, as JPEG."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (15, 20, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((3000, 2200), Image.Resampling.BICUBIC)).astype(np.int64)
    left, top = random.integers(100, 900, 2)
    soft[top : top + 400, left : left + 600] = random.integers(0, 256, 3)
    noisy = soft + random.integers(-4, 5, (2200, 3000, 1))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def test_a_large_photo_decoded_smaller_has_the_features_of_the_whole() -> None:
    [encoder] = build_encoders(["efficientnet-lite0"], device="cpu")
    loaded = encoder.load("cpu")
    rows: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for seed in range(3):
        data = large_photo(seed)
        whole, smaller = open_image(data), open_image(data, draft=loaded.draft)  # type: ignore[attr-defined]
        assert smaller.width < whole.width
        for row, image in zip(rows, (whole, smaller), strict=True):
            row.append(loaded.encode([loaded.prepare(image)])[0])
    assert cosines(np.stack(rows[0]), np.stack(rows[1])).min() > 0.999


def test_the_same_content_is_encoded_once(tmp_path: Path) -> None:
    draw_demo(tmp_path / "demo", pairs=200, test_pairs=0)
    dataset = load_dataset(tmp_path / "demo")
    [encoder] = build_encoders(["ngram"])
    store = open_store(tmp_path / "cache", encoder)
    texts = [pair.text for pair in dataset.pairs if pair.text is not None]
    found = extract(contents(dataset, "text"), encoder, store, device="cpu")
    assert found.computed == len(set(texts)) < len(texts)

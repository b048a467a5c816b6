"""Nearest neighbours: the training rows most like a row vote for its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairfuse.arrays import Floats, Ints
from pairfuse.data.pairs import Modality
from pairfuse.features.views import Views
from pairfuse.fusion.balance import class_weights
from pairfuse.fusion.plain import Fold, best_on
from pairfuse.fusion.unit_views import UnitViews, fit_unit_views, load_unit_views, unit

#: Neighbours that are tried, and as many as are taken without validation rows.
NEIGHBOURS, DEFAULT_K = (5, 15, 40), 40
#: Rows that are kept at most.
MOST_ROWS = 20_000
#: A vote is exp(`_SHARPNESS` * (similarity - 1)), times class weights of this strength: macro-F1 on
#: 4,000 pairs was 0.56.
_SHARPNESS, _BALANCE = 10.0, 0.5
#: Share of the probability that all classes get as often as they are: no class is impossible.
_SHARED = 0.01
#: Rows that are compared at a time.
_CHUNK = 1024


@dataclass(frozen=True)
class NeighboursBaseline:
    """Training rows: unit views, centred, of length 1 again, side by side, as float16."""

    units: UnitViews
    rows: NDArray[np.float16]  # (N, sum of D)
    targets: Ints  # (N,)
    num_classes: int
    k: int

    @property
    def views(self) -> tuple[str, ...]:
        return self.units.names

    @property
    def dims(self) -> dict[str, int]:
        """Width of each of these views."""
        return self.units.dims

    @property
    def reads_texts(self) -> bool:
        return False

    @property
    def size(self) -> int:
        """Number of fitted numbers."""
        return self.rows.size + sum(mean.size for mean in self.units.means.values())

    def predict_proba(self, rows: Views) -> Floats:
        """Class probabilities, shape (N, C)."""
        queries = _inputs(self.units, rows)
        return np.concatenate(
            [
                self._vote(queries[start : start + _CHUNK] @ self._turned, self.k)
                for start in range(0, max(1, len(queries)), _CHUNK)
            ]
        )

    def crossed(self, texts: Views, images: Views) -> Floats:
        """Of each text with each image, shape (T, I, C): their similarities add up."""
        of_texts = _inputs(self.units, texts, "text") @ self._turned
        of_images = _inputs(self.units, images, "image") @ self._turned
        out = np.empty((len(of_texts), len(of_images), self.num_classes), dtype=np.float32)
        for number, text in enumerate(of_texts):
            for start in range(0, len(of_images), _CHUNK):
                rows = slice(start, start + _CHUNK)
                out[number, rows] = self._vote(text + of_images[rows], self.k)
        return out

    def with_k(self, k: int) -> NeighboursBaseline:
        return NeighboursBaseline(self.units, self.rows, self.targets, self.num_classes, k)

    def description(self) -> dict[str, Any]:
        return {
            "kind": "neighbours",
            "views": dict(self.units.modality),
            "num_classes": self.num_classes,
            "k": self.k,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"rows": self.rows, "targets": self.targets, **self.units.arrays()}

    @cached_property
    def _turned(self) -> Floats:
        """Shape (sum of D, N), so that similarities are at most 1."""
        scaled = self.rows.astype(np.float32) / np.float32(max(1, len(self.units.means)))
        return np.ascontiguousarray(scaled.T)

    @cached_property
    def _votes(self) -> tuple[Floats, Floats]:
        """Weight of each row's vote, shape (N,), and share of each class in these, shape (C,)."""
        weights = class_weights(self.targets, self.num_classes, _BALANCE)[self.targets]
        shares = np.bincount(self.targets, weights=weights, minlength=self.num_classes)
        return weights, np.asarray(shares / shares.sum(), dtype=np.float32)

    def _vote(self, similarity: Floats, k: int) -> Floats:
        """From similarities (n, N) to probabilities (n, C)."""
        weights, shares = self._votes
        k = min(k, len(self.targets))
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        votes = np.exp(_SHARPNESS * (np.take_along_axis(similarity, nearest, axis=1) - 1))
        votes = votes * weights[nearest]
        cells = np.arange(len(votes))[:, None] * self.num_classes + self.targets[nearest]
        counts = np.bincount(cells.ravel(), votes.ravel(), len(votes) * self.num_classes)
        found = counts.reshape(len(votes), self.num_classes)
        found = found / found.sum(axis=1, keepdims=True)
        return np.asarray((1 - _SHARED) * found + _SHARED * shares, dtype=np.float32)


def fit_neighbours(
    views: Views, fold: Fold, *, names: Sequence[str], texts: bool
) -> NeighboursBaseline:
    """Choose the number of neighbours on the validation rows, then keep these too.

    Of more than `MOST_ROWS` rows a sample drawn by the seed is kept.
    """
    k = DEFAULT_K
    if len(fold.val):
        draft = _keep(views, fold, names, fold.train, k)
        val = views.rows(fold.val)
        k = NEIGHBOURS[best_on([draft.with_k(k).predict_proba(val) for k in NEIGHBOURS], fold)]
    return _keep(views, fold, names, fold.both, k)


def load_neighbours(
    description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> NeighboursBaseline:
    """Rebuild; types and finite numbers are checked before.

    Raises:
        ValueError: The shapes do not agree.
    """
    units = load_unit_views(arrays, description["views"])
    rows, targets = arrays["rows"], arrays["targets"]
    width = sum(len(mean) for mean in units.means.values())
    if not len(targets) or rows.shape != (len(targets), width):
        raise ValueError(f"rows have shape {rows.shape} for {len(targets)} targets, width {width}")
    if description["k"] < 1:
        raise ValueError(f"there are {description['k']} neighbours")
    return NeighboursBaseline(units, rows, targets, description["num_classes"], description["k"])


def _keep(views: Views, fold: Fold, names: Sequence[str], rows: Ints, k: int) -> NeighboursBaseline:
    if len(rows) > MOST_ROWS:
        random = np.random.default_rng(fold.seed)
        rows = np.sort(random.choice(rows, MOST_ROWS, replace=False))
    units = fit_unit_views(views, names, rows)
    kept = _inputs(units, views.rows(rows)).astype(np.float16)
    return NeighboursBaseline(units, kept, fold.targets[rows], fold.num_classes, k)


def _inputs(units: UnitViews, rows: Views, side: Modality | None = None) -> Floats:
    """Shape (N, sum of D); views of another modality than the side's are zero."""
    own = units.of(side)
    parts = [
        unit(units.apply(rows, view))
        if view in own
        else np.zeros((len(rows), len(units.means[view])), dtype=np.float32)
        for view in units.names
    ]
    return np.concatenate(parts, axis=1)

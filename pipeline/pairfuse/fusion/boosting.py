"""Boosting: gradient-boosted trees on the first principal axes of each view.

Grown by scikit-learn, kept and evaluated as plain arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairfuse.arrays import Doubles, Floats, Ints
from pairfuse.data.pairs import Modality
from pairfuse.errors import DataError
from pairfuse.features.views import Views
from pairfuse.fusion.ensemble import softmax
from pairfuse.fusion.plain import Fold, spread
from pairfuse.fusion.scaling import ViewScaling, fit_scaling

#: Principal axes of each view.
AXES = 32
#: Trees of all classes together, and rounds whatever the classes: more than 40 classes get 3 each.
TREES, LEAST_ROUNDS, MOST_ROUNDS = 120, 3, 40
#: What the rounds' learning rates add up to, where there are many; a single one is at most 0.3.
_STEPS, _MOST_RATE = 6.0, 0.3
#: Leaves of a tree, and bins of an axis: with 255 bins a fold takes nine times as long.
_LEAVES, _BINS = 15, 32
#: Rows times trees that are walked at a time.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Trees:
    """Nodes of all trees, one after the other; a leaf is its own left and right."""

    feature: NDArray[np.int32]  # (M,)
    threshold: Doubles  # (M,), a row goes left up to it
    left: NDArray[np.int32]  # (M,)
    right: NDArray[np.int32]  # (M,)
    value: Doubles  # (M,), of leaves
    roots: NDArray[np.int32]  # (T,)
    column: NDArray[np.int32]  # (T,), the class that a tree adds to

    def sums(self, rows: Floats, start: Doubles) -> Doubles:
        """What all trees add to the start (K,), for rows (N, F), shape (N, K)."""
        out = np.tile(start, (len(rows), 1))
        step = max(1, _CHUNK // max(1, len(self.roots)))
        for begin in range(0, len(rows) if len(self.roots) else 0, step):
            values = self.value[self._leaves(rows[begin : begin + step])]  # (n, T)
            for column in range(len(start)):
                out[begin : begin + step, column] += values[:, self.column == column].sum(axis=1)
        return out

    def _leaves(self, rows: Floats) -> NDArray[np.int32]:
        """The leaf of each row in each tree, shape (n, T)."""
        node = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
        place = np.arange(len(rows))[:, None]
        while True:
            goes_left = rows[place, self.feature[node]] <= self.threshold[node]
            below = np.where(goes_left, self.left[node], self.right[node])
            if np.array_equal(below, node):
                return below
            node = below


@dataclass(frozen=True)
class BoostingBaseline:
    """Trees on the principal axes of the views, for K of C classes."""

    scaling: Mapping[str, ViewScaling]
    modality: Mapping[str, Modality]
    trees: Trees
    start: Doubles  # (K,)
    classes: Ints  # (K,)
    num_classes: int

    @property
    def views(self) -> tuple[str, ...]:
        return tuple(sorted(self.scaling))

    @property
    def dims(self) -> dict[str, int]:
        """Width of each of these views."""
        return {view: len(part.mean) for view, part in self.scaling.items()}

    @property
    def reads_texts(self) -> bool:
        return False

    @property
    def size(self) -> int:
        """Number of fitted numbers."""
        axes = sum(part.mean.size + part.axes.size for part in self.scaling.values())
        return axes + 2 * self.trees.value.size + self.start.size

    def predict_proba(self, rows: Views) -> Floats:
        """Class probabilities, shape (N, C)."""
        return self._proba(_axes(self.scaling, rows))

    def crossed(self, texts: Views, images: Views) -> Floats:
        """Of each text with each image, shape (T, I, C)."""
        of_text = np.repeat([self.modality[v] == "text" for v in self.views], self._widths)
        of_image = np.repeat([self.modality[v] == "image" for v in self.views], self._widths)
        left = _axes(self.scaling, texts) * of_text
        right = _axes(self.scaling, images) * of_image
        return np.stack([self._proba((text + right).astype(np.float32)) for text in left])

    @property
    def _widths(self) -> list[int]:
        return [self.scaling[view].axes.shape[1] for view in self.views]

    def _proba(self, inputs: Floats) -> Floats:
        found = self.trees.sums(inputs, self.start).astype(np.float32)
        return spread(softmax(found), self.classes, self.num_classes)

    def description(self) -> dict[str, Any]:
        return {
            "kind": "boosting",
            "views": dict(self.modality),
            "num_classes": self.num_classes,
            "trees": len(self.trees.roots),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        out: dict[str, NDArray[Any]] = {"classes": self.classes, "start": self.start}
        for view, part in self.scaling.items():
            out |= {f"mean/{view}": part.mean, f"axes/{view}": part.axes}
        return out | {f"trees/{name}": values for name, values in vars(self.trees).items()}


def fit_boosting(
    views: Views, fold: Fold, *, names: Sequence[str], texts: bool
) -> BoostingBaseline:
    """Grow trees on the training and validation rows.

    Choosing the number of rounds on the validation rows took twice the time and gained nothing
    (macro-F1 .589 on MVSA-Single, .592 without).
    """
    return _grow(views, fold, names, fold.both, rounds_of(fold.size))


def rounds_of(num_classes: int) -> int:
    """Rounds for so many classes, each of which gets a tree in each; two share one."""
    return min(MOST_ROUNDS, max(LEAST_ROUNDS, TREES // num_classes))


def load_boosting(
    description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> BoostingBaseline:
    """Rebuild; types and finite numbers are checked before.

    Raises:
        ValueError: The shapes do not agree, or a tree has no end.
    """
    scaling = {
        view: _map(arrays[f"mean/{view}"], arrays[f"axes/{view}"]) for view in description["views"]
    }
    trees = Trees(**{name: arrays[f"trees/{name}"] for name in Trees.__dataclass_fields__})
    start, classes = arrays["start"], arrays["classes"]
    if start.shape != classes.shape:
        raise ValueError(f"the start has shape {start.shape} for {len(classes)} classes")
    for view, part in scaling.items():
        if part.mean.ndim != 1 or part.axes.ndim != 2 or len(part.axes) != len(part.mean):
            raise ValueError(f"axes of {view} have shape {part.axes.shape}, not {part.mean.shape}")
    width = sum(part.axes.shape[1] for part in scaling.values())
    _check_trees(trees, features=width, columns=len(start))
    if len(trees.roots) != description["trees"]:
        raise ValueError(f"there are {len(trees.roots)} trees, not {description['trees']}")
    return BoostingBaseline(
        scaling, description["views"], trees, start, classes, description["num_classes"]
    )


def _check_trees(trees: Trees, *, features: int, columns: int) -> None:
    nodes, own = len(trees.feature), np.arange(len(trees.feature))
    of_nodes = (trees.feature, trees.threshold, trees.left, trees.right, trees.value)
    if any(values.shape != (nodes,) for values in of_nodes):
        raise ValueError("nodes of trees have parts of several lengths")
    if trees.roots.ndim != 1 or trees.column.shape != trees.roots.shape:
        raise ValueError("trees have other roots than columns")
    for name, values, most in (
        ("feature", trees.feature, features),
        ("left", trees.left, nodes),
        ("right", trees.right, nodes),
        ("root", trees.roots, nodes),
        ("column", trees.column, columns),
    ):
        if len(values) and not 0 <= values.min() <= values.max() < most:
            raise ValueError(f"a {name} of a tree is {values.max()}, out of {most}")
    is_leaf = (trees.left == own) & (trees.right == own)
    if not (is_leaf | ((trees.left > own) & (trees.right > own))).all():
        raise ValueError("a tree leads back to where it was")


def _grow(
    views: Views, fold: Fold, names: Sequence[str], rows: Ints, rounds: int
) -> BoostingBaseline:
    own = views.only(names).rows(rows)
    known = [view for view in names if own.present[view].sum() > 1]
    scaling = {
        view: _map(part.mean, part.axes)
        for view, part in fit_scaling(own.only(known), seed=fold.seed, components=AXES).items()
    }
    start, trees = grow_trees(_axes(scaling, own), fold.y(rows), fold, rounds)
    modality = {view: views.modality[view] for view in known}
    return BoostingBaseline(scaling, modality, trees, start, fold.classes, fold.num_classes)


def grow_trees(inputs: Floats, targets: Ints, fold: Fold, rounds: int) -> tuple[Doubles, Trees]:
    """Grow trees on rows (N, F), targets among the K classes; the start is of shape (K,)."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    there = np.unique(targets)
    start = np.full(fold.size, -50.0)
    if len(there) == 1:
        start[there] = 0.0
        return start, _flat([], [])
    rate = min(_MOST_RATE, max(0.1, _STEPS / rounds_of(fold.size)))
    model = HistGradientBoostingClassifier(
        max_iter=rounds,
        learning_rate=rate,
        max_leaf_nodes=_LEAVES,
        max_bins=_BINS,
        class_weight="balanced",
        early_stopping=False,
        random_state=fold.seed,
    )
    with threadpool_limits(1):  # more threads wait longer for each other than they work
        model.fit(inputs, targets)
    grown = [tree.nodes for by_class in model._predictors for tree in by_class]
    first = model._baseline_prediction.ravel()
    columns = there[1:] if len(first) == 1 else there  # of two classes the second has all trees
    start[there] = 0.0
    start[columns] = first
    return start, _flat(grown, np.tile(columns, len(model._predictors)).tolist())


def _flat(grown: Sequence[NDArray[Any]], columns: Sequence[int]) -> Trees:
    """Nodes of scikit-learn's trees, one after the other."""
    sizes = [len(nodes) for nodes in grown]
    roots = np.cumsum([0, *sizes])[:-1] if sizes else np.zeros(0)
    if not grown:
        whole, none = np.zeros(0, dtype=np.int32), np.zeros(0)
        return Trees(whole, none, whole, whole, none, whole, whole)
    nodes, shift = np.concatenate(grown), np.repeat(roots, sizes)
    own, is_leaf = np.arange(len(nodes)), nodes["is_leaf"].astype(bool)
    return Trees(
        feature=np.where(is_leaf, 0, nodes["feature_idx"]).astype(np.int32),
        threshold=np.where(is_leaf, 0.0, nodes["num_threshold"]),
        left=np.where(is_leaf, own, nodes["left"] + shift).astype(np.int32),
        right=np.where(is_leaf, own, nodes["right"] + shift).astype(np.int32),
        value=np.where(is_leaf, nodes["value"], 0.0),
        roots=roots.astype(np.int32),
        column=np.array(columns, dtype=np.int32),
    )


def _map(mean: Floats, axes: Floats) -> ViewScaling:
    """Axes without their deviations: trees do not look at the scale."""
    return ViewScaling(mean, axes, np.ones(axes.shape[-1], dtype=np.float32))


def _axes(scaling: Mapping[str, ViewScaling], rows: Views) -> Floats:
    """Views on their axes side by side, shape (N, F); zero, the mean, where one is missing.

    Raises:
        DataError: A view is of another width than in training.
    """
    parts = []
    for view, part in sorted(scaling.items()):
        found, width = rows.features.get(view), len(part.mean)
        if found is None:
            parts.append(np.zeros((len(rows), part.axes.shape[1]), dtype=np.float32))
            continue
        if found.shape[1] != width:
            raise DataError(
                f"view {view} has width {found.shape[1]}, the model was trained on {width}; "
                "name the same encoder as in training"
            )
        parts.append(np.where(rows.present[view][:, None], part.apply(found), np.float32(0)))
    return np.concatenate(parts, axis=1)

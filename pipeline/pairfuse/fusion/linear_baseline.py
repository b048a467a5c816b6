"""Linear baseline: multinomial logistic regression on unit views and TF-IDF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from pairfuse.arrays import Floats, Ints
from pairfuse.data.pairs import Modality
from pairfuse.features.views import Views
from pairfuse.fusion.balance import class_weights
from pairfuse.fusion.ensemble import softmax
from pairfuse.fusion.plain import Fold, best_on, spread
from pairfuse.fusion.tfidf import Tfidf, fit_tfidf, load_tfidf
from pairfuse.fusion.unit_views import UnitViews, fit_unit_views, load_unit_views

#: Inverse strengths of the penalty that are tried, and the one taken without validation rows.
PATH, DEFAULT_C = (0.5, 2.0), 2.0
#: Gain of the loss, which begins near 1, in a step below which the solver stops.
_FTOL = 1e-4
_MAX_STEPS = 200
#: The encoder whose view holds hashed n-grams.
HASHED = "ngram"

Block: TypeAlias = Any  # (N, D): an array, or a sparse one


@dataclass(frozen=True)
class LinearBaseline:
    """Weights for K of C classes: those that were among the training rows."""

    units: UnitViews
    weights: Mapping[str, Floats]  # {view: (D, K)}
    tfidf: Tfidf | None
    term_weights: Floats  # (V, K)
    bias: Floats  # (K,)
    classes: Ints  # (K,)
    num_classes: int
    C: float

    @property
    def views(self) -> tuple[str, ...]:
        return self.units.names

    @property
    def dims(self) -> dict[str, int]:
        """Width of each of these views."""
        return self.units.dims

    @property
    def reads_texts(self) -> bool:
        return self.tfidf is not None

    @property
    def size(self) -> int:
        """Number of fitted numbers."""
        floats = [*self.units.means.values(), *self.weights.values(), self.term_weights, self.bias]
        return sum(values.size for values in floats) + (self.tfidf.width if self.tfidf else 0)

    def predict_proba(self, rows: Views) -> Floats:
        """Class probabilities, shape (N, C)."""
        return spread(softmax(self._logits(rows) + self.bias), self.classes, self.num_classes)

    def crossed(self, texts: Views, images: Views) -> Floats:
        """Of each text with each image, shape (T, I, C)."""
        sides = self._logits(texts, "text")[:, None], self._logits(images, "image")[None]
        logits = sides[0] + sides[1] + self.bias
        flat = softmax(logits.reshape(-1, len(self.bias)))
        found = spread(flat, self.classes, self.num_classes)
        return found.reshape(*logits.shape[:2], self.num_classes)

    def _logits(self, rows: Views, side: Modality | None = None) -> Floats:
        """What the views of one modality, or all, add to the bias, shape (N, K)."""
        out = np.zeros((len(rows), len(self.bias)), dtype=np.float32)
        for view in self.units.of(side):
            out += self.units.apply(rows, view) @ self.weights[view]
        if self.tfidf is not None and rows.texts is not None and side != "image":
            out += self.tfidf.transform(rows.texts) @ self.term_weights
        return out

    def description(self) -> dict[str, Any]:
        return {
            "kind": "linear",
            "views": dict(self.units.modality),
            "num_classes": self.num_classes,
            "C": self.C,
            "terms": [len(block.names) for block in self.tfidf.blocks] if self.tfidf else None,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        out: dict[str, NDArray[Any]]
        out = {"classes": self.classes, "bias": self.bias, **self.units.arrays()}
        out |= {f"weights/{view}": values for view, values in self.weights.items()}
        if self.tfidf is not None:
            out |= {**self.tfidf.arrays(), "term_weights": self.term_weights}
        return out


def load_linear(
    description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> LinearBaseline:
    """Rebuild; types and finite numbers are checked before.

    Raises:
        ValueError: The shapes do not agree.
    """
    units = load_unit_views(arrays, description["views"])
    sizes = description["terms"]
    tfidf = None if sizes is None else load_tfidf(arrays, [int(size) for size in sizes])
    classes = len(arrays["classes"])
    none = np.zeros((0, classes), dtype=np.float32)
    model = LinearBaseline(
        units=units,
        weights={view: arrays[f"weights/{view}"] for view in units.names},
        tfidf=tfidf,
        term_weights=none if tfidf is None else arrays["term_weights"],
        bias=arrays["bias"],
        classes=arrays["classes"],
        num_classes=description["num_classes"],
        C=float(description["C"]),
    )
    wanted = {view: (len(mean), classes) for view, mean in units.means.items()}
    found = {view: values.shape for view, values in model.weights.items()}
    if found != wanted:
        raise ValueError(f"weights have shapes {found}, views ask for {wanted}")
    if model.term_weights.shape != (tfidf.width if tfidf else 0, classes):
        raise ValueError(f"weights of terms have shape {model.term_weights.shape}")
    if model.bias.shape != (classes,):
        raise ValueError(f"the bias has shape {model.bias.shape} for {classes} classes")
    return model


def fit_linear(views: Views, fold: Fold, *, names: Sequence[str], texts: bool) -> LinearBaseline:
    """Choose C on the validation rows along a path, then go on from there on all rows.

    Hashed n-grams count what TF-IDF counts and are left out beside it: on MVSA-Single they took
    60 % more time for .002 macro-F1.
    """
    chosen = None
    if texts and views.texts is not None:
        names = [name for name in names if name != HASHED]
    if len(fold.val):
        draft = _Draft.fit(views, names, texts, fold.train)
        blocks, targets = draft.blocks(views.rows(fold.train)), fold.y(fold.train)
        path: list[LinearBaseline] = []
        weights = None
        for C in PATH:  # noqa: N806
            weights = fit_softmax(blocks, targets, fold.size, C=C, start=weights)
            path.append(draft.model(weights, fold, C))
        val = views.rows(fold.val)
        chosen = path[best_on([model.predict_proba(val) for model in path], fold)]
    draft = _Draft.fit(views, names, texts, fold.both)
    C = DEFAULT_C if chosen is None else chosen.C  # noqa: N806
    weights = fit_softmax(
        draft.blocks(views.rows(fold.both)),
        fold.y(fold.both),
        fold.size,
        C=C,
        start=None if chosen is None else draft.start(chosen),
    )
    return draft.model(weights, fold, C)


@dataclass(frozen=True)
class _Draft:
    """What turns rows into blocks; views by name, then terms."""

    units: UnitViews
    tfidf: Tfidf | None

    @classmethod
    def fit(cls, views: Views, names: Sequence[str], texts: bool, rows: Ints) -> _Draft:
        has_texts = texts and views.texts is not None
        tfidf = fit_tfidf(views.texts.rows(rows)) if has_texts and views.texts else None
        return cls(fit_unit_views(views, names, rows), tfidf)

    def blocks(self, rows: Views) -> list[Block]:
        out: list[Block] = [self.units.apply(rows, view) for view in self.units.names]
        if self.tfidf is not None and rows.texts is not None:
            out.append(self.tfidf.transform(rows.texts))
        return out

    def model(self, weights: Floats, fold: Fold, C: float) -> LinearBaseline:  # noqa: N803
        ends = np.cumsum([len(self.units.means[view]) for view in self.units.names])
        parts = np.split(weights[:-1].astype(np.float32), ends)
        return LinearBaseline(
            units=self.units,
            weights=dict(zip(self.units.names, parts, strict=False)),
            tfidf=self.tfidf,
            term_weights=parts[-1],
            bias=weights[-1].astype(np.float32),
            classes=fold.classes,
            num_classes=fold.num_classes,
            C=C,
        )

    def start(self, model: LinearBaseline) -> Floats:
        """The weights of a model of other rows, in our order; 0 for terms that it lacks."""
        parts = [model.weights[view] for view in self.units.names]
        if self.tfidf is not None and model.tfidf is not None:
            ends = np.cumsum([len(block.names) for block in model.tfidf.blocks])
            known = np.split(model.term_weights, ends[:-1])
            for ours, theirs, values in zip(
                self.tfidf.blocks, model.tfidf.blocks, known, strict=True
            ):
                nothing = np.zeros((1, len(model.bias)), dtype=np.float32)
                parts.append(np.concatenate([values, nothing])[theirs.columns(ours.names)])
        return np.concatenate([*parts, model.bias[None]])


def fit_softmax(
    blocks: Sequence[Block],
    targets: Ints,
    num_classes: int,
    *,
    C: float,  # noqa: N803
    start: Floats | None = None,
    ftol: float = _FTOL,
) -> Floats:
    """Fit scikit-learn's `LogisticRegression(C=C, class_weight="balanced")` on blocks of columns.

    The same loss, with a column of weights for each class of two as well. Dense blocks stay dense:
    on the joined sparse matrix scikit-learn takes five times as long.

    Args:
        blocks: Each of shape (N, D), dense or sparse.
        targets: Shape (N,).
        num_classes: K.
        C: Inverse strength of the penalty.
        start: Weights to begin with, of the shape of those that are returned.
        ftol: Relative gain of the loss in a step below which to stop.

    Returns:
        Shape (sum of D + 1, K), the bias last.
    """
    rows = len(targets)
    ends = np.cumsum([block.shape[1] for block in blocks])
    shape = (int(ends[-1]) + 1 if len(ends) else 1, num_classes)
    turned = [block.T.tocsr() if sparse.issparse(block) else block.T for block in blocks]
    weights = (class_weights(targets, num_classes)[targets] / np.float32(rows))[:, None]
    hot = np.zeros((rows, num_classes), dtype=np.float32)
    hot[np.arange(rows), targets] = 1
    penalty = 1 / (C * rows)
    flat = torch.zeros(shape[0] * num_classes) if start is None else _as_tensor(start)
    solver = torch.optim.LBFGS(
        [flat],
        max_iter=_MAX_STEPS,
        tolerance_grad=1e-9,
        tolerance_change=ftol,
        line_search_fn="strong_wolfe",
    )

    def loss() -> float:
        found = flat.numpy().reshape(shape)
        logits = np.broadcast_to(found[-1], hot.shape).copy()
        for block, part in zip(blocks, np.split(found[:-1], ends[:-1]), strict=True):
            logits += block @ part
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        sums = odds.sum(axis=1, keepdims=True)
        losses = weights * (np.log(sums) - logits[np.arange(rows), targets][:, None])
        residuals = (odds / sums - hot) * weights
        slopes = [block @ residuals for block in turned]
        gradient = np.concatenate([*slopes, residuals.sum(axis=0)[None]])
        gradient[:-1] += np.float32(penalty) * found[:-1]
        flat.grad = torch.from_numpy(gradient.ravel())
        size = np.square(found[:-1]).sum(dtype=np.float64)
        return float(losses.sum(dtype=np.float64) + 0.5 * penalty * size)

    solver.step(loss)  # type: ignore[no-untyped-call]
    return np.asarray(flat.numpy().reshape(shape), dtype=np.float32)


def _as_tensor(start: Floats) -> torch.Tensor:
    return torch.from_numpy(np.array(start, dtype=np.float32).ravel())

"""Baselines: plain models on the same folds and the same views, as arms and as members."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pairfuse.arrays import Floats, Ints
from pairfuse.data.pairs import Modality
from pairfuse.errors import ConfigError, shown
from pairfuse.features.views import Views
from pairfuse.fusion.boosting import fit_boosting, load_boosting
from pairfuse.fusion.linear_baseline import fit_linear, load_linear
from pairfuse.fusion.neighbours import fit_neighbours, load_neighbours
from pairfuse.fusion.plain import Fold


@runtime_checkable
class FittedBaseline(Protocol):
    """A fitted plain model. A row's answer does not depend on the rows beside it; what a row, or
    the table, lacks counts as the mean of the training rows."""

    @property
    def views(self) -> tuple[str, ...]:
        """Views that it reads, sorted."""

    @property
    def dims(self) -> dict[str, int]:
        """Width of each of these views."""

    @property
    def num_classes(self) -> int:
        """C."""

    @property
    def reads_texts(self) -> bool:
        """Whether it reads the raw texts."""

    @property
    def size(self) -> int:
        """Number of fitted numbers."""

    def predict_proba(self, rows: Views) -> Floats:
        """Class probabilities, shape (N, C); a class that was not trained on gets 0."""

    def crossed(self, texts: Views, images: Views) -> Floats:
        """Of the text of each row with the image of each other row, shape (T, I, C).

        These pairs have no joint view.
        """

    def description(self) -> dict[str, Any]:
        """What it is, as JSON: kind, views, numbers, what was chosen."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was fitted, for safetensors."""


Model = Literal["linear", "neighbours", "boosting"]
_FIT: dict[Model, Callable[..., FittedBaseline]] = {
    "linear": fit_linear,
    "neighbours": fit_neighbours,
    "boosting": fit_boosting,
}
_LOAD: dict[Model, Callable[..., FittedBaseline]] = {
    "linear": load_linear,
    "neighbours": load_neighbours,
    "boosting": load_boosting,
}
#: What rebuilding raises from a description that lacks something or is of other types.
_MISFITS = (LookupError, TypeError, AttributeError, ArithmeticError, OverflowError)
#: No whole number of a description is larger.
_MOST = 1_000_000


@dataclass(frozen=True)
class Baseline:
    """A plain model on the views of one modality, or on all views."""

    model: Model
    modality: Modality | None = None

    def views(self, views: Views) -> list[str]:
        """Names of the views that it reads of these, sorted; joint ones only with all."""
        return sorted(views.features if self.modality is None else views.of(self.modality))

    @property
    def reads_texts(self) -> bool:
        """Whether it reads raw texts, where there are some."""
        return self.model == "linear" and self.modality in (None, "text")


BASELINES: dict[str, Baseline] = {
    "linear-text": Baseline("linear", "text"),
    "linear-image": Baseline("linear", "image"),
    "linear-fused": Baseline("linear"),
    "neighbours": Baseline("neighbours"),
    "boosting": Baseline("boosting"),
}


def fit_baseline(
    baseline: Baseline,
    views: Views,
    targets: Ints,
    num_classes: int,
    *,
    train: Ints,
    val: Ints,
    seed: int,
) -> FittedBaseline:
    """Choose on the validation rows after training on the training rows, then fit both.

    Args:
        baseline: What to fit.
        views: All rows, not scaled, with their texts.
        targets: Shape (N,).
        num_classes: C.
        train: Row numbers.
        val: Row numbers; none for what is taken by default.
        seed: Seed of draws.

    Raises:
        ConfigError: It has nothing to read.
    """
    names, texts = baseline.views(views), baseline.reads_texts and views.texts is not None
    if not names and not texts:
        raise ConfigError(
            f"a baseline of the {baseline.modality} alone has no view to read; name an encoder "
            f"of the {baseline.modality} with --encoders"
        )
    fold = Fold(targets, num_classes, train, val, seed)
    return _FIT[baseline.model](views, fold, names=names, texts=texts)


def load_baseline(
    description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> FittedBaseline:
    """Rebuild a fitted baseline from its description and arrays; neither is trusted.

    Raises:
        ValueError: They do not fit each other; says why.
    """
    try:
        kind, classes = description["kind"], description["num_classes"]
        _check_description(description)
        _check_arrays(arrays, classes)
        model = _LOAD[kind](description, arrays)
    except _MISFITS as error:
        raise ValueError(f"a baseline lacks something: {type(error).__name__} {error}") from error
    if strange := sorted(set(arrays) - set(model.arrays())):
        raise ValueError(f"a baseline has no array {strange[0]!r}")
    return model


def _check_description(description: Mapping[str, Any]) -> None:
    if description["kind"] not in _LOAD:
        raise ValueError(f"there is no baseline of kind {description['kind']!r}")
    for name in ("num_classes", "k", "trees"):
        number = description.get(name, 0)
        if type(number) is not int or not 0 <= number <= _MOST:
            raise ValueError(f"{name} of a baseline is {shown(number)}, not from 0 to {_MOST}")
    views = description["views"]
    if not isinstance(views, dict) or not set(views.values()) <= set(get_args(Modality)):
        raise ValueError("the views of a baseline are of no known modality")


#: Types of the arrays that are not float32.
_TYPES = {"classes": np.int64, "targets": np.int64, "rows": np.float16, "start": np.float64}
_TYPES |= {"trees/threshold": np.float64, "trees/value": np.float64}
_TYPES |= {"terms/0": np.uint8, "terms/1": np.uint8}
_TYPES |= {f"trees/{name}": np.int32 for name in ("feature", "left", "right", "roots", "column")}


def _check_arrays(arrays: Mapping[str, NDArray[Any]], num_classes: int) -> None:
    for name, values in arrays.items():
        wanted = np.dtype(_TYPES.get(name, np.float32))
        if values.dtype != wanted:
            raise ValueError(f"{name} of a baseline is {values.dtype}, not {wanted}")
        if wanted.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{name} of a baseline has a number that is not finite")
    for name in ("classes", "targets"):
        if name not in arrays:
            continue
        values = arrays[name]
        if (
            values.ndim != 1
            or not len(values)
            or not 0 <= values.min() <= values.max() < num_classes
        ):
            raise ValueError(f"{name} of a baseline are none of {num_classes} classes")
        if name == "classes" and (np.diff(values) <= 0).any():
            raise ValueError("classes of a baseline are not in order")

"""FusionClassifier: the same heads and training behind scikit-learn's estimator interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils.validation import check_is_fitted

from pairfuse.arrays import Floats
from pairfuse.data.pairs import Modality
from pairfuse.errors import DataError
from pairfuse.features.views import Views
from pairfuse.fusion.ensemble import Ensemble, class_prior
from pairfuse.fusion.fitting import RowSet, fit_members, prepare_rows
from pairfuse.recipe import Recipe

Inputs = Mapping[str, Any] | NDArray[Any]


class FusionClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Fusion head over `{view: (N, D)}` or one array (N, D), fitted with early stopping.

    Args:
        recipe: Everything about head and training; None takes the defaults of `Recipe`.
        modality: `{view: "text" | "image" | "joint"}`, which `late` needs; text if not named.
        members: Models, each with its own validation rows, whose probabilities are averaged.
        val_share: Share of the rows given to `fit` that decide when training stops.
        seed: Same seed, same scores.
        device: A torch device's name.
    """

    def __init__(
        self,
        *,
        recipe: Recipe | None = None,
        modality: Mapping[str, Modality] | None = None,
        members: int = 1,
        val_share: float = 0.125,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.recipe = recipe
        self.modality = modality
        self.members = members
        self.val_share = val_share
        self.seed = seed
        self.device = device

    def fit(self, X: Inputs, y: Any) -> FusionClassifier:  # noqa: N803
        """Fit on N rows; y holds labels of any kind that can be sorted.

        Raises:
            DataError: Rows and labels do not agree, or a class has fewer than two rows.
        """
        views = self._views(X)
        self.classes_, targets = np.unique(np.asarray(y), return_inverse=True)
        if len(targets) != len(views):
            raise DataError(f"{len(views)} rows but {len(targets)} labels")
        if len(self.classes_) < 2 or np.bincount(targets).min() < 2:
            raise DataError("each of at least two classes needs two rows or more")
        parts = prepare_rows(views, self._rows(targets), seed=self.seed)
        [fitted] = fit_members(
            views,
            targets.astype(np.int64),
            parts,
            [self.recipe or Recipe()],
            num_classes=len(self.classes_),
            seed=self.seed,
            device=self.device,
        )
        self.ensemble_ = Ensemble(
            tuple(fitted),
            tuple(str(label) for label in self.classes_),
            class_prior(targets, len(self.classes_)),
            dict(views.modality),
            views.dims,
        )
        return self

    def predict_proba(self, X: Inputs) -> Floats:  # noqa: N803
        """Probabilities, shape (N, C), in the order of `classes_`."""
        check_is_fitted(self, "ensemble_")
        return self.ensemble_.predict_proba(self._views(X))

    def predict(self, X: Inputs) -> NDArray[Any]:  # noqa: N803
        """The most probable label of each row."""
        y_pred = self.predict_proba(X).argmax(axis=1)
        chosen: NDArray[Any] = self.classes_[y_pred]
        return chosen

    def _views(self, inputs: Inputs) -> Views:
        named = inputs if isinstance(inputs, Mapping) else {"x": inputs}
        arrays = {view: np.asarray(values, dtype=np.float32) for view, values in named.items()}
        if len({len(values) for values in arrays.values()}) != 1:
            raise DataError("views need the same number of rows, and at least one view is needed")
        if any(values.ndim != 2 for values in arrays.values()):
            raise DataError("each view must have shape (N, D)")
        return Views(
            arrays,
            {view: np.ones(len(values), dtype=bool) for view, values in arrays.items()},
            {view: (self.modality or {}).get(view, "text") for view in arrays},
        )

    def _rows(self, targets: NDArray[Any]) -> list[RowSet]:
        """A validation set for each member, stratified; at least one row of each class."""
        classes = len(self.classes_)
        count = min(max(classes, round(self.val_share * len(targets))), len(targets) - classes)
        splitter = StratifiedShuffleSplit(self.members, test_size=count, random_state=self.seed)
        none = np.empty(0, dtype=np.int64)
        return [RowSet(train, val, none) for train, val in splitter.split(targets, targets)]

"""Unit views: each row of a view to length 1, then centred by the training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairfuse.arrays import Floats, Ints
from pairfuse.data.pairs import Modality
from pairfuse.errors import DataError
from pairfuse.features.views import Views

#: Shorter rows than this are not made longer.
_TINY = 1e-12


@dataclass(frozen=True)
class UnitViews:
    """Means of unit rows, and the modality of each view, by name."""

    means: Mapping[str, Floats]  # {view: (D,)}
    modality: Mapping[str, Modality]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.means))

    @property
    def dims(self) -> dict[str, int]:
        return {name: len(self.means[name]) for name in self.names}

    def of(self, side: Modality | None) -> tuple[str, ...]:
        """Names of the views of one modality; of all for None."""
        return tuple(name for name in self.names if side in (None, self.modality[name]))

    def apply(self, rows: Views, view: str) -> Floats:
        """Shape (N, D); zero, which is the mean, where the row or the view is missing.

        Raises:
            DataError: The view is of another width than in training.
        """
        mean = self.means[view]
        if view not in rows.features:
            return np.zeros((len(rows), len(mean)), dtype=np.float32)
        values = rows.features[view]
        if values.shape[1] != len(mean):
            raise DataError(
                f"view {view} has width {values.shape[1]}, the model was trained on {len(mean)}; "
                "name the same encoder as in training"
            )
        return np.where(rows.present[view][:, None], unit(values) - mean, np.float32(0))

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {f"mean/{view}": mean for view, mean in self.means.items()}


def fit_unit_views(views: Views, names: Sequence[str], train: Ints) -> UnitViews:
    """Take the means of the training rows in which a view is present."""
    means = {}
    for view in names:
        rows = train[views.present[view][train]]
        values = unit(views.features[view][rows])
        means[view] = (values.sum(axis=0, dtype=np.float64) / max(1, len(rows))).astype(np.float32)
    return UnitViews(means, {view: views.modality[view] for view in names})


def load_unit_views(
    arrays: Mapping[str, NDArray[Any]], modality: Mapping[str, Modality]
) -> UnitViews:
    """The means of `UnitViews.arrays`.

    Raises:
        ValueError: One of them is no vector.
    """
    means = {view: arrays[f"mean/{view}"] for view in modality}
    if bad := [view for view, mean in means.items() if mean.ndim != 1]:
        raise ValueError(f"the mean of view {bad[0]} has shape {means[bad[0]].shape}")
    return UnitViews(means, modality)


def unit(values: Floats) -> Floats:
    """Rows divided by their length."""
    lengths = np.sqrt(np.einsum("nd,nd->n", values, values))[:, None]
    return np.asarray(values / np.maximum(lengths, _TINY), dtype=np.float32)

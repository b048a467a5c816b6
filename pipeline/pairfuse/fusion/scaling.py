"""Scaling: each view is centred, turned to its principal axes and scaled by training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from pairfuse.arrays import Floats
from pairfuse.errors import DataError
from pairfuse.features.views import Views
from pairfuse.threads import threads_for

#: Width that the principal axes are computed for; models take the first few of them.
MAX_COMPONENTS = 128
#: Views up to this width get exact axes.
_EXACT_UP_TO = 512
#: Directions looked at beyond those wanted, which makes the last of these good.
_SPARE = 10
#: Rows whose tokens are looked at for their mean and axes, and the most tokens of them.
TOKEN_ROWS, MOST_TOKENS = 256, 8192


@dataclass(frozen=True)
class ViewScaling:
    """One view's affine map: `(x - mean) @ axes / scale`, shape (N, D) to (N, P)."""

    mean: Floats  # (D,)
    axes: Floats  # (D, P)
    deviation: Floats  # (P,), standard deviation along each axis, largest first

    def gains(self, width: int, whitening: float) -> Floats:
        """Factors for the first axes, shape (min(width, P),).

        Args:
            width: Axes to keep.
            whitening: 1 gives each axis variance 1; 0 keeps their proportions and gives the
                kept axes variance 1 on average; between, deviation ** (1 - whitening).
        """
        deviation = self.deviation[:width]
        kept = deviation ** (1 - whitening)  # what is left of each axis's own deviation
        return np.asarray(kept / np.sqrt(np.mean(kept**2)) / deviation, dtype=np.float32)

    def narrowed(self, width: int, whitening: float) -> ViewScaling:
        """Keep the first axes and scale them once for all."""
        gains = self.gains(width, whitening)
        return ViewScaling(
            self.mean,
            np.ascontiguousarray(self.axes[:, :width] * gains),
            self.deviation[:width],
        )

    def apply(self, values: Floats) -> Floats:
        """Shape (N, D) to (N, P); rows are scaled one by one, whatever their company."""
        return np.asarray((values - self.mean) @ self.axes, dtype=np.float32)


def fit_scaling(
    train: Views, *, seed: int, components: int = MAX_COMPONENTS
) -> dict[str, ViewScaling]:
    """Fit every view on the training rows in which it is present.

    Raises:
        DataError: A view is present in fewer than two training rows.
    """
    return {
        view: _fit_view(view, values[train.present[view]], components, seed)
        for view, values in train.features.items()
    }


def fit_token_scaling(
    train: Views, *, seed: int, components: int = MAX_COMPONENTS
) -> dict[str, ViewScaling]:
    """Fit on the tokens of some training rows, drawn by the seed.

    Raises:
        DataError: There are fewer than two tokens.
    """
    random = np.random.default_rng(seed)
    out = {}
    for view, rows in sorted(train.tokens.items()):
        some = random.permutation(np.flatnonzero(rows.lengths))[:TOKEN_ROWS]
        values, there = rows.take(some)
        found = values[there]
        if len(found) > MOST_TOKENS:
            found = found[random.choice(len(found), MOST_TOKENS, replace=False)]
        out[view] = _fit_view(view, found, components, seed)
    return out


def scale_tokens(views: Views, scaling: Mapping[str, ViewScaling]) -> Views:
    """The same views, whose tokens are scaled when they are read; features stay as they are."""
    tokens = {
        view: rows.through(scaling[view].apply, scaling[view].axes.shape[1])
        for view, rows in views.tokens.items()
    }
    return replace(views, tokens=tokens)


def narrow(
    scaling: Mapping[str, ViewScaling], width: int, whitening: float
) -> dict[str, ViewScaling]:
    """The first `width` axes of every view."""
    return {view: part.narrowed(width, whitening) for view, part in scaling.items()}


def scale(views: Views, scaling: Mapping[str, ViewScaling]) -> Views:
    """Apply to all rows; a missing row stays zero, which is the training mean.

    Tokens stay as they are stored.
    """
    features = {
        view: scaling[view].apply(values) * views.present[view][:, None].astype(np.float32)
        for view, values in views.features.items()
    }
    return replace(views, features=features)


def _fit_view(view: str, values: Floats, components: int, seed: int) -> ViewScaling:
    """Principal axes of one view's training rows."""
    rows, dim = values.shape
    if rows < 2:
        raise DataError(
            f"view {view} is present in {rows} training rows of a fold, at least 2 are needed; "
            "leave its encoder out"
        )
    mean = values.mean(axis=0, dtype=np.float64).astype(np.float32)
    width = min(components, dim, rows - 1)
    with threads_for(values.size * width):
        singular, axes = _axes(values - mean, width, seed)
    deviation = np.maximum(singular / np.sqrt(rows - 1), 1e-6).astype(np.float32)
    return ViewScaling(mean, np.ascontiguousarray(axes.T.astype(np.float32)), deviation)


def _axes(centred: Floats, width: int, seed: int) -> tuple[Floats, Floats]:
    """Largest singular values (P,) and right singular vectors (P, D).

    Narrow views exactly, by the eigenvectors of D x D products; wide ones by randomised singular
    value decomposition (Halko et al. 2011).
    """
    values = torch.from_numpy(centred)
    if centred.shape[1] > _EXACT_UP_TO:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            some = min(width + _SPARE, *centred.shape)
            _, singular, axes = torch.svd_lowrank(values, some)
        return singular[:width].numpy(), axes.T[:width].numpy()
    exact = values.double()
    squares, vectors = torch.linalg.eigh(exact.T @ exact)
    singular = squares.flip(0)[:width].clamp(min=0).sqrt()
    return singular.float().numpy(), vectors.flip(1)[:, :width].T.float().numpy()

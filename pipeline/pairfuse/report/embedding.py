"""Embedding: fused features in two dimensions, for the map; seeded, one thread, same every time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: More points than this hide each other; a seeded sample of this size is embedded and drawn.
MOST_POINTS = 2000
#: t-SNE (van der Maaten and Hinton, 2008) reads this many principal components.
COMPONENTS = 30
LEAST_POINTS = 12

Map = NDArray[np.float64]


def principal_map(features: NDArray[np.float32], *, seed: int) -> Map | None:
    """Scores on the first principal components, shape (N, up to COMPONENTS).

    None where there is no plane: too few rows or columns, all rows alike, or no numbers.
    """
    rows, width = features.shape
    if rows < LEAST_POINTS or width < 2 or not np.isfinite(features).all():
        return None
    if not np.ptp(features, axis=0).any():
        return None
    from sklearn.decomposition import PCA

    size = min(COMPONENTS, width, rows)
    solver = "randomized" if width > 4 * COMPONENTS else "full"
    pca = PCA(size, svd_solver=solver, random_state=seed)
    found: Map = pca.fit_transform(features.astype(np.float64))
    return found


def neighbour_map(components: Map, *, seed: int) -> Map:
    """t-SNE of principal components, shape (N, 2)."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    options: dict[str, Any] = {"perplexity": min(30.0, (len(components) - 1) / 3)}
    scaled = components / (components[:, 0].std() or 1.0)
    with threadpool_limits(1):  # sums of several threads differ in their last digits, then in all
        found: Map = TSNE(2, init="pca", random_state=seed, **options).fit_transform(scaled)
    return found


def sample(rows: int, *, seed: int) -> NDArray[np.int64]:
    """Which rows are drawn, in order."""
    if rows <= MOST_POINTS:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).permutation(rows)[:MOST_POINTS])

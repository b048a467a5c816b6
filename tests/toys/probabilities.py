"""Made-up probabilities: calibrated ones with the targets drawn from them, and their folds."""

from __future__ import annotations

import numpy as np

from pairfuse.arrays import Floats, Ints


def drawn(rows: int, *, repeats: int = 1, seed: int = 0) -> tuple[Floats, Ints]:
    """Calibrated probabilities (R, N, 3): the target is drawn from those of the first repeat."""
    random = np.random.default_rng(seed)
    one = random.dirichlet([0.5] * 3, size=rows).astype(np.float32)
    targets = (random.random(rows)[:, None] > one.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    return np.repeat(one[None], repeats, axis=0), targets.astype(np.int64)


def folds_of(rows: int, *, folds: int = 5, repeats: int = 1, seed: int = 0) -> Ints:
    random = np.random.default_rng(seed)
    return np.stack([random.permutation(rows) % folds for _ in range(repeats)])

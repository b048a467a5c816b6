"""Stacking: a linear model over the probabilities of several heads (Wolpert 1992).

What the linear model learns from is out-of-fold inside the training side of its fold: no head had
seen the rows, and nothing of the fold's held-out rows is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pairfuse.features.table import Floats, Ints
from pairfuse.fusion.balance import class_weights
from pairfuse.fusion.ensemble import Prepared, softmax
from pairfuse.recipe import Recipe
from pairfuse.study.crossfit import CrossFit, Table, cross_fit
from pairfuse.study.nested import Inner

#: Probabilities below this count as this in logarithms.
_LEAST = 1e-6


@dataclass(frozen=True)
class Blend:
    """An affine map of the logarithms of H heads' probabilities to logits."""

    weights: Floats  # (H * C, C)
    bias: Floats  # (C,)

    def predict_proba(self, chances: Floats) -> Floats:
        """From the heads' probabilities, (H, N, C), to one, (N, C)."""
        return softmax(_logs(chances) @ self.weights + self.bias)


def fit_blend(chances: Floats, targets: Ints, *, strength: float = 0.0) -> Blend:
    """Multinomial logistic regression with a ridge of 1.

    Args:
        chances: Shape (H, N, C), of rows that the heads had not seen.
        targets: Shape (N,); each class has a row.
        strength: How far rows are weighed towards equal classes (see `class_weights`).
    """
    from sklearn.linear_model import LogisticRegression

    classes = chances.shape[-1]
    weights = class_weights(targets, classes, strength)[targets]
    model = LogisticRegression(C=1.0, max_iter=2000).fit(_logs(chances), targets, weights)
    coefficients, bias = model.coef_.T, model.intercept_
    if classes == 2:  # scikit-learn gives the second class alone
        coefficients = np.hstack([np.zeros_like(coefficients), coefficients])
        bias = np.concatenate([[0], bias])
    return Blend(coefficients.astype(np.float32), bias.astype(np.float32))


def stack(
    table: Table,
    prepared: Sequence[Prepared],
    inner: Sequence[Inner],
    recipes: Sequence[Recipe],
    fits: Sequence[CrossFit],
    *,
    seed: int,
    device: str = "cpu",
) -> Floats:
    """Out-of-fold probabilities of the stacked heads, shape (R, N, C).

    Args:
        table: Labelled rows.
        prepared: Row sets of the outer folds.
        inner: The folds inside each outer fold, as `prepare_inner` deals them.
        recipes: The heads; their mean strength weighs the rows of the linear model.
        fits: Each recipe fitted on all of `prepared`, as `cross_fit` gives them.
        seed: Seed of the models inside.
        device: A torch device's name.

    Returns:
        Rows without any view get the prior.
    """
    outer = np.stack([fit.probabilities for fit in fits])  # (H, R, N, C)
    out: Floats = np.zeros_like(outer[0])
    strength = float(np.mean([r.strength if r.balance != "none" else 0.0 for r in recipes]))
    for fold in inner:
        inside = table.rows(fold.inside)
        base = cross_fit(inside, fold.prepared, recipes, seed=seed + fold.outer[0], device=device)
        chances = np.stack([fit.mean for fit in base])  # (H, n, C)
        blend = fit_blend(chances, inside.targets, strength=strength)
        rows = prepared[fold.outer[0]].rows
        out[rows.repeat, rows.held] = blend.predict_proba(outer[:, rows.repeat, rows.held])
    lost = ~np.any(list(table.views.present.values()), axis=0)
    out[:, lost] = fits[0].ensemble.prior
    return out


def _logs(chances: Floats) -> Floats:
    """Logarithms of the heads' probabilities side by side, (H, N, C) to (N, H * C)."""
    logs = np.log(np.maximum(chances, _LEAST)).transpose(1, 0, 2)
    return np.asarray(logs.reshape(len(logs), -1), dtype=np.float32)

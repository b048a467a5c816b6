"""Stacking (Wolpert 1992): a linear model combines the probabilities of several heads.

Named as in scikit-learn's `StackingClassifier`. It is fitted on out-of-fold probabilities, so that
what it learns of each head is what the head does on rows that it has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairfuse.arrays import Floats, Ints
from pairfuse.fusion.balance import class_weights

#: Probabilities below this count as this in logarithms.
_LEAST = 1e-6
#: Bias of a class that no row has: e^-50 is no probability in float32.
_ABSENT = -50.0


@dataclass(frozen=True)
class FinalEstimator:
    """An affine map of the logarithms of H heads' probabilities to logits."""

    weights: Floats  # (H * C, C)
    bias: Floats  # (C,)

    @property
    def size(self) -> int:
        """Number of fitted parameters."""
        return self.weights.size + self.bias.size

    def logits(self, probabilities: Floats) -> Floats:
        """Combine the probabilities of H heads.

        Args:
            probabilities: Shape (H, N, C), or (M, N, C) of members that lie head by head, as many
                for each; those of one head are averaged.

        Returns:
            Shape (N, C).
        """
        heads, (members, rows, classes) = len(self.weights) // len(self.bias), probabilities.shape
        by_head = probabilities.reshape(heads, members // heads, rows, classes)
        found = _logs(by_head.mean(axis=1)) @ self.weights + self.bias
        return np.asarray(found, dtype=np.float32)


def fit_final_estimator(
    probabilities: Floats, targets: Ints, *, strength: float = 0.0
) -> FinalEstimator:
    """Multinomial logistic regression with a ridge of 1.

    Args:
        probabilities: Shape (H, N, C), of rows that the heads had not seen.
        targets: Shape (N,); a class without a row gets no probability.
        strength: How far rows are weighed towards equal classes (see `class_weights`).
    """
    from sklearn.linear_model import LogisticRegression

    classes = probabilities.shape[-1]
    weights = class_weights(targets, classes, strength)[targets]
    model = LogisticRegression(C=1.0, max_iter=2000).fit(_logs(probabilities), targets, weights)
    coefficients, bias = model.coef_.T, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn gives the second class alone
        coefficients = np.hstack([np.zeros_like(coefficients), coefficients])
        bias = np.concatenate([[0], bias])
    every = np.zeros((len(coefficients), classes), dtype=np.float32)
    every_bias = np.full(classes, _ABSENT, dtype=np.float32)
    every[:, model.classes_], every_bias[model.classes_] = coefficients, bias
    return FinalEstimator(every, every_bias)


def _logs(probabilities: Floats) -> NDArray[np.float64]:
    """Logarithms of the heads' probabilities side by side, (H, N, C) to (N, H * C)."""
    logs = np.log(np.maximum(probabilities, _LEAST, dtype=np.float64)).transpose(1, 0, 2)
    return logs.reshape(len(logs), -1)

"""Calibration: temperature scaling, and how far confidence is from accuracy before and after.

The temperature that is judged was fitted on other folds than those that it is judged on; the one
that is returned for use was fitted on all rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from pairfuse.arrays import Bools, Floats, Ints
from pairfuse.stats.bootstrap import Draws
from pairfuse.stats.metrics import ReliabilityBin, Scores, score

#: A fitted temperature is between these.
_LOWEST, _HIGHEST = 0.05, 20.0
#: Probabilities below this count as this in logarithms.
_LEAST = 1e-12


@dataclass(frozen=True)
class Reliability:
    """How true probabilities are: expected calibration error, log loss in nats, and the bins."""

    ece: float
    log_loss: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class Calibration:
    """Temperature for use; reliability before, and after the temperature of other folds."""

    temperature: float
    before: Reliability
    after: Reliability


def apply_temperature(probabilities: Floats, temperature: float) -> Floats:
    """softmax(log p / T), shape (..., C); 1 changes nothing, more is less sure."""
    logs = np.log(np.maximum(probabilities.astype(np.float64), _LEAST)) / temperature
    raised = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), dtype=np.float32)


def fit_temperature(probabilities: Floats, targets: Ints) -> float:
    """The temperature of the least log loss (Guo et al. 2017), between 0.05 and 20.

    Args:
        probabilities: Shape (N, C).
        targets: Shape (N,).
    """
    logs = np.log(np.maximum(probabilities.astype(np.float64), _LEAST))
    own = logs[np.arange(len(targets)), targets]

    def loss(log_temperature: float) -> float:
        inverse = math.exp(-log_temperature)
        scaled = logs * inverse
        top = scaled.max(axis=1)
        total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((total - own * inverse).mean())

    bounds = (math.log(_LOWEST), math.log(_HIGHEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded")
    return float(math.exp(found.x))


def calibrated(probabilities: Floats, targets: Ints, folds: Ints) -> Floats:
    """Each row at the temperature that was fitted on the other folds of its repeat.

    Args:
        probabilities: Shape (R, N, C).
        targets: Shape (N,).
        folds: Shape (R, N), the fold that held each row out.
    """
    out = np.empty_like(probabilities)
    for repeat, rows in held_out_rows(folds):
        temperature = fit_temperature(probabilities[repeat, ~rows], targets[~rows])
        out[repeat, rows] = apply_temperature(probabilities[repeat, rows], temperature)
    return out


def calibration(
    probabilities: Floats, targets: Ints, folds: Ints, labels: Sequence[str], draws: Draws
) -> Calibration:
    """What a temperature does to the log loss and to the calibration; see `calibrated`.

    The temperature for use is fitted on the mean of repeats, as that of a trained model is.
    """
    mean = np.asarray(probabilities.mean(axis=0), dtype=np.float32)
    after = calibrated(probabilities, targets, folds)
    return Calibration(
        temperature=fit_temperature(mean, targets),
        before=_reliability(score(targets, probabilities, labels, draws)),
        after=_reliability(score(targets, after, labels, draws)),
    )


def held_out_rows(folds: Ints) -> Iterator[tuple[int, Bools]]:
    """Each repeat's folds: number of the repeat, mask (N,) of the rows that the fold held out."""
    for repeat, numbers in enumerate(folds):
        for number in np.unique(numbers):
            yield repeat, numbers == number


def _reliability(scores: Scores) -> Reliability:
    return Reliability(scores.ece.value, scores.log_loss.value, scores.reliability)

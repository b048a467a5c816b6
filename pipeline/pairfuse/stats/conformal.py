"""Conformal prediction: sets of labels that hold the true one for a promised share of the rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pairfuse.arrays import Bools, Floats, Ints
from pairfuse.stats.calibration import apply_temperature, fit_temperature, held_out_rows


@dataclass(frozen=True)
class Conformal:
    """Prediction sets: the threshold for use, and what thresholds of other folds achieve.

    Attributes:
        coverage: Share of rows whose set should hold the true label.
        threshold: Least probability of a label in the set.
        empirical_coverage: Share of rows whose set did hold it.
        mean_size: Labels in a set.
        sizes: Share of rows by the size of their set.
    """

    coverage: float
    threshold: float
    empirical_coverage: float
    mean_size: float
    sizes: dict[str, float]


def conformal_threshold(
    probabilities: Floats, targets: Ints, coverage: float, *, groups: Ints | None = None
) -> float:
    """The least probability at which a label is in the set, so that sets cover the truth.

    Of the falling p of the true labels the one at place ceil((n + 1) * coverage) (Sadinle et al.
    2019, LAC). Each group of duplicates counts as one of the n: its rows share its weight (Dunn et
    al. 2022). Too few groups for such a coverage give 0, every label.

    Args:
        probabilities: Shape (N, C).
        targets: Shape (N,).
        coverage: Share of rows whose set should hold the true label.
        groups: Shape (N,); none is one for each row.
    """
    rows = np.arange(len(targets))
    _, index, sizes = np.unique(
        rows if groups is None else groups, return_inverse=True, return_counts=True
    )
    count = len(sizes)
    needed = math.ceil((count + 1) * coverage - 1e-9)
    if needed > count:
        return 0.0
    own = probabilities[rows, targets]
    order = np.argsort(-own, kind="stable")
    reached = np.cumsum(1 / sizes[index[order]])
    place = int(np.searchsorted(reached, needed - 1e-9))
    return float(own[order[min(place, len(order) - 1)]])


def fit_sets(
    probabilities: Floats, targets: Ints, coverage: float, *, groups: Ints | None = None
) -> tuple[float, float]:
    """Temperature and threshold for rows that were not seen, both fitted on these rows.

    See `fit_temperature` and `conformal_threshold`.
    """
    temperature = fit_temperature(probabilities, targets)
    scaled = apply_temperature(probabilities, temperature)
    return temperature, conformal_threshold(scaled, targets, coverage, groups=groups)


def prediction_sets(probabilities: Floats, threshold: float) -> Bools:
    """Labels of at least this probability, and always the most probable one, (..., C)."""
    inside = probabilities >= np.float32(threshold)
    top = probabilities.argmax(axis=-1)[..., None]
    np.put_along_axis(inside, top, True, axis=-1)
    return np.asarray(inside, dtype=bool)


def conformal(
    probabilities: Floats, targets: Ints, groups: Ints, folds: Ints, *, coverage: float
) -> Conformal:
    """Prediction sets of every row by the temperature and the threshold of the other folds.

    No label of a fold takes part in its own sets. What is for use is fitted on the mean of repeats.

    Args:
        probabilities: Shape (R, N, C), as the model gave them.
        targets: Shape (N,).
        groups: Shape (N,).
        folds: Shape (R, N), the fold that held each row out.
        coverage: Share of rows whose set should hold the true label.
    """
    inside = np.empty(probabilities.shape, dtype=bool)
    for repeat, rows in held_out_rows(folds):
        others = ~rows
        temperature, threshold = fit_sets(
            probabilities[repeat, others], targets[others], coverage, groups=groups[others]
        )
        scaled = apply_temperature(probabilities[repeat, rows], temperature)
        inside[repeat, rows] = prediction_sets(scaled, threshold)
    sizes = inside.sum(axis=-1)
    shares = np.bincount(sizes.ravel(), minlength=probabilities.shape[-1] + 1) / sizes.size
    mean = np.asarray(probabilities.mean(axis=0), dtype=np.float32)
    return Conformal(
        coverage=coverage,
        threshold=fit_sets(mean, targets, coverage, groups=groups)[1],
        empirical_coverage=float(inside[:, np.arange(len(targets)), targets].mean()),
        mean_size=float(sizes.mean()),
        sizes={str(size): float(share) for size, share in enumerate(shares) if size},
    )

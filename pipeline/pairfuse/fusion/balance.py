"""Balance: class weights and SMOTE, on the training rows of one fold and no others."""

from __future__ import annotations

import warnings

import numpy as np

from pairfuse.arrays import Floats, Ints
from pairfuse.console import log
from pairfuse.features.views import Views

#: Rows of a class that synthetic ones are drawn between.
SEEN_ROWS = 2048


def class_weights(targets: Ints, num_classes: int, strength: float = 1.0) -> Floats:
    """Weigh each class by the inverse of its frequency; the mean weight over rows is 1.

    Args:
        targets: Shape (N,), values in [0, num_classes).
        num_classes: C.
        strength: Exponent in [0, 1]; 0 weighs all classes alike.

    Returns:
        Shape (C,), float32. A class without a row, as a rare one in the fold that holds it out,
        weighs 0.
    """
    counts = np.bincount(targets, minlength=num_classes).astype(np.float64)
    weights = np.zeros(num_classes)
    there = counts > 0
    weights[there] = (len(targets) / (there.sum() * counts[there])) ** strength
    return np.asarray(weights * len(targets) / (weights @ counts), dtype=np.float32)


def smote(train: Views, targets: Ints, *, strength: float, seed: int) -> tuple[Views, Ints]:
    """Add synthetic rows to the smaller classes (SMOTE, Chawla et al. 2002).

    Neighbours are sought among training rows with every view present, in the joined features, and
    among `SEEN_ROWS` of a class at most: to seek them grows with the square of the rows.

    Args:
        train: Scaled training rows of one fold.
        targets: Shape (N,).
        strength: 0 adds nothing, 1 fills every class up to the largest.
        seed: Seed of the draws.

    Returns:
        The rows as given, then the synthetic ones; the rows as they were, with a warning, where
        the smallest class has fewer than two complete rows.
    """
    whole = np.all(list(train.present.values()), axis=0)
    counts = np.bincount(targets[whole], minlength=int(targets.max()) + 1)
    wanted = _wanted(counts, strength)
    if not wanted:
        return train, targets
    fewest = min(counts[target] for target in wanted)
    if fewest < 2:
        log.warning(
            "SMOTE needs two complete training rows of a class, found %d: the fold trains without",
            fewest,
        )
        return train, targets
    joined = np.concatenate([values[whole] for values in train.features.values()], axis=1)
    synthetic, labels = _draw(joined, targets[whole], wanted, min(5, int(fewest) - 1), seed)
    return _append(train, synthetic), np.concatenate([targets, labels])


def _wanted(counts: Ints, strength: float) -> dict[int, int]:
    """How many rows each growing class should have in the end."""
    largest = counts.max()
    goals = {
        target: round(count * (largest / count) ** strength)
        for target, count in enumerate(counts.tolist())
        if count
    }
    return {target: goal for target, goal in goals.items() if goal > counts[target]}


def _draw(
    rows: Floats, targets: Ints, wanted: dict[int, int], neighbours: int, seed: int
) -> tuple[Floats, Ints]:
    from imblearn.over_sampling import SMOTE

    counts = np.bincount(targets)
    seen = _at_most(targets, SEEN_ROWS, seed)
    fewer = np.bincount(targets[seen])
    goals = {target: int(fewer[target] + goal - counts[target]) for target, goal in wanted.items()}
    sampler = SMOTE(sampling_strategy=goals, k_neighbors=neighbours, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=FutureWarning)
        grown, labels = sampler.fit_resample(rows[seen], targets[seen])
    return grown[len(seen) :].astype(np.float32), labels[len(seen) :].astype(np.int64)


def _at_most(targets: Ints, most: int, seed: int) -> Ints:
    """Row numbers, in order, of at most so many rows of each class."""
    random = np.random.default_rng(seed)
    chosen = [
        rows if len(rows) <= most else random.choice(rows, most, replace=False)
        for rows in (np.flatnonzero(targets == target) for target in np.unique(targets))
    ]
    return np.sort(np.concatenate(chosen))


def _append(train: Views, synthetic: Floats) -> Views:
    features, present, start = {}, {}, 0
    for view, values in train.features.items():
        stop = start + values.shape[1]
        features[view] = np.concatenate([values, synthetic[:, start:stop]])
        there = np.ones(len(synthetic), dtype=bool)
        present[view] = np.concatenate([train.present[view], there])
        start = stop
    return Views(features, present, train.modality)

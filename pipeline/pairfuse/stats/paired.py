"""Paired comparison of arms on the same rows, by macro-F1; groups are drawn and swapped whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import sparse
from scipy.special import gammaln

from pairfuse.arrays import Doubles, Floats, Ints
from pairfuse.stats.bootstrap import Draws, Estimate, draw_swaps, over_repeats
from pairfuse.stats.metrics import confusion_cells, macro_f1, mean_f1

#: 80 % power in a two-sided test at 5 %: the 97.5th and the 80th percentile of the normal.
POWER = 1.960 + 0.842
#: No larger number of pairs is named.
MOST_PAIRS = 10**9
_SAME = 1e-9


@dataclass(frozen=True)
class Comparison:
    """Two arms on the same rows.

    Attributes:
        difference: Macro-F1 of the first arm minus that of the second.
        p_accuracy: Exact two-sided p of McNemar's test over groups (`mcnemar`), on the y_pred of
            the mean probabilities.
        p_permutation: p of swapping the arms' predictions group by group (two-sided, macro-F1).
        p_holm: The latter, adjusted for all pairs that were compared (Holm 1979).
        error: Standard error of the difference.
        detectable: The least difference that so many rows detect with 80 % power.
        pairs_needed: Rows that would detect the difference found with 80 % power, at most
            `MOST_PAIRS`; none where there is no difference.
    """

    first: str
    second: str
    difference: Estimate
    p_accuracy: float
    p_permutation: float
    p_holm: float
    error: float
    detectable: float
    pairs_needed: int | None


def compare_all(
    arms: Mapping[str, Floats], targets: Ints, draws: Draws, *, seed: int
) -> list[Comparison]:
    """Compare every two arms, the first before the second in the order of the mapping.

    Args:
        arms: Probabilities of each arm, shape (R, N, C); the same R, N, C for all.
        targets: Shape (N,).
        draws: Resamples of the N rows' groups; the permutation test swaps the same groups, as
            often as there are resamples.
        seed: Seed of the swaps.
    """
    names, tables = list(arms), list(arms.values())
    y_pred = np.stack([table.argmax(axis=-1) for table in tables])  # (A, R, N)
    merged = [table.mean(axis=0, dtype=np.float64).argmax(axis=-1) for table in tables]
    classes = tables[0].shape[-1]
    cells = confusion_cells(
        targets, y_pred.reshape(-1, len(targets)), classes
    )  # (N, A * R * C * C)
    found = np.array([[macro_f1(targets, each, classes) for each in arm] for arm in y_pred])
    drawn = np.concatenate(
        [mean_f1(sums, classes, arms=found.size) for sums in draws.each(cells)], axis=1
    ).reshape(*found.shape, -1)  # (A, R, resamples)
    pairs = list(combinations(range(len(names)), 2))
    swaps = draw_swaps(draws.group, seed=seed, resamples=draws.resamples)
    p_values = _permutation(cells, found.mean(axis=1), pairs, swaps, classes)
    right = np.stack([each == targets for each in merged], axis=1).astype(np.float64)  # (N, A)
    hits = np.rint(draws.member @ right).astype(np.int64)  # (G, A)
    out = []
    for (one, other), p_value, adjusted in zip(pairs, p_values, holm(p_values), strict=True):
        difference, error = over_repeats(found[one] - found[other], drawn[one] - drawn[other])
        out.append(
            Comparison(
                first=names[one],
                second=names[other],
                difference=difference,
                p_accuracy=mcnemar(hits[:, one] - hits[:, other]),
                p_permutation=p_value,
                p_holm=adjusted,
                error=error,
                detectable=POWER * error,
                pairs_needed=pairs_needed(len(targets), difference.value, error),
            )
        )
    return out


def pairs_needed(rows: int, difference: float, error: float) -> int | None:
    """Rows at which a difference is detected with 80 % power, if its error falls as 1 / sqrt(N)."""
    if not difference:
        return None
    needed = rows * (POWER * error / abs(difference)) ** 2
    return max(1, math.ceil(needed)) if needed < MOST_PAIRS else MOST_PAIRS


def mcnemar(gaps: Ints) -> float:
    """Exact two-sided p of the sum of the groups' gaps, each as likely with the other sign.

    A gap is how many more rows of its group the first model has right. Where each group is one row
    this is McNemar's test (1947; binomial), which takes rows for independent.
    """
    sizes, counts = np.unique(np.abs(gaps[gaps != 0]), return_counts=True)
    turned = np.ones(1)  # chance of each sum of the sizes whose sign is turned
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        steps = np.zeros(size * count + 1)
        steps[::size] = _binomial(count)
        turned = np.convolve(turned, steps)
    sums = len(turned) - 1 - 2 * np.arange(len(turned))
    return min(1.0, float(turned[np.abs(sums) >= abs(int(gaps.sum()))].sum()))


def _binomial(count: int) -> Doubles:
    """Chance of 0 to `count` heads of so many coins."""
    heads = np.arange(count + 1.0)
    logs = gammaln(count + 1) - gammaln(heads + 1) - gammaln(count - heads + 1)
    return np.asarray(np.exp(logs - count * math.log(2)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the order given (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    rising = np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * factors)
    adjusted = dict(zip(order.tolist(), np.minimum(rising, 1.0).tolist(), strict=True))
    return [adjusted[number] for number in range(len(p_values))]


def _permutation(
    cells: sparse.csr_array,
    found: Doubles,
    pairs: Sequence[tuple[int, int]],
    swaps: Draws,
    classes: int,
) -> list[float]:
    """p of each pair: how often swapped predictions differ as much as these, themselves counted.

    What a swap takes from one arm it gives to the other, so one product for each arm serves all
    its pairs.
    """
    total = np.split(np.asarray(cells.sum(axis=0))[:, None], len(found))  # each (R * C * C, 1)
    hits = np.zeros(len(pairs))
    for sums in swaps.each(cells):
        moved = np.split(sums.astype(np.float64), len(found))  # each (R * C * C, B)
        for number, (one, other) in enumerate(pairs):
            change = moved[other] - moved[one]
            swapped = mean_f1(total[one] + change, classes)
            swapped -= mean_f1(total[other] - change, classes)
            hits[number] += (np.abs(swapped) >= abs(found[one] - found[other]) - _SAME).sum()
    return [(1 + hit) / (1 + swaps.resamples) for hit in hits.tolist()]

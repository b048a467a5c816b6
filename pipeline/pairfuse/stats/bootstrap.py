"""Bootstrap: duplicate groups drawn with replacement, the same draws for every metric and arm.

A resample is how often each group was drawn (Efron 1979; Cameron, Gelbach & Miller 2008 for whole
groups). Whatever can be written as a function of sums over rows is resampled by one product of
these counts with the rows' cells; that all arms share the draws is what pairs their differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from pairfuse.arrays import Bytes, Doubles, Floats, Ints

#: `(random, groups, resamples) -> counts (groups, resamples)`
Drawing = Callable[[np.random.Generator, int, int], Bytes]

RESAMPLES = 10_000
#: Counts of all resamples are kept when they fit, else drawn again for every product.
KEPT_BYTES = 256 * 2**20
#: Counts of one block, and its most resamples, so that its tables stay in the processor's cache.
_BLOCK = 500_000
_WIDEST = 500
#: float32 holds every whole number up to here.
_EXACT = 2**24


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, which always holds it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Draws:
    """How often each group is in each resample; made by `draw_groups` or `draw_swaps`.

    Attributes:
        group: Shape (N,), the number of each row's group, in [0, groups).
        groups: G.
        resamples: Number of resamples.
        seed: Each block of resamples is drawn from this and its number.
        drawing: Draws one block.
        kept: All blocks, each (G, B), or none where they would not fit into memory.
    """

    group: Ints
    groups: int
    resamples: int
    seed: int
    drawing: Drawing
    kept: tuple[Bytes, ...] = ()

    def blocks(self) -> Iterator[Bytes]:
        """Counts of all resamples, some at a time, (G, B)."""
        if self.kept:
            yield from self.kept
            return
        width = min(_WIDEST, max(8, _BLOCK // self.groups))
        for number, start in enumerate(range(0, self.resamples, width)):
            random = np.random.default_rng([self.seed, number])
            yield self.drawing(random, self.groups, min(width, self.resamples - start))

    @property
    def member(self) -> sparse.csr_array:
        """One at each row's group, (G, N): times the rows' cells (N, Q) it gives the groups'."""
        rows = np.arange(len(self.group))
        ones, shape = np.ones(len(rows)), (self.groups, len(rows))
        return sparse.csr_array((ones, (self.group, rows)), shape=shape)

    def each(self, cells: Doubles | sparse.csr_array) -> Iterator[Floats | Doubles]:
        """Sums of the rows' cells, shape (N, Q), in each resample: blocks of (Q, B).

        Whole numbers are exact to 2**53, sums of others to about 1e-6.
        """
        summed = (self.member @ cells).T  # (Q, G)
        if sparse.issparse(summed):
            summed = summed.tocsr()
        largest = float(abs(summed).sum(axis=1).max())
        narrow = summed.astype(np.float32)
        for block in self.blocks():
            # Twice as fast, and as exact as float64 while no sum can reach 2**24.
            if largest * int(block.max()) < _EXACT:
                yield narrow @ block.astype(np.float32)
            else:
                yield summed @ block.astype(np.float64)

    def sums(self, cells: Doubles | sparse.csr_array) -> Doubles:
        """Sums of the rows' cells, shape (N, Q), in each resample: (resamples, Q)."""
        return np.concatenate(list(self.each(cells)), axis=1, dtype=np.float64).T


def in_words(found: Estimate, *, sign: bool = False) -> str:
    """`0.617 (0.598 to 0.635)`; of a difference `+0.053 (+0.038 to +0.068)`."""
    spec = "+z.3f" if sign else "z.3f"  # z: what rounds to zero has no minus
    return f"{found.value:{spec}} ({found.low:{spec}} to {found.high:{spec}})"


def draw_groups(groups: Ints, *, seed: int, resamples: int = RESAMPLES) -> Draws:
    """Draw as many groups as there are, with replacement, once for each resample.

    Args:
        groups: Shape (N,); rows of one group are drawn together.
        seed: Same seed and groups, same draws.
        resamples: Number of resamples.
    """
    return _drawn(groups, seed, resamples, _with_replacement)


def draw_swaps(groups: Ints, *, seed: int, resamples: int = RESAMPLES) -> Draws:
    """Draw each group with probability one half: those that swap sides in a permutation test."""
    return _drawn(groups, seed, resamples, _halves)


def percentile(value: float, drawn: Floats | Doubles, *, shift: float = 0.0) -> Estimate:
    """The middle 95 % of a resampled value, moved by `shift` and stretched to hold the value.

    Resamples in which the metric is not defined (nan) are left out.
    """
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Estimate(value, value, value)
    low, high = np.quantile(known, [0.025, 0.975]).tolist()
    return Estimate(value, min(low + shift, value), max(high + shift, value))


def over_repeats(
    found: Doubles, drawn: Doubles, *, centre: float | None = None, least_error: float = 0.0
) -> tuple[Estimate, float]:
    """A value with its interval and its standard error, for noise of rows, folds and seeds.

    Resampling rows does not see all of what other folds and seeds would have changed: the variance
    between the repeats is partly that of rows which the repeats predict differently, which
    resampling does see. So `max(0, s2 - a) / R` is added to the variance of the resampled mean,
    where s2 is the variance of the value between the R repeats and a is what resampling expects of
    it: the mean of the resampled repeats' variances minus that of their covariances. The percentile
    interval is stretched about the value by the ratio of the standard errors. With one repeat
    nothing is known of such noise and nothing is added.

    Args:
        found: The value in each repeat, shape (R,).
        drawn: The resampled value in each repeat, shape (R, resamples).
        centre: Where the mean of the resamples is moved to; none leaves it.
        least_error: What resampling is known to see at least, where that is more than it did see.
    """
    value, repeats = float(found.mean()), len(found)
    mean = drawn.mean(axis=0)
    sampling = float(mean.std())
    if not sampling:
        return percentile(value, mean), sampling
    unseen = 0.0
    if repeats > 1:
        covariances = np.cov(drawn)
        apart = covariances.trace() / repeats
        together = (covariances.sum() - covariances.trace()) / (repeats * (repeats - 1))
        unseen = max(0.0, float(found.var(ddof=1) - (apart - together)))
    error = math.sqrt(max(sampling, least_error) ** 2 + unseen / repeats)
    pivot, centre = (value, value) if centre is None else (float(mean.mean()), centre)
    ends = np.quantile(mean, [0.025, 0.975])
    low, high = (centre + (ends - pivot) * error / sampling).tolist()
    return Estimate(value, min(low, value), max(high, value)), error


def indicator(columns: Ints, width: int, values: Doubles | None = None) -> sparse.csr_array:
    """Rows with one cell each: (N, width), `values` (or 1) at `columns`, both of shape (N,)."""
    filled = np.ones(len(columns)) if values is None else values
    return sparse.csr_array(
        (filled, columns, np.arange(len(columns) + 1)), shape=(len(columns), width)
    )


def _drawn(groups: Ints, seed: int, resamples: int, drawing: Drawing) -> Draws:
    names, group = np.unique(groups, return_inverse=True)
    draws = Draws(group=group, groups=len(names), resamples=resamples, seed=seed, drawing=drawing)
    if len(names) * resamples > KEPT_BYTES:
        return draws
    return replace(draws, kept=tuple(draws.blocks()))


def _with_replacement(random: np.random.Generator, groups: int, resamples: int) -> Bytes:
    kind = np.uint16 if groups <= 2**16 else np.uint32
    places = random.integers(groups, size=(groups, resamples), dtype=kind).astype(np.int64)
    places *= resamples
    places += np.arange(resamples)
    times = np.bincount(places.ravel(), minlength=groups * resamples)
    # No group is drawn 256 times: the probability is below 1e-500 where there are that many groups.
    return times.reshape(groups, resamples).astype(np.uint8)


def _halves(random: np.random.Generator, groups: int, resamples: int) -> Bytes:
    bits = np.unpackbits(np.frombuffer(random.bytes(groups * resamples // 8 + 1), np.uint8))
    return bits[: groups * resamples].reshape(groups, resamples)

"""Strata: where the image helps, kind of row by kind of row; who is right where.

Every row is in one stratum of each kind. Scores are accuracies, because a stratum may hold a single
class; differences are paired, over resampled groups, and p-values are adjusted for all strata.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pairfuse.arrays import Bools, Doubles, Floats, Ints
from pairfuse.features.views import Views
from pairfuse.stats.bootstrap import Draws, Estimate, percentile
from pairfuse.stats.paired import holm
from pairfuse.study.crossfit import Table

#: Strata with fewer rows are left out.
LEAST_ROWS = 20
#: Image clusters, and principal axes that they are found on.
CLUSTERS, AXES = 6, 32

#: What the rows are sorted by.
CLASS, LENGTH, CONFIDENCE = "class", "text length", "text-only confidence"
CONTENT, CLUSTER, AGREEMENT = "content", "image cluster", "text and image alone"
#: How a sentence says where a stratum is.
WHERE = {
    CLASS: "among pairs of the class {}",
    LENGTH: "where the text is {}",
    CONFIDENCE: "where the text-only model's confidence is {}",
    CONTENT: "in pairs that have {}",
    CLUSTER: "in image cluster {}",
    AGREEMENT: "where text and image alone {}",
}

#: What the strata are of, their name, and the rows in them.
_Kind = tuple[str, str, Bools]


@dataclass(frozen=True)
class Stratum:
    """Rows of one kind: accuracies, mean over repeats, and fused minus text-only.

    `p_holm` is the bootstrap's two-sided p of no difference, adjusted for all strata (Holm 1979).
    """

    by: str
    name: str
    rows: int
    text_only: float
    fused: float
    difference: Estimate
    p_holm: float


@dataclass(frozen=True)
class Agreement:
    """Shares of the rows in which both, one or neither of the single modalities is right."""

    both: float
    only_text: float
    only_image: float
    neither: float


def strata(
    table: Table,
    texts: Sequence[str | None],
    arms: tuple[Floats, Floats, Floats],
    draws: Draws,
    *,
    seed: int,
) -> list[Stratum]:
    """Compare fused with text-only in every stratum of at least `LEAST_ROWS` rows.

    Args:
        table: Labelled pairs; the first of its image views gives the image clusters.
        texts: N texts, none where it is missing.
        arms: Out-of-fold probabilities of text-only, image-only and fused, each (R, N, C).
        draws: Resamples of the rows' groups.
        seed: Seed of the clusters.
    """
    text_only, image_only, fused = arms
    kinds = [
        *_by_class(table),
        *_by_length(texts),
        *_by_confidence(text_only),
        *_by_presence(table.views),
        *_by_cluster(table.views, seed),
        *_by_agreement(text_only, image_only),
    ]
    kept = [kind for kind in kinds if kind[2].sum() >= LEAST_ROWS]
    if not kept:
        return []
    right = _right(table.targets, text_only), _right(table.targets, fused)
    return _compared(kept, right, draws)


def agreement(targets: Ints, text_only: Floats, image_only: Floats) -> Agreement:
    """Who is right how often, text alone or image alone.

    Args:
        targets: Shape (N,).
        text_only: Shape (R, N, C).
        image_only: Shape (R, N, C).
    """
    text, image = (each.argmax(axis=-1) == targets for each in (text_only, image_only))
    return Agreement(
        both=float((text & image).mean()),
        only_text=float((text & ~image).mean()),
        only_image=float((~text & image).mean()),
        neither=float((~text & ~image).mean()),
    )


def where(stratum: Stratum) -> str:
    """`where text and image alone disagree`."""
    return WHERE[stratum.by].format(stratum.name)


def _right(targets: Ints, probabilities: Floats) -> Doubles:
    """Share of the repeats in which each row is predicted right, (N,)."""
    return np.asarray((probabilities.argmax(axis=-1) == targets).mean(axis=0), dtype=np.float64)


def _compared(
    kinds: Sequence[_Kind], right: tuple[Doubles, Doubles], draws: Draws
) -> list[Stratum]:
    """Accuracies of the rows of each kind, by text-only and by fused."""
    inside = np.stack([rows for _, _, rows in kinds], axis=1).astype(np.float64)  # (N, S)
    gain = right[1] - right[0]
    sums = draws.sums(np.concatenate([inside, inside * gain[:, None]], axis=1))  # (resamples, 2 S)
    counts, gains = np.split(sums, 2, axis=1)
    drawn = np.where(counts > 0, gains / np.maximum(counts, 1), np.nan)
    p_values = holm([_p_value(column) for column in drawn.T])
    return [
        Stratum(
            by=by,
            name=name,
            rows=int(rows.sum()),
            text_only=float(right[0][rows].mean()),
            fused=float(right[1][rows].mean()),
            difference=percentile(float(gain[rows].mean()), column),
            p_holm=p_value,
        )
        for (by, name, rows), column, p_value in zip(kinds, drawn.T, p_values, strict=True)
    ]


def _p_value(drawn: Floats | Doubles) -> float:
    """Two-sided p of zero: twice the smaller share of resamples on a side, zeros on both."""
    known = drawn[~np.isnan(drawn)]
    fewer = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (1 + fewer) / (1 + len(known))))


def _by_class(table: Table) -> Iterator[_Kind]:
    for target, label in enumerate(table.labels):
        yield CLASS, label, table.targets == target


def _by_length(texts: Sequence[str | None]) -> Iterator[_Kind]:
    """Thirds by the number of characters."""
    lengths = np.array([-1 if text is None else len(text) for text in texts], dtype=np.float64)
    there = lengths >= 0
    yield LENGTH, "missing", ~there
    if there.any():
        low, high = np.quantile(lengths[there], [1 / 3, 2 / 3]).round()
        yield LENGTH, f"short (< {low:.0f} characters)", there & (lengths < low)
        middle = (lengths >= low) & (lengths <= high)
        yield LENGTH, f"medium ({low:.0f} to {high:.0f})", there & middle
        yield LENGTH, f"long (> {high:.0f} characters)", lengths > high


def _by_confidence(text_only: Floats) -> Iterator[_Kind]:
    """Thirds by the largest text-only probability, of the mean over repeats."""
    sure = text_only.mean(axis=0).max(axis=-1)
    low, high = np.quantile(sure, [1 / 3, 2 / 3])
    yield CONFIDENCE, f"low (< {low:.2f})", sure < low
    middle = (sure >= low) & (sure <= high)
    yield CONFIDENCE, f"medium ({low:.2f} to {high:.2f})", middle
    yield CONFIDENCE, f"high (> {high:.2f})", sure > high


def _by_presence(views: Views) -> Iterator[_Kind]:
    """Nothing where every row has both modalities."""
    text, image = (
        np.any([views.present[view] for view in views.of(modality)], axis=0)
        for modality in ("text", "image")
    )
    if (text & image).all():
        return
    yield CONTENT, "text and image", text & image
    yield CONTENT, "image only", ~text & image
    yield CONTENT, "text only", text & ~image


def _by_cluster(views: Views, seed: int) -> Iterator[_Kind]:
    """K-means (Lloyd 1982) on the first image view's principal axes; the largest comes first."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    view = views.of("image")[0]
    there = views.present[view]
    found = views.features[view][there]
    if len({row.tobytes() for row in found}) < CLUSTERS:
        return
    axes = min(AXES, *found.shape)
    reduced = PCA(axes, svd_solver="randomized", random_state=seed).fit_transform(found)
    numbers = KMeans(CLUSTERS, n_init=3, random_state=seed).fit_predict(reduced)
    cluster = np.full(len(there), -1)
    cluster[there] = numbers
    sizes = np.bincount(numbers, minlength=CLUSTERS)
    for place, number in enumerate(np.argsort(-sizes, kind="stable").tolist(), start=1):
        yield CLUSTER, f"{place} ({sizes[number]} pairs)", cluster == number


def _by_agreement(text_only: Floats, image_only: Floats) -> Iterator[_Kind]:
    """By the predictions of the mean over repeats."""
    text, image = (each.mean(axis=0).argmax(axis=-1) for each in (text_only, image_only))
    yield AGREEMENT, "agree", text == image
    yield AGREEMENT, "disagree", text != image

"""Inputs: all that a report is made from, as values that other rooms hand over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pairfuse.arrays import Floats, Ints
from pairfuse.data.images import MAX_IMAGE_BYTES, MAX_PIXELS
from pairfuse.data.pairs import Pair
from pairfuse.stats.predictions import Predictions
from pairfuse.study.evidence import Evidence


@dataclass(frozen=True)
class ReportInput:
    """One run's results.

    Args:
        title: The run's name.
        evidence: What the ablation found.
        predictions: Arm to its out-of-fold predictions.
        pairs: Guid to pair.
        history: One list of epoch rows for each model, as `FittedModel.history`.
        trials: The fused arm's trials: number, value (or None), state, params.
        metric: What the trials' values are.
        importances: Parameter to its share of the variance between trials.
        fused_features: Shape (N, D), or None where there is no map.
        targets: Shape (N,), of the rows of `fused_features`.
        data_check: What check-data prints.
        provenance: Heading to text: configuration, versions, fingerprints, seeds, commands.
        bench: File name to the parsed JSON of a benchmark.
        max_pixels: A larger picture is not shown.
        max_image_bytes: A larger picture file is not shown.
    """

    title: str
    evidence: Evidence
    predictions: Mapping[str, Predictions] = field(default_factory=dict)
    pairs: Mapping[str, Pair] = field(default_factory=dict)
    history: Sequence[Sequence[Mapping[str, float]]] = ()
    trials: Sequence[Mapping[str, Any]] = ()
    metric: str = "macro-F1"
    importances: Mapping[str, float] = field(default_factory=dict)
    fused_features: Floats | None = None
    targets: Ints | None = None
    data_check: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)
    bench: Mapping[str, Any] = field(default_factory=dict)
    max_pixels: int = MAX_PIXELS
    max_image_bytes: int = MAX_IMAGE_BYTES

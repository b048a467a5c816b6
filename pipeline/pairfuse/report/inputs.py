"""Given: all that a report is made from, as plain values that other rooms hand over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pairfuse.data.pairs import Pair

FUSED, TEXT, IMAGE = "fused", "text-only", "image-only"


class Predictions(Protocol):
    """Out-of-fold predictions of one arm, labels in words; probabilities (N, C), or none."""

    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def guids(self) -> Sequence[str]: ...
    @property
    def truth(self) -> Sequence[str]: ...
    @property
    def y_pred(self) -> Sequence[str]: ...
    @property
    def probabilities(self) -> NDArray[Any] | None: ...


@dataclass(frozen=True)
class ReportInput:
    """One run's results.

    Args:
        title: The run's name.
        evidence: What evidence.json holds.
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
    """

    title: str
    evidence: Mapping[str, Any]
    predictions: Mapping[str, Predictions] = field(default_factory=dict)
    pairs: Mapping[str, Pair] = field(default_factory=dict)
    history: Sequence[Sequence[Mapping[str, float]]] = ()
    trials: Sequence[Mapping[str, Any]] = ()
    metric: str = "macro-F1"
    importances: Mapping[str, float] = field(default_factory=dict)
    fused_features: NDArray[np.float32] | None = None
    targets: NDArray[np.int64] | None = None
    data_check: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)
    bench: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> Sequence[str]:
        """The label vocabulary, in order."""
        found: Sequence[str] = self.evidence.get("labels") or ()
        return found

    def arm(self, name: str) -> Mapping[str, Any] | None:
        """The evidence of one arm."""
        arms = self.evidence.get("arms") or ()
        return next((arm for arm in arms if arm["name"] == name), None)

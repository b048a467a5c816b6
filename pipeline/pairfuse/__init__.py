"""Classify pairs of one text and one image: extract features once, train many times.

The public names come from `pairfuse.api` when they are first asked for, so that importing pairfuse
imports neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pairfuse.api import (
        AblationStudy,
        FusionClassifier,
        PairfuseError,
        Pairs,
        Views,
        ablate,
        compare,
        cross_val_proba,
        extract_features,
        load_dataset,
    )

__version__ = "0.1.0"

__all__ = [
    "AblationStudy",
    "FusionClassifier",
    "PairfuseError",
    "Pairs",
    "Views",
    "__version__",
    "ablate",
    "compare",
    "cross_val_proba",
    "extract_features",
    "load_dataset",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'pairfuse' has no attribute {name!r}")
    return getattr(importlib.import_module("pairfuse.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Classify pairs of one text and one image: extract features once, train many times.

Each public name is imported when it is first asked for, so that importing pairfuse imports neither
torch nor numpy, and comparing other models' predictions needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pairfuse.api import Pairs, ablate, cross_val_proba, extract_features, load_dataset
    from pairfuse.errors import PairfuseError
    from pairfuse.features.views import Views
    from pairfuse.fusion.classifier import FusionClassifier
    from pairfuse.stats.compare import compare

__version__ = "0.1.0"
__all__ = [
    "FusionClassifier",
    "PairfuseError",
    "Pairs",
    "Views",
    "ablate",
    "compare",
    "cross_val_proba",
    "extract_features",
    "load_dataset",
]
#: The modules that hold them, but for those that `pairfuse.api` holds.
_HOMES = {
    "FusionClassifier": "pairfuse.fusion.classifier",
    "PairfuseError": "pairfuse.errors",
    "Views": "pairfuse.features.views",
    "compare": "pairfuse.stats.compare",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES.get(name, "pairfuse.api")), name)
    globals()[name] = found  # asked for once
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

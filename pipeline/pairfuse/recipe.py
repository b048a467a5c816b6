"""Recipe: every choice that training makes for one model; what tuning searches and runs keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pairfuse.errors import ConfigError, shown

Balance = Literal["none", "weights", "smote"]
BALANCES: tuple[Balance, ...] = ("none", "weights", "smote")


@dataclass(frozen=True)
class Recipe:
    """How one head is built and trained.

    `reduce` is the number of principal axes kept of each view and `whitening` how far they are
    evened out (see ViewScaling); `strength` is how far class weights or SMOTE go towards equal
    classes; `views` are the encoders used (empty: all); `warmup` is the share of all steps;
    `modality_dropout` is the chance that a row loses its text or its image in a training step.
    """

    head: str = "projected"
    width: int = 64
    dropout: float = 0.4
    lr: float = 2e-3
    weight_decay: float = 0.05
    smoothing: float = 0.1
    balance: Balance = "weights"
    strength: float = 0.5
    reduce: int = 64
    whitening: float = 0.5
    views: tuple[str, ...] = ()
    epochs: int = 24
    patience: int = 8
    batch: int = 256
    accumulate: int = 1
    warmup: float = 0.1
    clip: float = 1.0
    modality_dropout: float = 0.0
    monitor: Literal["macro_f1", "loss"] = "macro_f1"

    def __post_init__(self) -> None:
        bounds = {
            "width": (1, 4096),
            "dropout": (0, 0.95),
            "lr": (0, 10),
            "weight_decay": (0, 10),
            "smoothing": (0, 0.9),
            "strength": (0, 1),
            "reduce": (1, 65536),
            "whitening": (0, 1),
            "epochs": (1, 100_000),
            "patience": (1, 100_000),
            "batch": (1, 1_000_000),
            "accumulate": (1, 10_000),
            "warmup": (0, 1),
            "clip": (0, 1e9),
            "modality_dropout": (0, 0.95),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {shown(getattr(self, name))}; use {low} to {high}")
        if self.balance not in BALANCES:
            raise ConfigError(
                f"no balance {shown(self.balance)}; choose one of {', '.join(BALANCES)}"
            )
        if self.monitor not in ("macro_f1", "loss"):
            raise ConfigError(f"no monitor {shown(self.monitor)}; choose macro_f1 or loss")

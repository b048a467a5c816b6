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

    `n_components` is the number of principal axes kept of each view and `whitening` how far they
    are evened out (see ViewScaling); `balance_strength` is how far class weights or SMOTE go
    towards equal classes; `views` are the encoders used (empty: all); `warmup_ratio` is the share
    of all steps; `modality_dropout` is the chance that a row loses its text or its image in a
    training step.
    """

    head: str = "projected"
    hidden_dim: int = 64
    dropout: float = 0.4
    lr: float = 2e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    balance: Balance = "weights"
    balance_strength: float = 0.5
    n_components: int = 64
    whitening: float = 0.5
    views: tuple[str, ...] = ()
    epochs: int = 24
    patience: int = 8
    batch_size: int = 256
    grad_accumulation_steps: int = 1
    warmup_ratio: float = 0.1
    max_grad_norm: float = 1.0
    modality_dropout: float = 0.0
    monitor: Literal["macro_f1", "loss"] = "macro_f1"

    def __post_init__(self) -> None:
        bounds = {
            "hidden_dim": (1, 4096),
            "dropout": (0, 0.95),
            "lr": (0, 10),
            "weight_decay": (0, 10),
            "label_smoothing": (0, 0.9),
            "balance_strength": (0, 1),
            "n_components": (1, 65536),
            "whitening": (0, 1),
            "epochs": (1, 100_000),
            "patience": (1, 100_000),
            "batch_size": (1, 1_000_000),
            "grad_accumulation_steps": (1, 10_000),
            "warmup_ratio": (0, 1),
            "max_grad_norm": (0, 1e9),
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

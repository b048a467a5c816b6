"""Row bank: the rows of all models of a stack, of which each step takes a batch for each model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pairfuse.arrays import Bools, Ints
from pairfuse.data.soft_labels import SoftLabels
from pairfuse.features.token_views import HeldTokens, TokenRows
from pairfuse.features.views import Views

#: By view: values (M, B, D) or (M, B, T, D), and which are there, (M, B) or (M, B, T).
Batch = tuple[dict[str, Tensor], dict[str, Tensor]]
#: Tokens of a bank are held in memory up to this size; of more, those of a step are read.
HELD_BYTES = 2**30


class RowBank:
    """Pooled vectors: the rows of M models one after the other, taken by one gather a view."""

    def __init__(self, rows: Sequence[Views], device: torch.device) -> None:
        self.starts = _starts([len(each) for each in rows], device)
        self.views = {
            view: torch.cat([torch.from_numpy(each.features[view]) for each in rows]).to(device)
            for view in rows[0].features
        }
        self.present = {
            view: torch.cat([torch.from_numpy(each.present[view]) for each in rows]).to(device)
            for view in rows[0].features
        }

    def take(self, models: Sequence[int], place: Tensor) -> Batch:
        """Rows `place[m]` (M, B) of these models."""
        index = (place + self.starts[models, None]).reshape(-1)
        views = {
            view: values.index_select(0, index).reshape(*place.shape, -1)
            for view, values in self.views.items()
        }
        present = {view: there[index].reshape(place.shape) for view, there in self.present.items()}
        return views, present


class TokenBank:
    """Tokens, which may not fit into memory."""

    def __init__(self, rows: Sequence[Views], device: torch.device) -> None:
        self.rows, self.device = rows, device
        size = sum(tokens.size for each in rows for tokens in each.tokens.values())
        self.tokens: list[dict[str, TokenRows | HeldTokens]] = [
            {view: t.held() if size <= HELD_BYTES else t for view, t in each.tokens.items()}
            for each in rows
        ]

    def take(self, models: Sequence[int], place: Tensor) -> Batch:
        """Rows `place[m]` (M, B) of these models; T is the longest of the step, of all models.

        Raises:
            StoreError: A row is damaged.
        """
        chosen = place.cpu().numpy()
        views, present = {}, {}
        for view in self.tokens[0]:
            taken = [
                read_tokens(self.tokens[model][view], self.rows[model].present[view], own)
                for model, own in zip(models, chosen, strict=True)
            ]
            longest = max(mask.shape[1] for _, mask in taken)
            lacking = [longest - mask.shape[1] for _, mask in taken]
            padded = [
                (functional.pad(values, (0, 0, 0, more)), functional.pad(mask, (0, more)))
                for (values, mask), more in zip(taken, lacking, strict=True)
            ]
            views[view] = torch.stack([values for values, _ in padded]).to(self.device)
            present[view] = torch.stack([mask for _, mask in padded]).to(self.device)
        return views, present


class TargetBank:
    """What each row should be: its class, or the shares of several."""

    def __init__(
        self,
        targets: Sequence[Ints],
        soft_labels: Sequence[SoftLabels | None],
        device: torch.device,
    ) -> None:
        self.counts = [len(each) for each in targets]
        self.starts = _starts(self.counts, device)
        self.targets = torch.cat([torch.from_numpy(each) for each in targets]).to(device)
        soft = [each for each in soft_labels if each is not None]
        if not soft:
            self.classes = self.targets[:, None]  # (N, 1)
            self.shares = torch.ones_like(self.classes, dtype=torch.float32)
            return
        classes = torch.cat([torch.from_numpy(each.classes) for each in soft])
        self.classes = classes.clamp(min=0).to(device)  # what pads has no share
        self.shares = torch.cat([torch.from_numpy(each.shares) for each in soft]).to(device)

    def take(self, models: Sequence[int], place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Targets (M, B), classes and their shares (M, B, A) of rows `place[m]` (M, B)."""
        index = place + self.starts[models, None]
        return self.targets[index], self.classes[index], self.shares[index]


def read_tokens(
    tokens: TokenRows | HeldTokens, present: Bools, chosen: Ints
) -> tuple[Tensor, Tensor]:
    """Tokens of the chosen rows (B, T, D), and which are there (B, T).

    Raises:
        StoreError: A row is damaged.
    """
    values, mask = tokens.take(chosen)
    return torch.from_numpy(values), torch.from_numpy(mask & present[chosen][:, None])


def batches(counts: Sequence[int], batch: int, order: Sequence[torch.Generator]) -> Tensor:
    """Each model's row numbers in a new order, cut into batches, -1 pads: (steps, M, B)."""
    steps = max(math.ceil(count / batch) for count in counts)
    out = torch.full((len(counts), steps * batch), -1, dtype=torch.int64)
    for model, (count, generator) in enumerate(zip(counts, order, strict=True)):
        out[model, :count] = torch.randperm(count, generator=generator)
    return out.reshape(len(counts), steps, batch).transpose(0, 1).contiguous()


def _starts(counts: Sequence[int], device: torch.device) -> Tensor:
    """Where each model's rows begin, (M,)."""
    return torch.from_numpy(np.cumsum([0, *counts[:-1]])).to(device)

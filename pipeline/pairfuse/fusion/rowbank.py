"""Row bank: the rows of all models of a stack in one array a view, taken by one gather a step.

Tokens do not fit into memory: those of a step are read from disk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pairfuse.encoders.tokens import Bools, Halves
from pairfuse.features.table import Ints, Views


class RowBank:
    """Rows of M models one after the other; what a model lacks of a view's width is zero."""

    def __init__(
        self,
        rows: Sequence[tuple[Views, Ints]],
        dims: Mapping[str, int],
        device: torch.device,
    ) -> None:
        self.counts = [len(targets) for _, targets in rows]
        starts = [sum(self.counts[:model]) for model in range(len(rows))]
        self.starts = torch.tensor(starts, device=device)
        self.targets = torch.cat([torch.from_numpy(targets) for _, targets in rows]).to(device)
        self.tokens = [views.tokens for views, _ in rows]
        self.device = device
        self.views: dict[str, Tensor] = {}
        self.present: dict[str, Tensor] = {}
        for view, dim in dims.items():
            values = torch.zeros(sum(self.counts), dim)
            there = torch.ones(sum(self.counts), dtype=torch.bool)
            for start, count, (views, _) in zip(starts, self.counts, rows, strict=True):
                if view in views.features:
                    own = torch.from_numpy(views.features[view])
                    values[start : start + count, : own.shape[1]] = own
                    there[start : start + count] = torch.from_numpy(views.present[view])
            self.views[view] = values.to(device)
            complete = bool(there.all())
            self.present[view] = (there.all() if complete else there).to(device)

    def take(
        self, models: Sequence[int], place: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Rows `place[m]` (M, B) of these models: views (M, B, D), present, targets (M, B).

        Where a view is there in every row of the bank, its `present` is a single True.
        """
        index = (place + self.starts[models, None]).reshape(-1)
        views = {
            view: values.index_select(0, index).reshape(*place.shape, -1)
            for view, values in self.views.items()
        }
        present = {
            view: there[index].reshape(place.shape) if there.dim() else there
            for view, there in self.present.items()
        }
        return views, present, self.targets[index].reshape(place.shape)

    def take_tokens(
        self, models: Sequence[int], place: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Tokens of rows `place[m]` (M, B) of these models: (M, B, T, D), and which are there.

        T is the longest of the step, of all models; a row without a sequence, and a model without
        the view, have no token there, (M, B, T) False.

        Raises:
            StoreError: A row is damaged.
        """
        chosen = place.cpu().numpy()
        found: dict[str, dict[int, tuple[Halves, Bools]]] = {}
        for number, model in enumerate(models):
            for view, rows in self.tokens[model].items():
                found.setdefault(view, {})[number] = rows.take_halves(chosen[number])
        tokens, there = {}, {}
        for view, taken in found.items():
            longest = max(mask.shape[1] for _, mask in taken.values())
            width = next(iter(taken.values()))[0].shape[2]
            padded = torch.zeros(*place.shape, longest, width, dtype=torch.float16)
            real = torch.zeros(*place.shape, longest, dtype=torch.bool)
            for number, (values, mask) in taken.items():
                padded[number, :, : mask.shape[1]] = torch.from_numpy(values)
                real[number, :, : mask.shape[1]] = torch.from_numpy(mask)
            tokens[view] = padded.to(self.device).float()  # half of it goes over the bus
            there[view] = real.to(self.device)
        return tokens, there


def batches(counts: Sequence[int], batch: int, order: Sequence[torch.Generator]) -> Tensor:
    """Each model's row numbers in a new order, cut into batches, -1 pads: (steps, M, B)."""
    steps = max(math.ceil(count / batch) for count in counts)
    out = torch.full((len(counts), steps * batch), -1, dtype=torch.int64)
    for model, (count, generator) in enumerate(zip(counts, order, strict=True)):
        out[model, :count] = torch.randperm(count, generator=generator)
    return out.reshape(len(counts), steps, batch).transpose(0, 1).contiguous()

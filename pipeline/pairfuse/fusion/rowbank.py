"""Row bank: the rows of all models of a stack in one array a view, taken by one gather a step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pairfuse.arrays import Ints
from pairfuse.data.soft_labels import SoftLabels
from pairfuse.features.token_views import HeldTokens, TokenRows
from pairfuse.features.views import Views


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
        self.views: dict[str, Tensor] = {}
        self.present: dict[str, Tensor] = {}
        for view, dim in dims.items():
            values = torch.zeros(sum(self.counts), dim)
            present = torch.ones(sum(self.counts), dtype=torch.bool)
            for start, count, (views, _) in zip(starts, self.counts, rows, strict=True):
                if view in views.features:
                    own = torch.from_numpy(views.features[view])
                    values[start : start + count, : own.shape[1]] = own
                    present[start : start + count] = torch.from_numpy(views.present[view])
            self.views[view] = values.to(device)
            complete = bool(present.all())
            self.present[view] = (present.all() if complete else present).to(device)

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
            view: present[index].reshape(place.shape) if present.dim() else present
            for view, present in self.present.items()
        }
        return views, present, self.targets[index].reshape(place.shape)

    def masks(self, present: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What a network is told of views that are `present`: that."""
        return present


#: Tokens of a bank are held in memory up to this size; of more, those of a step are read.
HELD_BYTES = 2**30


class TokenBank:
    """The same for tokens, which may not fit into memory."""

    def __init__(
        self,
        rows: Sequence[tuple[Views, Ints]],
        dims: Mapping[str, int],
        device: torch.device,
        *,
        again: bool = True,
    ) -> None:
        """Not held are tokens that will not be taken `again`."""
        self.counts = [len(targets) for _, targets in rows]
        self.rows, self.dims, self.device = rows, dims, device
        stored = [dict(views.tokens) for views, _ in rows]
        size = sum(tokens.size for own in stored for tokens in own.values())
        self.tokens: list[dict[str, TokenRows | HeldTokens]] = [
            {view: t.held() if again and size <= HELD_BYTES else t for view, t in own.items()}
            for own in stored
        ]
        self.attention_mask: dict[str, Tensor] = {}

    def take(
        self, models: Sequence[int], place: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Rows `place[m]` (M, B) of these models: tokens (M, B, T, D), present, targets (M, B).

        T is the longest of the step, of all models.

        Raises:
            StoreError: A row is damaged.
        """
        chosen = place.cpu().numpy()
        tokens, present = {}, {}
        for view, dim in self.dims.items():
            taken = {
                number: self.tokens[model][view].take(chosen[number])
                for number, model in enumerate(models)
                if view in self.tokens[model]
            }
            longest = max((mask.shape[1] for _, mask in taken.values()), default=1)
            values = torch.zeros(*place.shape, longest, dim)
            mask_of_step = torch.zeros(*place.shape, longest, dtype=torch.bool)
            for number, (own, mask) in taken.items():
                values[number, :, : mask.shape[1], : own.shape[2]] = torch.from_numpy(own)
                seen = self.rows[models[number]][0].present[view][chosen[number]]
                mask_of_step[number, :, : mask.shape[1]] = torch.from_numpy(mask & seen[:, None])
            tokens[view], self.attention_mask[view] = (
                values.to(self.device),
                mask_of_step.to(self.device),
            )
            present[view] = self.attention_mask[view].any(dim=2)
        targets = [self.rows[model][1][chosen[number]] for number, model in enumerate(models)]
        return tokens, present, torch.from_numpy(np.stack(targets)).to(self.device)

    def masks(self, present: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Which tokens of the rows just taken are there, (M, B, T), of views that are `present`."""
        return {view: self.attention_mask[view] & present[view][..., None] for view in self.dims}


class SoftLabelBank:
    """Classes and their shares of the rows of M models, one after the other."""

    def __init__(self, rows: Sequence[SoftLabels], device: torch.device) -> None:
        counts = [len(each.classes) for each in rows]
        self.starts = torch.tensor([sum(counts[:model]) for model in range(len(rows))]).to(device)
        classes = torch.cat([torch.from_numpy(each.classes) for each in rows])
        self.classes = classes.clamp(min=0).to(device)  # what pads has no share
        self.shares = torch.cat([torch.from_numpy(each.shares) for each in rows]).to(device)

    def take(self, models: Sequence[int], place: Tensor) -> tuple[Tensor, Tensor]:
        """Classes and shares (M, B, A) of rows `place[m]` (M, B) of these models."""
        index = place + self.starts[models, None]
        return self.classes[index], self.shares[index]


def batches(counts: Sequence[int], batch: int, order: Sequence[torch.Generator]) -> Tensor:
    """Each model's row numbers in a new order, cut into batches, -1 pads: (steps, M, B)."""
    steps = max(math.ceil(count / batch) for count in counts)
    out = torch.full((len(counts), steps * batch), -1, dtype=torch.int64)
    for model, (count, generator) in enumerate(zip(counts, order, strict=True)):
        out[model, :count] = torch.randperm(count, generator=generator)
    return out.reshape(len(counts), steps, batch).transpose(0, 1).contiguous()

"""Training: M models side by side, each with its own rows, rates, schedule and stopping.

A model is a `Task`: its training rows, its validation rows, a recipe and a seed. What comes out
depends on the task alone, not on its company in the stack. Models that stop leave the stack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pairfuse.features.table import Ints, Views
from pairfuse.fusion.balance import class_weights
from pairfuse.fusion.heads import FusionNetwork, HeadShape
from pairfuse.fusion.layers import Dropout
from pairfuse.fusion.optimiser import StackedAdamW
from pairfuse.recipe import Recipe

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """One model to train: scaled (and balanced) training rows, scaled validation rows."""

    recipe: Recipe
    train: Views
    targets: Ints  # (N,)
    val: Views
    val_targets: Ints
    num_classes: int
    seed: int


@dataclass
class Trained:
    """One model at its best epoch: parameters by name (no M), history as rows."""

    shape: HeadShape
    recipe: Recipe
    parameters: dict[str, Floats]
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = -math.inf


Watch = Callable[[int, Sequence[float]], object]


def train_stack(
    tasks: Sequence[Task], *, device: str = "cpu", watch: Watch | None = None
) -> list[Trained]:
    """Train all tasks together; all must have the same `recipe.shape_key` and views.

    Args:
        tasks: M tasks.
        device: A torch device's name; on CUDA the forward pass runs in bfloat16.
        watch: Called after each epoch with its number and each task's best value so far; what it
            raises ends the training.

    Returns:
        M models, each with the parameters of its best epoch.
    """
    stack = _Stack(tasks, device)
    while stack.alive:
        stack.run_epoch()
        if watch:
            watch(stack.epoch, [model.best_value for model in stack.trained])
    return stack.trained


def build_network(model: Trained) -> FusionNetwork:
    """The trained network, as a stack of one."""
    network = FusionNetwork(model.recipe.head, model.shape, [0])
    network.load_state_dict(
        {name: torch.from_numpy(values)[None] for name, values in model.parameters.items()}
    )
    return network.eval()


def predict_logits(model: Trained, rows: Views) -> Floats:
    """Logits for scaled rows, shape (N, C); a row's logits do not depend on the other rows."""
    network = build_network(model)
    with torch.inference_mode():
        logits = network(
            {view: torch.from_numpy(values)[None] for view, values in rows.features.items()},
            {view: torch.from_numpy(there)[None] for view, there in rows.present.items()},
        )
    out: Floats = logits[0].numpy()
    return out


class _Stack:
    """The state of a stack in training; `alive` are the numbers of the tasks still in it."""

    def __init__(self, tasks: Sequence[Task], device: str) -> None:
        first = tasks[0]
        self.tasks = list(tasks)
        self.device = torch.device(device)
        self.alive = list(range(len(tasks)))
        self.epoch = 0
        shape = HeadShape(
            dict(sorted(first.train.dims.items())),
            dict(first.train.modality),
            first.num_classes,
            first.recipe.width,
        )
        seeds = [task.seed for task in tasks]
        self.network = FusionNetwork(first.recipe.head, shape, seeds).to(self.device)
        self.order = [torch.Generator().manual_seed(seed + 1) for seed in seeds]
        self.drop = Dropout(
            torch.tensor([task.recipe.dropout for task in tasks]),
            [torch.Generator().manual_seed(seed + 2) for seed in seeds],
        )
        self.optimiser = StackedAdamW(
            dict(self.network.named_parameters()),
            decay=[task.recipe.weight_decay for task in tasks],
            clip=[task.recipe.clip for task in tasks],
        )
        self.rows = [_Rows(task.train, task.targets, self.device) for task in tasks]
        self.val = [_Rows(task.val, task.val_targets, self.device) for task in tasks]
        self.weights = torch.stack([_weights(task) for task in tasks]).to(self.device)  # (M, C)
        self.trained = [Trained(shape, task.recipe, {}) for task in tasks]
        self.step = [0] * len(tasks)

    def run_epoch(self) -> None:
        """One pass of every model over its own rows, then validation, stopping, snapshots."""
        self.epoch += 1
        plans = [self._plan(model) for model in self.alive]  # (steps_m, B) indices, -1 pads
        classes = self.tasks[0].num_classes
        train_loss = torch.zeros(len(self.alive), device=self.device)
        cells = torch.zeros(len(self.alive), classes * classes, device=self.device)
        self.network.train()
        for step in range(max(len(plan) for plan in plans)):
            active = torch.tensor([step < len(plan) for plan in plans], device=self.device)
            index = torch.stack(
                [plan[step] if step < len(plan) else torch.full_like(plan[0], -1) for plan in plans]
            )
            loss, seen = self._step(index.to(self.device), active)
            train_loss += loss
            cells += seen
        counts = torch.tensor([self.rows[m].count for m in self.alive], device=self.device)
        confusion = cells.reshape(-1, classes, classes)
        self._validate(
            {
                "train_loss": (train_loss / counts).tolist(),
                "train_accuracy": (_hits(confusion) / counts).tolist(),
                "train_macro_f1": _macro_f1(confusion).tolist(),
            }
        )

    def _plan(self, model: int) -> Tensor:
        """Row numbers in a new order, cut into batches, padded with -1: (steps, B)."""
        batch, count = self.tasks[model].recipe.batch, self.rows[model].count
        order = torch.randperm(count, generator=self.order[model])
        steps = math.ceil(count / batch)
        padded = torch.full((steps * batch,), -1, dtype=torch.int64)
        padded[:count] = order
        return padded.reshape(steps, batch)

    def _step(self, index: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """One update of each active model; returns summed loss (M,) and confusion (M, C * C)."""
        accumulate = self.tasks[0].recipe.accumulate
        real = (index >= 0).sum(dim=1).clamp(min=1)  # (M,)
        losses = torch.zeros(len(self.alive), device=self.device)
        cells = torch.zeros(len(self.alive), self.tasks[0].num_classes ** 2, device=self.device)
        self.network.zero_grad(set_to_none=True)
        self.drop.active = active.tolist()
        for piece in index.chunk(accumulate, dim=1):
            loss, seen = self._loss(piece)
            (loss / real).sum().backward()  # type: ignore[no-untyped-call]
            losses += loss.detach()
            cells += seen
        self.optimiser.step(self._rates(active), active)
        return losses, cells

    def _loss(self, index: Tensor) -> tuple[Tensor, Tensor]:
        mask = index >= 0
        views, present, targets = _gather([self.rows[m] for m in self.alive], index.clamp(min=0))
        cuda = self.device.type == "cuda"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=cuda):
            logits = self.network(views, present, self.drop)
        loss = _smoothed_loss(logits.float(), targets, self._smoothing())  # (M, B)
        loss = loss * self.weights.gather(1, targets) * mask
        return loss.sum(dim=1), _confusion(targets, logits.argmax(dim=-1), mask, logits.shape[-1])

    def _smoothing(self) -> Tensor:
        values = [self.tasks[m].recipe.smoothing for m in self.alive]
        return torch.tensor(values, device=self.device)[:, None]

    def _rates(self, active: Tensor) -> Tensor:
        """Learning rate of each model at its own step: linear warm-up, then a cosine to zero."""
        rates = []
        for model, is_active in zip(self.alive, active.tolist(), strict=True):
            recipe = self.tasks[model].recipe
            total = recipe.epochs * math.ceil(self.rows[model].count / recipe.batch)
            rates.append(recipe.lr * _schedule(self.step[model], total, recipe.warmup))
            self.step[model] += is_active
        return torch.tensor(rates, device=self.device)

    def _validate(self, trained_scores: Mapping[str, Sequence[float]]) -> None:
        """Score the validation rows, write history, keep the best, let go of those that stopped."""
        scores = {**trained_scores, **self._score()}
        better, done = [], []
        for place, model in enumerate(self.alive):
            trained, recipe = self.trained[model], self.tasks[model].recipe
            row = {name: values[place] for name, values in scores.items()}
            trained.history.append({"epoch": self.epoch, **row})
            value = row["val_macro_f1"] if recipe.monitor == "macro_f1" else -row["val_loss"]
            if value > trained.best_value or not trained.parameters:
                trained.best_value, trained.best_epoch = value, self.epoch
                better.append(place)
            waited = self.epoch - trained.best_epoch
            if waited >= recipe.patience or self.epoch >= recipe.epochs:
                done.append(place)
        self._keep(better)
        self._drop(done)

    def _score(self) -> dict[str, list[float]]:
        """Validation loss, accuracy and macro-F1 of each model."""
        self.network.eval()
        rows = [self.val[m] for m in self.alive]
        longest = max(part.count for part in rows)
        index = torch.arange(longest, device=self.device).expand(len(rows), -1)
        counts = torch.tensor([part.count for part in rows], device=self.device)
        mask = index < counts[:, None]
        with torch.inference_mode():
            views, present, targets = _gather(rows, torch.minimum(index, counts[:, None] - 1))
            logits = self.network(views, present).float()
            loss = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        classes = logits.shape[-1]
        confusion = _confusion(targets, logits.argmax(dim=-1), mask, classes)
        confusion = confusion.reshape(-1, classes, classes)
        return {
            "val_loss": ((loss * mask).sum(dim=1) / counts).tolist(),
            "val_accuracy": (_hits(confusion) / counts).tolist(),
            "val_macro_f1": _macro_f1(confusion).tolist(),
        }

    def _keep(self, places: Sequence[int]) -> None:
        """Snapshot the parameters of the models that just got better."""
        for name, parameter in self.network.named_parameters():
            for place in places:
                values = parameter.detach()[place].cpu().numpy().copy()
                self.trained[self.alive[place]].parameters[name] = values

    def _drop(self, places: Sequence[int]) -> None:
        """Models that stopped leave the stack."""
        stay = [place for place in range(len(self.alive)) if place not in set(places)]
        self.alive = [self.alive[place] for place in stay]
        if not places or not stay:
            return
        chosen = torch.tensor(stay, device=self.device)
        for parameter in self.network.parameters():
            parameter.grad = None
            parameter.data = parameter.data[chosen].contiguous()
        self.optimiser.select(chosen)
        self.drop.select(stay)
        self.weights = self.weights[chosen]


class _Rows:
    """One model's rows on the device."""

    def __init__(self, views: Views, targets: Ints, device: torch.device) -> None:
        order = sorted(views.features)
        self.count = len(targets)
        self.views = {view: torch.from_numpy(views.features[view]).to(device) for view in order}
        self.present = {view: torch.from_numpy(views.present[view]).to(device) for view in order}
        self.targets = torch.from_numpy(targets).to(device)


def _gather(
    rows: Sequence[_Rows], index: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Rows `index[m]` of each model: views (M, B, D), present (M, B), targets (M, B)."""
    names = rows[0].views
    views = {
        view: torch.stack([part.views[view][i] for part, i in zip(rows, index, strict=True)])
        for view in names
    }
    present = {
        view: torch.stack([part.present[view][i] for part, i in zip(rows, index, strict=True)])
        for view in names
    }
    targets = torch.stack([part.targets[i] for part, i in zip(rows, index, strict=True)])
    return views, present, targets


def _smoothed_loss(logits: Tensor, targets: Tensor, smoothing: Tensor) -> Tensor:
    """Cross-entropy with label smoothing (Szegedy et al. 2016), shape (M, B)."""
    logs = functional.log_softmax(logits, dim=-1)
    right = logs.gather(-1, targets[..., None])[..., 0]
    return -(1 - smoothing) * right - smoothing * logs.mean(dim=-1)


def _confusion(targets: Tensor, guesses: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """Counts of (target, guess) over the rows in the mask, shape (M, C * C)."""
    cells = torch.zeros(len(targets), num_classes**2, device=targets.device)
    return cells.scatter_add_(1, targets * num_classes + guesses, mask.float())


def _hits(confusion: Tensor) -> Tensor:
    return confusion.diagonal(dim1=-2, dim2=-1).sum(dim=-1)  # (M,)


def _macro_f1(confusion: Tensor) -> Tensor:
    """Mean F1 over all classes, shape (M,); a class never seen nor guessed counts 0."""
    both = confusion.diagonal(dim1=-2, dim2=-1)
    total = confusion.sum(dim=-1) + confusion.sum(dim=-2)
    return (2 * both / total.clamp(min=1)).mean(dim=-1)


def _weights(task: Task) -> Tensor:
    if task.recipe.balance != "weights":
        return torch.ones(task.num_classes)
    return torch.from_numpy(class_weights(task.targets, task.num_classes, task.recipe.strength))


def _schedule(step: int, total: int, warmup: float) -> float:
    rising = max(1, round(total * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))

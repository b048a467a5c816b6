"""Training: M models side by side, each with its own rows, rates, schedule and stopping.

A model is a `TrainingSpec`: its training rows, its validation rows, a recipe and a seed. What comes
out depends on these alone, not on its company. Models of one shape train in one stack, all stacks
epoch by epoch; models that stop leave theirs. Padding models of other widths and views into one
stack was measured and left out: a search of 20 trials of 5 models each on MVSA-Single, one thread,
took 29.1 CPU seconds padded, 27.3 with one stack for each shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pairfuse.arrays import Floats, Ints
from pairfuse.data.soft_labels import SoftLabels
from pairfuse.features.views import Views
from pairfuse.fusion.balance import class_weights
from pairfuse.fusion.blocks import HeadShape
from pairfuse.fusion.heads import FusionNetwork, is_token_head
from pairfuse.fusion.layers import Dropout, ModalityDropout
from pairfuse.fusion.optimiser import StackedAdamW
from pairfuse.fusion.rowbank import RowBank, SoftLabelBank, TokenBank, batches
from pairfuse.memory import keep_memory
from pairfuse.recipe import Recipe

#: Rows whose tokens are in memory at a time, but in training, which has its batches.
TOKEN_ROWS = 64
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class TrainingSpec:
    """One model to train: scaled (and balanced) training rows, scaled validation rows.

    `held_out` rows are never looked at in training; the fitted model's logits for them are kept.
    With `soft_labels` each training row has shares of several classes in place of its target.
    """

    recipe: Recipe
    train: Views
    targets: Ints  # (N,)
    val: Views
    val_targets: Ints
    num_classes: int
    seed: int
    held_out: Views | None = None
    soft_labels: SoftLabels | None = None

    @property
    def shape(self) -> HeadShape:
        """What the model's own network is built from."""
        reads_tokens = is_token_head(self.recipe.head)
        dims = dict(sorted((self.train.token_dims if reads_tokens else self.train.dims).items()))
        return HeadShape(dims, dict(self.train.modality), self.num_classes, self.recipe.hidden_dim)


@dataclass
class FittedModel:
    """One model at its best epoch: parameters by name (no M), history as rows."""

    shape: HeadShape
    recipe: Recipe
    parameters: dict[str, Floats]
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = -math.inf
    held_out: Floats | None = None  # logits (H, C) for the spec's held-out rows


#: Epoch and each spec's best value so far to the numbers of specs that should stop now, if any.
EpochCallback = Callable[[int, Sequence[float]], Collection[int] | None]


def train_stack(
    specs: Sequence[TrainingSpec], *, device: str = "cpu", on_epoch: EpochCallback | None = None
) -> list[FittedModel]:
    """Train all models together.

    Those of one shape are one stack.

    Args:
        specs: M models to train.
        device: A torch device's name; on CUDA the forward pass runs in bfloat16.
        on_epoch: Called after each epoch with its number and each spec's best value so far; specs
            that it names stop; what it raises ends the training.

    Returns:
        M models, each with the parameters of its best epoch.
    """
    keep_memory()
    torch.set_flush_denormal(True)  # moments that fade to nothing would slow the CPU down
    groups: dict[object, list[int]] = {}
    for number, spec in enumerate(specs):
        groups.setdefault(_stack_key(spec), []).append(number)
    stacks = [_Stack([specs[n] for n in numbers], device) for numbers in groups.values()]
    fitted = {
        number: model
        for numbers, stack in zip(groups.values(), stacks, strict=True)
        for number, model in zip(numbers, stack.fitted, strict=True)
    }
    out, epoch = [fitted[number] for number in range(len(specs))], 0
    while any(stack.alive for stack in stacks):
        epoch += 1
        for stack in stacks:
            if stack.alive:
                stack.run_epoch()
        stopped = (
            set(on_epoch(epoch, [model.best_value for model in out]) or ()) if on_epoch else ()
        )
        for numbers, stack in zip(groups.values(), stacks, strict=True):
            stack.release([p for p, m in enumerate(stack.alive) if numbers[m] in stopped])
    for stack in stacks:
        stack.finish()
    return out


def _stack_key(spec: TrainingSpec) -> tuple[object, ...]:
    """Models with the same key have parameters and batches of the same shapes."""
    shape, recipe = spec.shape, spec.recipe
    return (
        recipe.head,
        tuple(shape.dims.items()),
        tuple(shape.modality[view] for view in shape.dims),
        shape.num_classes,
        shape.hidden_dim,
        recipe.batch_size,
        recipe.grad_accumulation_steps,
    )


def build_network(model: FittedModel) -> FusionNetwork:
    """The trained network, as a stack of one."""
    network = FusionNetwork(model.recipe.head, model.shape, [0])
    network.load_state_dict(
        {name: torch.from_numpy(values)[None] for name, values in model.parameters.items()}
    )
    return network.eval()


def predict_logits(model: FittedModel, rows: Views) -> Floats:
    """Logits for scaled rows, shape (N, C); a row's logits do not depend on the other rows."""
    network = build_network(model)
    if is_token_head(model.recipe.head):
        targets = np.zeros(len(rows), np.int64)
        bank = TokenBank([(rows, targets)], model.shape.dims, _CPU, again=False)
        pieces = torch.split(torch.arange(len(rows))[None], TOKEN_ROWS, dim=1)
        with torch.inference_mode():
            logits = torch.cat([_token_logits(network, bank, piece) for piece in pieces], dim=1)
        found: Floats = logits[0].numpy()
        return found
    with torch.inference_mode():
        logits = network(
            {view: torch.from_numpy(values)[None] for view, values in rows.features.items()},
            {view: torch.from_numpy(present)[None] for view, present in rows.present.items()},
        )
    out: Floats = logits[0].numpy()
    return out


def _token_logits(network: FusionNetwork, bank: TokenBank, place: Tensor) -> Tensor:
    tokens, present, _ = bank.take([0], place)
    logits: Tensor = network(tokens, bank.masks(present))
    return logits


class _Stack:
    """The state of a stack in training; `alive` are the numbers of the specs still in it."""

    def __init__(self, specs: Sequence[TrainingSpec], device: str) -> None:
        self.specs = list(specs)
        self.device = torch.device(device)
        self.alive = list(range(len(specs)))
        self.epoch = 0
        self.fitted = [FittedModel(spec.shape, spec.recipe, {}) for spec in specs]
        head = specs[0].recipe.head
        shape = specs[0].shape
        self.network = FusionNetwork(head, shape, [spec.seed for spec in specs]).to(self.device)
        self.optimiser = StackedAdamW(
            {n: p for n, p in self.network.named_parameters() if p.requires_grad},
            decay=[spec.recipe.weight_decay for spec in specs],
            clip=[spec.recipe.max_grad_norm for spec in specs],
        )
        self.best = self.optimiser.values.clone()  # (M, n), of all specs
        self.order = [torch.Generator().manual_seed(spec.seed + 1) for spec in specs]
        rates = torch.tensor([spec.recipe.dropout for spec in specs], device=self.device)
        self.drop = Dropout(rates, specs[0].recipe.batch_size)
        losses = torch.tensor([spec.recipe.modality_dropout for spec in specs], device=self.device)
        modality = {view: shape.modality[view] for view in shape.dims}
        self.lose = ModalityDropout(losses, [spec.train.dims for spec in specs], modality)
        train, val = (
            [(spec.train, spec.targets) for spec in specs],
            [(spec.val, spec.val_targets) for spec in specs],
        )
        bank = TokenBank if is_token_head(head) else RowBank
        self.rows = bank(train, shape.dims, self.device)
        self.val = bank(val, shape.dims, self.device)
        soft = [spec.soft_labels for spec in specs if spec.soft_labels is not None]
        self.soft = SoftLabelBank(soft, self.device) if soft else None
        self.weights = torch.stack([_weights(spec) for spec in specs]).to(self.device)  # (M, C)
        smoothing = [spec.recipe.label_smoothing for spec in specs]
        self.smoothing = torch.tensor(smoothing, device=self.device)[:, None]  # (M, 1)
        self.step = [0] * len(specs)
        self.reads_tokens = is_token_head(head)

    def run_epoch(self) -> None:
        """One pass of every model over its own rows, then validation, stopping, snapshots."""
        self.epoch += 1
        batch = self.specs[0].recipe.batch_size
        counts = [self.rows.counts[m] for m in self.alive]
        plan = batches(counts, batch, [self.order[m] for m in self.alive])  # (steps, M, B)
        places = plan.to(self.device)
        steps = [math.ceil(count / batch) for count in counts]
        rates = self._rates(steps).to(self.device)  # (steps, M)
        classes = self.specs[0].num_classes
        train_loss = torch.zeros(len(self.alive), device=self.device)
        size = len(self.alive), classes * classes
        cells = torch.zeros(size, dtype=torch.int64, device=self.device)
        self.network.train()
        for number, place in enumerate(places):
            self.drop.begin(self.epoch, number)
            self.lose.begin(self.epoch, number)
            loss, seen = self._step(place, rates[number])
            train_loss += loss
            cells += seen
        seen_rows = torch.tensor(counts, device=self.device)
        confusion = cells.reshape(-1, classes, classes)
        self._validate(
            {
                "train_loss": (train_loss / seen_rows).tolist(),
                "train_accuracy": (_hits(confusion) / seen_rows).tolist(),
                "train_macro_f1": _macro_f1(confusion).tolist(),
            }
        )

    def _step(self, place: Tensor, rates: Tensor) -> tuple[Tensor, Tensor]:
        """One update of each model that has rows left; summed loss (M,), confusion (M, C * C)."""
        real = (place >= 0).sum(dim=1)  # (M,)
        losses = torch.zeros(len(place), device=self.device)
        size = len(place), self.specs[0].num_classes ** 2
        cells = torch.zeros(size, dtype=torch.int64, device=self.device)
        pieces = self.specs[0].recipe.grad_accumulation_steps
        drawn = self.lose.draw(place.shape[1]).chunk(pieces)
        for piece, uniform in zip(place.chunk(pieces, dim=1), drawn, strict=True):
            loss, seen = self._loss(piece, uniform)
            self.optimiser.backward((loss / real.clamp(min=1)).sum())
            losses += loss.detach()
            cells += seen
        self.optimiser.step(rates, real > 0)
        return losses, cells

    def _loss(self, place: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        mask = place >= 0
        views, present, targets = self.rows.take(self.alive, place.clamp(min=0))
        left = self.lose(present, uniform)
        cuda = self.device.type == "cuda"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=cuda):
            logits = self.network(views, self.rows.masks(left), self.drop)
        classes, shares = targets[..., None], None
        if self.soft:
            classes, shares = self.soft.take(self.alive, place.clamp(min=0))
        loss = _smoothed_loss(logits.float(), classes, shares, self.smoothing)  # (M, B)
        loss = loss * (self.weights.gather(1, targets) * mask)
        return loss.sum(dim=1), _confusion(targets, logits.argmax(dim=-1), mask, logits.shape[-1])

    def _rates(self, steps: Sequence[int]) -> Tensor:
        """Learning rate of each model at each step of this epoch, zero where it has none left."""
        out = torch.zeros(max(steps), len(steps))
        for place, (model, count) in enumerate(zip(self.alive, steps, strict=True)):
            recipe = self.specs[model].recipe
            total = recipe.epochs * count
            for number in range(count):
                at = self.step[model] + number
                out[number, place] = recipe.lr * _schedule(at, total, recipe.warmup_ratio)
            self.step[model] += count
        return out

    def _validate(self, trained_scores: Mapping[str, Sequence[float]]) -> None:
        """Score the validation rows, write history, keep the best, let go of those that stopped."""
        scores = {**trained_scores, **self._score()}
        better, done = [], []
        for place, model in enumerate(self.alive):
            fitted, recipe = self.fitted[model], self.specs[model].recipe
            row = {name: values[place] for name, values in scores.items()}
            fitted.history.append({"epoch": self.epoch, **row})
            value = row["val_macro_f1"] if recipe.monitor == "macro_f1" else -row["val_loss"]
            if value > fitted.best_value or not fitted.best_epoch:
                fitted.best_value, fitted.best_epoch = value, self.epoch
                better.append(place)
            waited = self.epoch - fitted.best_epoch
            if waited >= recipe.patience or self.epoch >= recipe.epochs:
                done.append(place)
        if better:
            numbers = [self.alive[place] for place in better]
            self.best[numbers] = self.optimiser.values[better]
        self.release(done)

    def _score(self) -> dict[str, list[float]]:
        """Validation loss, accuracy and macro-F1 of each model."""
        counts = torch.tensor([self.val.counts[m] for m in self.alive], device=self.device)
        index = torch.arange(int(counts.max()), device=self.device).expand(len(counts), -1)
        mask = index < counts[:, None]
        self.network.eval()
        with torch.inference_mode():
            place = torch.minimum(index, counts[:, None] - 1)
            most = TOKEN_ROWS if self.reads_tokens else place.shape[1]
            found = [self._validated(piece) for piece in torch.split(place, most, dim=1)]
            logits, targets = (torch.cat(part, dim=1) for part in zip(*found, strict=True))
            loss = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        classes = logits.shape[-1]
        confusion = _confusion(targets, logits.argmax(dim=-1), mask, classes)
        confusion = confusion.reshape(-1, classes, classes)
        return {
            "val_loss": ((loss * mask).sum(dim=1) / counts).tolist(),
            "val_accuracy": (_hits(confusion) / counts).tolist(),
            "val_macro_f1": _macro_f1(confusion).tolist(),
        }

    def _validated(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (M, B, C) and targets (M, B) of validation rows."""
        views, present, targets = self.val.take(self.alive, place)
        return self.network(views, self.val.masks(present)).float(), targets

    def release(self, places: Collection[int]) -> None:
        """Models at these places leave the stack."""
        if not places:
            return
        stay = [place for place in range(len(self.alive)) if place not in places]
        self.alive = [self.alive[place] for place in stay]
        chosen = torch.tensor(stay, dtype=torch.int64, device=self.device)
        self._select_fixed(chosen)
        self.optimiser.select(chosen)
        self.drop.select(chosen)
        self.lose.select(chosen)
        self.weights, self.smoothing = self.weights[chosen], self.smoothing[chosen]

    def finish(self) -> None:
        """Unpack each model's best parameters; predict the rows that were held_out out."""
        trained = self.optimiser.windows(self.best)
        for place, fitted in enumerate(self.fitted):
            for name, parameter in self.network.named_parameters():
                if name in trained:
                    fitted.parameters[name] = trained[name][place].cpu().numpy().copy()
                else:  # a bias that cancels out
                    fitted.parameters[name] = np.zeros(parameter.shape[1:], np.float32)
        for fitted, spec in zip(self.fitted, self.specs, strict=True):
            if spec.held_out is not None:
                fitted.held_out = predict_logits(fitted, spec.held_out)

    def _select_fixed(self, chosen: Tensor) -> None:
        """Parameters that are not trained are not the optimiser's to select."""
        for parameter in self.network.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data[chosen]


def _smoothed_loss(
    logits: Tensor, classes: Tensor, shares: Tensor | None, smoothing: Tensor
) -> Tensor:
    """Cross-entropy with label smoothing (Szegedy et al. 2016), shape (M, B).

    Rows are of their `classes` (M, B, A) by these shares, or of one each.
    """
    logs = functional.log_softmax(logits, dim=-1)
    right = logs.gather(-1, classes)  # (M, B, A)
    right = right[..., 0] if shares is None else (right * shares).sum(dim=-1)
    return -(1 - smoothing) * right - smoothing * logs.mean(dim=-1)


def _confusion(targets: Tensor, y_pred: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """Counts of (target, prediction) over the rows in the mask, shape (M, C * C)."""
    size = len(targets), num_classes**2
    cells = torch.zeros(size, dtype=torch.int64, device=targets.device)
    return cells.scatter_add_(1, targets * num_classes + y_pred, mask.long())


def _hits(confusion: Tensor) -> Tensor:
    return confusion.diagonal(dim1=-2, dim2=-1).sum(dim=-1)  # (M,)


def _macro_f1(confusion: Tensor) -> Tensor:
    """Mean F1 over all classes, shape (M,); a class neither seen nor predicted counts 0."""
    both = confusion.diagonal(dim1=-2, dim2=-1)
    total = confusion.sum(dim=-1) + confusion.sum(dim=-2)
    return (2 * both / total.clamp(min=1)).mean(dim=-1)


def _weights(spec: TrainingSpec) -> Tensor:
    if spec.recipe.balance != "weights":
        return torch.ones(spec.num_classes)
    return torch.from_numpy(
        class_weights(spec.targets, spec.num_classes, spec.recipe.balance_strength)
    )


def _schedule(step: int, total: int, warmup: float) -> float:
    """Linear warm-up, then a cosine to zero."""
    rising = max(1, round(total * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))

"""Training: M models side by side, each with its own rows, targets and stopping.

A model is a `TrainingSpec`: its training rows, its validation rows, a recipe and a seed. What comes
out depends on these alone, not on its company. Models of one recipe and one shape, such as those of
a trial's folds, are a stack: `torch.func` runs one plain network over the parameters of all of
them. Layers written for M models, in which models of other rates could share a stack, were measured
and left out: a search of 20 trials of 5 models each on MVSA-Single, one thread, took 22.5 CPU
seconds with them and takes 30.1 without; 34 and 42 with what comes before the first trial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from pairfuse.arrays import Floats, Ints
from pairfuse.data.soft_labels import SoftLabels
from pairfuse.features.views import Views
from pairfuse.fusion.balance import class_weights
from pairfuse.fusion.blocks import HeadShape, safe
from pairfuse.fusion.heads import FusionNetwork, is_token_head
from pairfuse.fusion.optimiser import StackedAdamW
from pairfuse.fusion.rowbank import RowBank, TargetBank, TokenBank, batches, read_tokens
from pairfuse.memory import keep_memory
from pairfuse.recipe import Recipe
from pairfuse.threads import threads_for

#: Rows whose tokens are in memory at a time, but in training, which has its batches.
TOKEN_ROWS = 64


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
        """What the model's network is built from."""
        reads_tokens = is_token_head(self.recipe.head)
        dims = dict(sorted((self.train.token_dims if reads_tokens else self.train.dims).items()))
        return HeadShape(
            dims,
            dict(self.train.modality),
            self.num_classes,
            self.recipe.hidden_dim,
            self.recipe.dropout,
        )

    @property
    def steps(self) -> int:
        """Updates in an epoch."""
        return math.ceil(len(self.targets) / self.recipe.batch_size)


@dataclass
class FittedModel:
    """One model at its best epoch: parameters by name, history as rows."""

    shape: HeadShape
    recipe: Recipe
    parameters: dict[str, Floats]
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = -math.inf
    held_out: Floats | None = None  # logits (H, C) for the spec's held-out rows


#: Epoch and each spec's best value so far; True ends the training.
EpochCallback = Callable[[int, Sequence[float]], bool | None]


def train_stack(
    specs: Sequence[TrainingSpec], *, device: str = "cpu", on_epoch: EpochCallback | None = None
) -> list[FittedModel]:
    """Train all models together.

    Args:
        specs: M models to train.
        device: A torch device's name; on CUDA the forward pass runs in bfloat16.
        on_epoch: Called after each epoch with its number and each spec's best value so far; it ends
            the training if it returns True, and by what it raises.

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
    with threads_for(max(stack.multiplications for stack in stacks)):
        while any(stack.alive for stack in stacks):
            epoch += 1
            for stack in stacks:
                if stack.alive:
                    stack.run_epoch()
            if on_epoch and on_epoch(epoch, [model.best_value for model in out]):
                break
        for stack in stacks:
            stack.finish()
    return out


def _stack_key(spec: TrainingSpec) -> tuple[object, ...]:
    """Models with the same key take the same steps, over parameters of the same shapes."""
    dims = spec.shape.dims
    return (
        spec.recipe,
        tuple((view, dim, spec.train.modality[view]) for view, dim in dims.items()),
        spec.num_classes,
        spec.steps,
        spec.soft_labels is None,
    )


def build_network(model: FittedModel) -> FusionNetwork:
    """The trained network."""
    network = FusionNetwork(model.recipe.head, model.shape)
    network.load_state_dict(
        {name: torch.from_numpy(values) for name, values in model.parameters.items()}
    )
    return network.eval()


def predict_logits(model: FittedModel, rows: Views) -> Floats:
    """Logits for scaled rows, shape (N, C); a row's logits do not depend on the other rows."""
    network = build_network(model)
    with torch.inference_mode():
        if is_token_head(model.recipe.head):
            pieces = torch.split(torch.arange(len(rows)), TOKEN_ROWS)
            logits = torch.cat([network(*_tokens(rows, piece.numpy())) for piece in pieces])
        else:
            logits = network(
                {view: torch.from_numpy(values) for view, values in rows.features.items()},
                {view: torch.from_numpy(present) for view, present in rows.present.items()},
            )
    out: Floats = logits.numpy()
    return out


def _tokens(rows: Views, chosen: Ints) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    read = {view: read_tokens(t, rows.present[view], chosen) for view, t in rows.tokens.items()}
    return (
        {view: values for view, (values, _) in read.items()},
        {view: mask for view, (_, mask) in read.items()},
    )


class _Stack:
    """The state of a stack in training; `alive` are the numbers of the specs still in it."""

    def __init__(self, specs: Sequence[TrainingSpec], device: str) -> None:
        self.specs = list(specs)
        self.device = torch.device(device)
        self.alive = list(range(len(specs)))
        self.epoch = self.step = 0
        self.fitted = [FittedModel(spec.shape, spec.recipe, {}) for spec in specs]
        self.recipe = recipe = specs[0].recipe
        networks = [
            FusionNetwork(recipe.head, spec.shape, seed=spec.seed).to(self.device) for spec in specs
        ]
        for view in specs[0].shape.dims:
            for network in networks:
                network.missing[safe(view)].requires_grad_(_may_lack(view, specs))
        self.network = networks[0]  # its parameters are replaced in each call
        self.parameters, _ = stack_module_state(networks)
        self.best = {name: values.detach().clone() for name, values in self.parameters.items()}
        self.trained = [values for values in self.parameters.values() if values.requires_grad]
        self.optimiser = StackedAdamW(
            self.trained,
            weight_decay=recipe.weight_decay,
            max_grad_norm=recipe.max_grad_norm,
        )
        self.generator = _default_generator(self.device)
        self.order = [torch.Generator().manual_seed(spec.seed + 1) for spec in specs]
        self.reads_tokens = is_token_head(recipe.head)
        bank = TokenBank if self.reads_tokens else RowBank
        self.rows = bank([spec.train for spec in specs], self.device)
        self.val = bank([spec.val for spec in specs], self.device)
        soft_labels = [spec.soft_labels for spec in specs]
        self.targets = TargetBank([spec.targets for spec in specs], soft_labels, self.device)
        self.val_targets = TargetBank([spec.val_targets for spec in specs], [], self.device)
        self.weights = torch.stack([_weights(spec) for spec in specs]).to(self.device)  # (M, C)

    @property
    def multiplications(self) -> int:
        """About how many a step takes: each row meets each parameter, of tokens each token does."""
        numbers: int = sum(values[0].numel() for values in self.trained)
        rows: int = min(self.recipe.batch_size, max(self.targets.counts))
        return len(self.specs) * rows * numbers * (TOKEN_ROWS if self.reads_tokens else 1)

    def run_epoch(self) -> None:
        """One pass of every model over its own rows, then validation, stopping, snapshots."""
        self.epoch += 1
        counts = [self.targets.counts[model] for model in self.alive]
        order = [self.order[model] for model in self.alive]
        plan = batches(counts, self.recipe.batch_size, order).to(self.device)  # (steps, M, B)
        classes = self.specs[0].num_classes
        train_loss = torch.zeros(len(self.alive), device=self.device)
        size = len(self.alive), classes * classes
        cells = torch.zeros(size, dtype=torch.int64, device=self.device)
        self.network.train()
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            for number, place in enumerate(plan):
                # What dropout drops follows from epoch and step: it is shared by all models of the
                # stack, which is cheap and leaves each of them the same in any company.
                self.generator.manual_seed(self.epoch * 1_000_003 + number)
                loss, seen = self._step(place)
                train_loss += loss
                cells += seen
        rows = torch.tensor(counts, device=self.device)
        confusion = cells.reshape(-1, classes, classes)
        self._validate(
            {
                "train_loss": (train_loss / rows).tolist(),
                "train_accuracy": (_hits(confusion) / rows).tolist(),
                "train_macro_f1": _macro_f1(confusion).tolist(),
            }
        )

    def _step(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """One update of each model; summed loss (M,), confusion (M, C * C)."""
        recipe, total = self.recipe, self.recipe.epochs * self.specs[0].steps
        rows = (place >= 0).sum(dim=1)  # (M,)
        pieces = recipe.grad_accumulation_steps
        drawn = torch.rand(place.shape[1], 2, device=self.device)
        losses, cells, gradients = [], [], []
        for piece, uniform in zip(place.chunk(pieces, dim=1), drawn.chunk(pieces), strict=True):
            loss, seen = self._loss(piece, uniform)
            mean = (loss / rows).sum()
            gradients.append(
                torch.autograd.grad(
                    mean,
                    self.trained,
                    allow_unused=True,
                    materialize_grads=True,
                )
            )
            losses.append(loss.detach())
            cells.append(seen)
        lr = recipe.lr * _schedule(self.step, total, recipe.warmup_ratio)
        self.optimiser.step([reduce(torch.add, each) for each in zip(*gradients, strict=True)], lr)
        self.step += 1
        return torch.stack(losses).sum(dim=0), torch.stack(cells).sum(dim=0)

    def _loss(self, place: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted loss of a batch (M,), confusion (M, C * C)."""
        is_row, place = place >= 0, place.clamp(min=0)
        views, present = self.rows.take(self.alive, place)
        if self.recipe.modality_dropout:
            present = drop_modalities(
                present, self.specs[0].train.modality, uniform, rate=self.recipe.modality_dropout
            )
        logits = self._logits(views, present)
        targets, classes, shares = self.targets.take(self.alive, place)
        loss = _smoothed_loss(logits, classes, shares, self.recipe.label_smoothing)  # (M, B)
        loss = loss * (self.weights.gather(1, targets) * is_row)
        return loss.sum(dim=1), _confusion(targets, logits.argmax(dim=-1), is_row, logits.shape[-1])

    def _logits(self, views: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Each model's logits for its own rows, (M, B, C)."""

        def forward(parameters: dict[str, Tensor], *inputs: Mapping[str, Tensor]) -> Tensor:
            logits: Tensor = functional_call(self.network, parameters, inputs)
            return logits

        cuda = self.device.type == "cuda"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=cuda):
            logits: Tensor = vmap(forward, randomness="same")(self.parameters, views, present)
        return logits.float()

    def _validate(self, trained_scores: Mapping[str, Sequence[float]]) -> None:
        """Score the validation rows, write history, keep the best, let go of those that stopped."""
        scores = {**trained_scores, **self._score()}
        better, stay = [], []
        for place, model in enumerate(self.alive):
            fitted, recipe = self.fitted[model], self.recipe
            row = {name: values[place] for name, values in scores.items()}
            fitted.history.append({"epoch": self.epoch, **row})
            value = row["val_macro_f1"] if recipe.monitor == "macro_f1" else -row["val_loss"]
            if value > fitted.best_value or not fitted.best_epoch:
                fitted.best_value, fitted.best_epoch = value, self.epoch
                better.append(place)
            waited = self.epoch - fitted.best_epoch
            if waited < recipe.patience and self.epoch < recipe.epochs:
                stay.append(place)
        if better:
            numbers = [self.alive[place] for place in better]
            for name, values in self.parameters.items():
                self.best[name][numbers] = values.detach()[better]
        if len(stay) < len(self.alive):
            chosen = torch.tensor(stay, dtype=torch.int64, device=self.device)
            self.alive = [self.alive[place] for place in stay]
            for values in self.parameters.values():
                values.data = values.data[chosen]
            self.optimiser.select(chosen)
            self.weights = self.weights[chosen]

    def _score(self) -> dict[str, list[float]]:
        """Validation loss, accuracy and macro-F1 of each model."""
        counts = torch.tensor([self.val_targets.counts[m] for m in self.alive], device=self.device)
        index = torch.arange(int(counts.max()), device=self.device).expand(len(counts), -1)
        is_row, place = index < counts[:, None], torch.minimum(index, counts[:, None] - 1)
        self.network.eval()
        with torch.inference_mode():
            most = TOKEN_ROWS if self.reads_tokens else place.shape[1]
            pieces = torch.split(place, most, dim=1)
            logits = torch.cat(
                [self._logits(*self.val.take(self.alive, piece)) for piece in pieces], dim=1
            )
            targets, *_ = self.val_targets.take(self.alive, place)
            loss = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        classes = logits.shape[-1]
        confusion = _confusion(targets, logits.argmax(dim=-1), is_row, classes)
        confusion = confusion.reshape(-1, classes, classes)
        return {
            "val_loss": ((loss * is_row).sum(dim=1) / counts).tolist(),
            "val_accuracy": (_hits(confusion) / counts).tolist(),
            "val_macro_f1": _macro_f1(confusion).tolist(),
        }

    def finish(self) -> None:
        """Unpack each model's best parameters; predict the rows that were held out."""
        for place, (fitted, spec) in enumerate(zip(self.fitted, self.specs, strict=True)):
            for name, values in self.best.items():
                fitted.parameters[name] = values[place].cpu().numpy().copy()
            if spec.held_out is not None:
                fitted.held_out = predict_logits(fitted, spec.held_out)


def _may_lack(view: str, specs: Sequence[TrainingSpec]) -> bool:
    """Whether a training row may lack this view.

    Where none does, neither the stand-in nor the inputs behind it need a gradient, which saves half
    of the backward pass.
    """
    recipe = specs[0].recipe
    if recipe.modality_dropout or is_token_head(recipe.head):
        return True
    return not all(spec.train.present[view].all() for spec in specs)


def _default_generator(device: torch.device) -> torch.Generator:
    """What layers draw from. `torch.manual_seed` notes a traceback for CUDA at each call."""
    if device.type == "cuda":
        number = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[number]
    return torch.default_generator


def drop_modalities(
    present: Mapping[str, Tensor],
    modality: Mapping[str, str],
    uniform: Tensor,
    *,
    rate: float,
) -> dict[str, Tensor]:
    """Rows of a training step lose a modality by chance, never the only one that they have.

    Args:
        present: Which rows (M, B), or which tokens (M, B, T), of each view are there.
        modality: That of each view.
        uniform: Two numbers in [0, 1) for each row of the batch, (B, 2).
        rate: The chance of a row to lose one.

    Returns:
        What is left.
    """
    has_view = {
        view: each.any(dim=2) if each.dim() == 3 else each for view, each in present.items()
    }  # each (M, B)
    kinds = sorted({modality[view] for view in present})
    seen = torch.stack(
        [
            torch.stack([has_view[view] for view in present if modality[view] == kind]).any(dim=0)
            for kind in kinds
        ]
    )  # (modalities, M, B)
    loses = (uniform[:, 0] < rate) & (seen.sum(dim=0) > 1)  # (M, B)
    chosen = (uniform[:, 1] * len(kinds)).long()  # the number of a modality, (B,)
    out = {}
    for view, each in present.items():
        left = ~(loses & (chosen == kinds.index(modality[view])))
        out[view] = each & (left[..., None] if each.dim() == 3 else left)
    return out


def _smoothed_loss(logits: Tensor, classes: Tensor, shares: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy with label smoothing (Szegedy et al. 2016), shape (M, B).

    Rows are of their `classes` (M, B, A) by these shares.
    """
    logs = functional.log_softmax(logits, dim=-1)
    right = (logs.gather(-1, classes) * shares).sum(dim=-1)  # (M, B)
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

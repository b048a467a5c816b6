"""Matrix: every combination of encoders and heads under the same folds and the same search budget.

A finished row is kept beside the run's other files, so a matrix that was stopped goes on where it
was; a row is known by its data, folds, search and head, and is made anew when one of them changes.
A row of stacked heads is made of the rows of the same views, and is known by what these hold.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from pairfuse.arrays import Floats
from pairfuse.data.pairs import Modality
from pairfuse.errors import ConfigError
from pairfuse.features.views import Views
from pairfuse.files import write_bytes, write_json
from pairfuse.fusion.fitting import ScaledRowSet
from pairfuse.fusion.heads import check_head
from pairfuse.recipe import Recipe
from pairfuse.stats.bootstrap import Draws
from pairfuse.stats.metrics import Scores, score
from pairfuse.stats.paired import Comparison, compare_all
from pairfuse.study.ablation import Arm, Budget, only_inner, only_views, run_arm
from pairfuse.study.cost import ArmCost, ArmParts, EncoderCost, arm_costs, head_parameters
from pairfuse.study.crossfit import Table
from pairfuse.study.nested import Inner, prepare_inner
from pairfuse.study.stacking import stack
from pairfuse.study.tuning import Space, study_mark

#: The order of views that stand alone.
KINDS: tuple[Modality, ...] = ("text", "image", "joint")
#: Named among heads: the others of the same views under a linear model.
STACK = "stack"


@dataclass(frozen=True)
class Model:
    """One combination: the views that it sees and the head that joins them."""

    views: tuple[str, ...]
    head: str

    @property
    def name(self) -> str:
        return f"{' + '.join(self.views)}, {self.head}"


@dataclass(frozen=True)
class Row:
    """A model's out-of-fold probabilities, shape (R, N, C), and what fitting it took.

    `recipe` is the best that was found; a stack has none of its own.
    """

    model: Model
    probabilities: Floats
    parameters: int
    seconds: float
    recipe: Recipe | None = None

    @property
    def values(self) -> bytes:
        """The probabilities as they are kept."""
        buffer = io.BytesIO()
        np.save(buffer, self.probabilities, allow_pickle=False)
        return buffer.getvalue()


@dataclass(frozen=True)
class Line:
    """A finished row of the table; `against` compares it with the best model on texts alone."""

    model: Model
    scores: Scores
    cost: ArmCost
    against: Comparison | None


def order_heads(heads: Sequence[str]) -> list[str]:
    """Each head once, the stack after those that it is made of.

    Raises:
        ConfigError: A head is unknown, or a stack has fewer than two other heads.
    """
    own = [head for head in dict.fromkeys(heads) if head != STACK]
    for head in own:
        check_head(head)
    if STACK not in heads:
        return own
    if len(own) < 2:
        raise ConfigError(
            f"a stack is made of two other heads or more, found {', '.join(own) or 'none'}; "
            'name them beside it, as in --heads "concat late stack"'
        )
    return [*own, STACK]


def models(views: Views, heads: Sequence[str]) -> list[Model]:
    """Each text, image and joint view alone, then each text with each image by each head.

    One view alone leaves nothing to fuse: it takes the first head.
    """
    alone = [Model((view,), heads[0]) for kind in KINDS for view in views.of(kind)]
    pairs = [(text, image) for text in views.of("text") for image in views.of("image")]
    return alone + [Model(pair, head) for pair in pairs for head in heads]


def run_models(
    chosen: Sequence[Model],
    table: Table,
    prepared: Sequence[ScaledRowSet],
    base: Recipe,
    budget: Budget,
    folder: Path,
) -> Iterator[Row]:
    """Tune and fit each model; what `folder` holds already is read from there.

    Args:
        chosen: Rows of the matrix; a stack after what it is made of.
        table: Labelled pairs with the views of all models.
        prepared: Row sets of the folds, with all scalings.
        base: What the search does not touch.
        budget: The same for every model, but for its head.
        folder: Where finished rows are kept.
    """
    shape = (len(table.targets), len(table.labels))
    done: dict[str, Row] = {}  # by their marks

    @cache
    def inner() -> list[Inner]:  # dealt once for all stacks, where one has to be made
        return prepare_inner(table, prepared, members=budget.members, seed=budget.seed)

    for model in chosen:
        start = replace(base, head=model.head, views=())
        spent = replace(budget, heads=(model.head,))
        parts = {mark: row for mark, row in done.items() if row.model.views == model.views}
        if model.head == STACK:
            mark = _stack_mark(model, parts)
        else:
            mark = _mark(model, table, prepared, start, spent)
        kept = folder / f"{mark}.npy", folder / f"{mark}.json"
        row = _read(model, *kept, shape=shape)
        if row is None:
            if model.head == STACK:
                row = _stacked(model, list(parts.values()), table, prepared, inner(), budget)
            else:
                named = model.name, model.views
                row = _row(model, run_arm(*named, table, prepared, start, spent, known={}))
            _write(row, *kept)
        done[mark] = row
        yield row


def table_lines(
    rows: Sequence[Row],
    table: Table,
    encoders: Sequence[EncoderCost],
    draws: Draws,
    *,
    seed: int,
) -> list[Line]:
    """Scores and costs of all rows, each compared with the best model on texts alone."""
    scores = {
        r.model.name: score(table.targets, r.probabilities, table.labels, draws) for r in rows
    }
    texts = set(table.views.of("text"))
    on_texts = [row.model.name for row in rows if set(row.model.views) <= texts]
    best = max(on_texts, key=lambda name: scores[name].macro_f1.value, default=None)
    against = _against(rows, best, table, draws, seed=seed)
    costs = arm_costs(
        [ArmParts(r.model.name, r.model.views, r.parameters, r.seconds) for r in rows],
        encoders,
        table.views.sizes,
    )
    return [
        Line(row.model, scores[row.model.name], cost, against.get(row.model.name))
        for row, cost in zip(rows, costs, strict=True)
    ]


def _against(
    rows: Sequence[Row], best: str | None, table: Table, draws: Draws, *, seed: int
) -> Mapping[str, Comparison]:
    """Each other row less the best one on texts; p-values are adjusted for all pairs of rows."""
    if best is None:
        return {}
    ordered = sorted(rows, key=lambda row: row.model.name == best)  # the best last: "row less best"
    found = compare_all(
        {row.model.name: row.probabilities for row in ordered}, table.targets, draws, seed=seed
    )
    return {each.first: each for each in found if each.second == best}


def _mark(
    model: Model, table: Table, prepared: Sequence[ScaledRowSet], start: Recipe, budget: Budget
) -> str:
    own, scalings = only_views(table, prepared, model.views)
    space = Space.of(own.views, start, (model.head,))
    spent = asdict(replace(budget, storage="", device=""))
    return _hashed(study_mark(own, scalings, space, budget.seed), model.name, spent)


def _stack_mark(model: Model, parts: Mapping[str, Row]) -> str:
    """What a stack is known by: the rows below it, by their marks, recipes and probabilities."""
    below = [
        [mark, row.recipe and asdict(row.recipe), hashlib.sha256(row.values).hexdigest()]
        for mark, row in parts.items()
    ]
    return _hashed(model.name, below)


def _hashed(*known_by: object) -> str:
    return hashlib.sha256(json.dumps(known_by).encode()).hexdigest()[:16]


def _row(model: Model, arm: Arm) -> Row:
    assert arm.fit is not None
    [recipe] = arm.recipes  # the best trial of the one head
    parameters = head_parameters(arm.fit.ensemble.members)
    return Row(model, arm.probabilities, parameters, arm.fit.seconds, recipe)


def _stacked(
    model: Model,
    parts: Sequence[Row],
    table: Table,
    prepared: Sequence[ScaledRowSet],
    inner: Sequence[Inner],
    budget: Budget,
) -> Row:
    """The heads of these rows under one linear model, with what all of it took."""
    own, scalings = only_views(table, prepared, model.views)
    found = stack(
        *(own, scalings, only_inner(inner, model.views)),
        recipes=[row.recipe for row in parts if row.recipe],
        outer=np.stack([row.probabilities for row in parts]),
        seed=budget.seed,
        device=budget.device,
    )
    return Row(
        model,
        found.probabilities,
        sum(row.parameters for row in parts) + found.final_estimators[0].size,
        sum(row.seconds for row in parts) + found.seconds,
    )


def _write(row: Row, values: Path, facts: Path) -> None:
    write_bytes(values, row.values)
    write_json(
        facts,
        {
            "parameters": row.parameters,
            "seconds": row.seconds,
            "recipe": row.recipe and asdict(row.recipe),
            "sha256": hashlib.sha256(row.values).hexdigest(),
        },
    )


def _read(model: Model, values: Path, facts: Path, *, shape: tuple[int, int]) -> Row | None:
    """A row as it was written, or None: what is not whole is made again."""
    try:
        found, data = json.loads(facts.read_text("utf-8")), values.read_bytes()
        if hashlib.sha256(data).hexdigest() != found["sha256"]:
            return None
        probabilities = np.load(io.BytesIO(data), allow_pickle=False)
        recipe = None
        if model.head != STACK:
            recipe = Recipe(**{**found["recipe"], "views": tuple(found["recipe"]["views"])})
        row = Row(model, probabilities, int(found["parameters"]), float(found["seconds"]), recipe)
    except (OSError, ValueError, LookupError, TypeError, ConfigError):
        return None
    return row if row.probabilities.shape[1:] == shape else None

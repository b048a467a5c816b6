"""Matrix: every combination of encoders and heads under the same folds and the same search budget.

A finished row is kept beside the run's other files, so a matrix that was stopped goes on where it
was; a row is known by its data, folds, search and head, and is made anew when one of them changes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairfuse.data.pairs import Modality
from pairfuse.features.table import Views
from pairfuse.files import write_bytes, write_json
from pairfuse.fusion.ensemble import Prepared
from pairfuse.recipe import Recipe
from pairfuse.study.ablation import Arm, Budget, only_views, run_arm
from pairfuse.study.bootstrap import Draws
from pairfuse.study.cost import ArmCost, ArmParts, EncoderCost, arm_costs, head_parameters
from pairfuse.study.crossfit import Table
from pairfuse.study.metrics import Scores, score
from pairfuse.study.paired import Comparison, compare_all
from pairfuse.study.tuning import Space, study_mark

Floats = NDArray[np.float32]

#: The order of views that stand alone.
KINDS: tuple[Modality, ...] = ("text", "image", "joint")


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
    """A model's out-of-fold probabilities, shape (R, N, C), and what fitting it took."""

    model: Model
    probabilities: Floats
    parameters: int
    seconds: float


@dataclass(frozen=True)
class Line:
    """A finished row of the table; `against` compares it with the best model on texts alone."""

    model: Model
    scores: Scores
    cost: ArmCost
    against: Comparison | None


def models(views: Views, heads: Sequence[str]) -> list[Model]:
    """Each text, image and joint view alone, then each text with each image by each head.

    One view alone leaves nothing to fuse: it takes the first head.
    """
    alone = [
        Model((view,), heads[0]) for kind in ("text", "image", "joint") for view in views.of(kind)
    ]
    pairs = [(text, image) for text in views.of("text") for image in views.of("image")]
    return alone + [Model(pair, head) for pair in pairs for head in heads]


def run_models(
    chosen: Sequence[Model],
    table: Table,
    prepared: Sequence[Prepared],
    base: Recipe,
    budget: Budget,
    folder: Path,
) -> Iterator[Row]:
    """Tune and fit each model; what `folder` holds already is read from there.

    Args:
        chosen: Rows of the matrix.
        table: Labelled pairs with the views of all models.
        prepared: Row sets of the folds, with all scalings.
        base: What the search does not touch.
        budget: The same for every model, but for its head.
        folder: Where finished rows are kept.
    """
    for model in chosen:
        own, scalings = only_views(table, prepared, model.views)
        start = replace(base, head=model.head, views=())
        spent = [asdict(replace(budget, heads=(model.head,), storage="", device=""))]
        space = Space.of(own.views, start, (model.head,))
        mark = study_mark(own, scalings, space, budget.seed)
        digest = hashlib.sha256(json.dumps([mark, model.name, *spent]).encode()).hexdigest()[:16]
        kept = folder / f"{digest}.npy", folder / f"{digest}.json"
        row = _read(model, *kept, shape=(len(table.targets), len(table.labels)))
        if row is None:
            arm = run_arm(
                *(model.name, model.views, table, prepared, start),
                replace(budget, heads=(model.head,)),
                known={},
            )
            row = _row(model, arm)
            _write(row, *kept)
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


def _row(model: Model, arm: Arm) -> Row:
    assert arm.fit is not None
    parameters = head_parameters(arm.fit.ensemble.members)
    return Row(model, arm.probabilities, parameters, arm.fit.seconds)


def _write(row: Row, values: Path, facts: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, row.probabilities, allow_pickle=False)
    write_bytes(values, buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    write_json(facts, {"parameters": row.parameters, "seconds": row.seconds, "sha256": digest})


def _read(model: Model, values: Path, facts: Path, *, shape: tuple[int, int]) -> Row | None:
    """A row as it was written, or None: what is not whole is made again."""
    try:
        found, data = json.loads(facts.read_text("utf-8")), values.read_bytes()
        if hashlib.sha256(data).hexdigest() != found["sha256"]:
            return None
        probabilities = np.load(io.BytesIO(data), allow_pickle=False)
        row = Row(model, probabilities, int(found["parameters"]), float(found["seconds"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return row if row.probabilities.shape[1:] == shape else None

"""Matrix: every combination of encoders and heads under the same folds and the same search budget.

A finished result is kept beside the run's other files, so a matrix that was stopped goes on where
it was. A result is known by its data, folds, search and head, and is made anew when one of them
changes. The baselines stand below the models: what does not beat them is not worth its training.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from pairfuse.arrays import Floats
from pairfuse.data.pairs import Modality
from pairfuse.errors import ConfigError
from pairfuse.features.views import Views
from pairfuse.files import write_bytes, write_json
from pairfuse.recipe import Recipe
from pairfuse.stats.bootstrap import Draws
from pairfuse.stats.metrics import Scores, score
from pairfuse.stats.paired import Comparison, compare_all
from pairfuse.study.ablation import Arm, baseline_arms, run_arm
from pairfuse.study.cost import ArmCost, ArmParts, EncoderCost, arm_costs
from pairfuse.study.crossfit import FoldedTable, Table
from pairfuse.study.search_space import build_space
from pairfuse.study.tuning import SearchSpec, study_fingerprint

#: The order of views that stand alone.
MODALITY_ORDER: tuple[Modality, ...] = ("text", "image", "joint")


@dataclass(frozen=True)
class Model:
    """One combination: the views that it sees and the head that joins them; or a baseline."""

    views: tuple[str, ...]
    head: str
    baseline: str = ""

    @property
    def name(self) -> str:
        return self.baseline or f"{' + '.join(self.views)}, {self.head}"


@dataclass(frozen=True)
class ModelResult:
    """A model's out-of-fold probabilities, shape (R, N, C), and what fitting it took.

    `recipe` is the best that was found; a baseline has none.
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
        np.save(buffer, self.probabilities, allow_pickle=False)  # never unpickle a file on disk
        return buffer.getvalue()


@dataclass(frozen=True)
class MatrixRow:
    """A finished row of the table; `against` compares it with the best model on texts alone."""

    model: Model
    scores: Scores
    cost: ArmCost
    against: Comparison | None


def models(views: Views, heads: Sequence[str]) -> list[Model]:
    """Each text, image and joint view alone, then each text with each image by each head.

    One view alone leaves nothing to fuse: it takes the first head.
    """
    alone = [Model((view,), heads[0]) for kind in MODALITY_ORDER for view in views.of(kind)]
    pairs = [(text, image) for text in views.of("text") for image in views.of("image")]
    # A joint view saw both modalities already; it is not fused with a text or an image again.
    return alone + [Model(pair, head) for pair in pairs for head in heads]


def run_models(
    chosen: Sequence[Model], data: FoldedTable, search: SearchSpec, folder: Path
) -> Iterator[ModelResult]:
    """Tune and fit each model; what `folder` holds already is read from there.

    Args:
        chosen: Models in order.
        data: Labelled pairs with the views of all models, and their folds.
        search: The same for every model, but for its head.
        folder: Where finished results are kept.
    """
    shape = len(data.table.targets), len(data.table.labels)
    for model in chosen:
        # One head and all of the model's views: only the rest of the recipe is searched.
        base = replace(search.base, head=model.head, views=())
        own_search = replace(search, base=base, heads=(model.head,))
        key = _fingerprint(model, data.only(model.views), own_search)
        values, facts = folder / f"{key}.npy", folder / f"{key}.json"
        result = _read(model, values, facts, shape=shape)
        if result is None:
            arm = run_arm(model.name, data.only(model.views), own_search)
            result = _result_of(model, arm)
            _write(result, values, facts)
        yield result


def baseline_results(data: FoldedTable, *, seed: int) -> list[ModelResult]:
    """The baselines on the same rows and folds, as rows of the matrix."""
    return [
        ModelResult(
            model=Model(arm.views, "", baseline=arm.name),
            probabilities=arm.probabilities,
            parameters=arm.fit.ensemble.size if arm.fit else 0,
            seconds=arm.seconds,
        )
        for arm in baseline_arms(data, seed=seed)
    ]


def matrix_rows(
    results: Sequence[ModelResult],
    table: Table,
    encoders: Sequence[EncoderCost],
    draws: Draws,
    *,
    seed: int,
) -> list[MatrixRow]:
    """Scores and costs of all models, each compared with the best one on texts alone.

    Args:
        results: One for each model.
        table: Labelled pairs with the views of all models.
        encoders: Costs of the encoders of these views.
        draws: Bootstrap draws of the table's groups.
        seed: Seed of the permutation tests.
    """
    scores = {
        each.model.name: score(table.targets, each.probabilities, table.labels, draws)
        for each in results
    }
    texts = set(table.views.of("text"))
    on_texts = [each.model.name for each in results if set(each.model.views) <= texts]
    best = max(on_texts, key=lambda name: scores[name].macro_f1.value, default=None)
    against = _comparisons(results, best, table, draws, seed=seed)
    costs = arm_costs(
        [
            ArmParts(each.model.name, each.model.views, each.parameters, each.seconds)
            for each in results
        ],
        encoders,
        table.views.sizes,
    )
    return [
        MatrixRow(
            model=each.model,
            scores=scores[each.model.name],
            cost=cost,
            against=against.get(each.model.name),
        )
        for each, cost in zip(results, costs, strict=True)
    ]


def _comparisons(
    results: Sequence[ModelResult], best: str | None, table: Table, draws: Draws, *, seed: int
) -> Mapping[str, Comparison]:
    """Each other model minus the best one on texts; p-values are adjusted for all pairs (Holm)."""
    if best is None:
        return {}
    # A comparison is of an earlier minus a later one: the best on texts is put last.
    ordered = sorted(results, key=lambda each: each.model.name == best)
    found = compare_all(
        {each.model.name: each.probabilities for each in ordered}, table.targets, draws, seed=seed
    )
    return {each.first: each for each in found if each.second == best}


def _fingerprint(model: Model, data: FoldedTable, search: SearchSpec) -> str:
    """What a result is known by: data, folds, search; not where trials lie, nor the device."""
    space = build_space(data.table.views, search.base, search.heads)
    study = study_fingerprint(data.table, data.prepared, space, search.seed)
    return _digest(study, model.name, asdict(replace(search, storage="", device="")))


def _digest(*known_by: object) -> str:
    return hashlib.sha256(json.dumps(known_by).encode()).hexdigest()[:16]


def _result_of(model: Model, arm: Arm) -> ModelResult:
    assert arm.fit is not None  # only dummies have none
    [recipe] = arm.recipes  # the best trial of the one head
    return ModelResult(
        model=model,
        probabilities=arm.probabilities,
        parameters=arm.fit.ensemble.size,
        seconds=arm.fit.seconds,
        recipe=recipe,
    )


def _write(result: ModelResult, values: Path, facts: Path) -> None:
    """Write the facts last: values without facts are not read."""
    write_bytes(values, result.values)
    write_json(
        facts,
        {
            "parameters": result.parameters,
            "seconds": result.seconds,
            "recipe": result.recipe and asdict(result.recipe),
            "sha256": hashlib.sha256(result.values).hexdigest(),
        },
    )


def _read(model: Model, values: Path, facts: Path, *, shape: tuple[int, int]) -> ModelResult | None:
    """A result as it was written, or None: what is not whole is made again."""
    try:
        found, data = json.loads(facts.read_text("utf-8")), values.read_bytes()
        if hashlib.sha256(data).hexdigest() != found["sha256"]:
            return None
        recipe = Recipe(**{**found["recipe"], "views": tuple(found["recipe"]["views"])})
        result = ModelResult(
            model=model,
            probabilities=np.load(io.BytesIO(data), allow_pickle=False),
            parameters=int(found["parameters"]),
            seconds=float(found["seconds"]),
            recipe=recipe,
        )
    # A file that is missing, cut, of another version, or holds a recipe that is refused today.
    except (OSError, ValueError, LookupError, TypeError, ConfigError):
        return None
    return result if result.probabilities.shape[1:] == shape else None

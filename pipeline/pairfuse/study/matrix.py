"""Matrix: every combination of encoders and heads under the same folds and the same search budget.

A finished result is kept beside the run's other files, so a matrix that was stopped goes on where
it was. A result is known by its data, folds, search and head, and is made anew when one of them
changes. Where heads are stacked, the result is made of those of the same views, and is known by
what these hold.
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
from pairfuse.fusion.heads import check_head
from pairfuse.recipe import Recipe
from pairfuse.stats.bootstrap import Draws
from pairfuse.stats.metrics import Scores, score
from pairfuse.stats.paired import Comparison, compare_all
from pairfuse.study.ablation import Arm, run_arm
from pairfuse.study.cost import ArmCost, ArmParts, EncoderCost, arm_costs, head_parameters
from pairfuse.study.crossfit import FoldedTable, InnerFolds, Table
from pairfuse.study.nested import prepare_inner
from pairfuse.study.search_space import build_space
from pairfuse.study.stacking import fit_stacking
from pairfuse.study.tuning import SearchSpec, study_fingerprint

#: The order of views that stand alone.
MODALITY_ORDER: tuple[Modality, ...] = ("text", "image", "joint")
#: Named among heads: the others of the same views, stacked under a linear model.
STACKING = "stacking"


@dataclass(frozen=True)
class Model:
    """One combination: the views that it sees and the head that joins them."""

    views: tuple[str, ...]
    head: str

    @property
    def name(self) -> str:
        return f"{' + '.join(self.views)}, {self.head}"


@dataclass(frozen=True)
class ModelResult:
    """A model's out-of-fold probabilities, shape (R, N, C), and what fitting it took.

    `recipe` is the best that was found; stacked heads have none of their own.
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


def order_heads(heads: Sequence[str]) -> list[str]:
    """Each head once, stacking after the heads that it is made of.

    Raises:
        ConfigError: A head is unknown, or stacking has fewer than two other heads.
    """
    own = [head for head in dict.fromkeys(heads) if head != STACKING]
    for head in own:
        check_head(head)
    if STACKING not in heads:
        return own
    if len(own) < 2:
        raise ConfigError(
            f"stacking needs two other heads or more, found {', '.join(own) or 'none'}; "
            'name them beside it, as in --heads "concat late stacking"'
        )
    return [*own, STACKING]


def models(views: Views, heads: Sequence[str]) -> list[Model]:
    """Each text, image and joint view alone, then each text with each image by each head.

    One view alone leaves nothing to fuse: it takes the first head.
    """
    alone = [Model((view,), heads[0]) for kind in MODALITY_ORDER for view in views.of(kind)]
    pairs = [(text, image) for text in views.of("text") for image in views.of("image")]
    # A joint view saw both modalities already; it is not fused with a text or an image again.
    return alone + [Model(pair, head) for pair in pairs for head in heads]


def run_models(
    chosen: Sequence[Model],
    data: FoldedTable,
    search: SearchSpec,
    folder: Path,
    *,
    keep_rare: bool = False,
) -> Iterator[ModelResult]:
    """Tune and fit each model; what `folder` holds already is read from there.

    Args:
        chosen: Models in order; stacked heads after those that they are made of.
        data: Labelled pairs with the views of all models, and their folds.
        search: The same for every model, but for its head.
        folder: Where finished results are kept.
        keep_rare: As in `make_folds`, for the folds inside each fold.
    """
    shape = len(data.table.targets), len(data.table.labels)
    done: dict[str, ModelResult] = {}  # by their fingerprints

    @cache
    def inner() -> list[InnerFolds]:  # made once, and only where a stacking is not read from disk
        return prepare_inner(data.table, data.prepared, seed=search.seed, keep_rare=keep_rare)

    for model in chosen:
        # One head and all of the model's views: only the rest of the recipe is searched.
        base = replace(search.base, head=model.head, views=())
        own_search = replace(search, base=base, heads=(model.head,))
        parts = {key: each for key, each in done.items() if each.model.views == model.views}
        if model.head == STACKING:
            key = _stacking_fingerprint(model, parts)
        else:
            key = _fingerprint(model, data.only(model.views), own_search)
        values, facts = folder / f"{key}.npy", folder / f"{key}.json"
        result = _read(model, values, facts, shape=shape)
        if result is None:
            if model.head == STACKING:
                own = replace(data, inner=inner()).only(model.views)
                result = _stack(model, list(parts.values()), own, search)
            else:
                arm = run_arm(model.name, data.only(model.views), own_search)
                result = _result_of(model, arm)
            _write(result, values, facts)
        done[key] = result
        yield result


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


def _stacking_fingerprint(model: Model, parts: Mapping[str, ModelResult]) -> str:
    """What stacked heads are known by: fingerprint, recipe and probabilities of each of them."""
    below = [
        [key, part.recipe and asdict(part.recipe), hashlib.sha256(part.values).hexdigest()]
        for key, part in parts.items()
    ]
    return _digest(model.name, below)


def _digest(*known_by: object) -> str:
    return hashlib.sha256(json.dumps(known_by).encode()).hexdigest()[:16]


def _result_of(model: Model, arm: Arm) -> ModelResult:
    assert arm.fit is not None  # only baselines have none
    [recipe] = arm.recipes  # the best trial of the one head
    return ModelResult(
        model=model,
        probabilities=arm.probabilities,
        parameters=head_parameters(arm.fit.ensemble.members),
        seconds=arm.fit.seconds,
        recipe=recipe,
    )


def _stack(
    model: Model, parts: Sequence[ModelResult], data: FoldedTable, search: SearchSpec
) -> ModelResult:
    """The heads of these results under one linear model, with what all of it took."""
    stacking = fit_stacking(
        data,
        [part.recipe for part in parts if part.recipe],
        np.stack([part.probabilities for part in parts]),
        seed=search.seed,
        device=search.device,
    )
    return ModelResult(
        model=model,
        probabilities=stacking.probabilities,
        parameters=sum(part.parameters for part in parts) + stacking.final_estimators[0].size,
        seconds=sum(part.seconds for part in parts) + stacking.seconds,
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
        recipe = None
        if model.head != STACKING:
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

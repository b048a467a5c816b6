"""Evidence: all that one ablation says, as one typed object; evidence.json holds the same.

Computed from the arms' out-of-fold probabilities. `to_dict` writes it; `from_dict` reads it back
and takes nothing that does not fit, so whoever shows it needs no check.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from pairfuse.config import StudyConfig
from pairfuse.console import WIDTH, columns
from pairfuse.data.pairs import MODALITIES, Modality
from pairfuse.errors import DataError, shown
from pairfuse.fusion.baselines import BASELINES
from pairfuse.fusion.fitting import ScaledRowSet
from pairfuse.stats.bootstrap import draw_groups, in_words
from pairfuse.stats.calibration import Calibration, calibrated, calibration
from pairfuse.stats.cascade import Cascade, cascade
from pairfuse.stats.conformal import Conformal, conformal
from pairfuse.stats.metrics import Scores, score
from pairfuse.stats.paired import Comparison, compare_all
from pairfuse.stats.selective import SelectivePoint, selective_curve
from pairfuse.study.ablation import FUSED, IMAGE_ONLY, TEXT_ONLY, Arm
from pairfuse.study.cost import ArmCost, ArmParts, EncoderCost, arm_costs
from pairfuse.study.crossfit import Table
from pairfuse.study.emap import Interaction, emap, interaction, joint_views, reads_tokens
from pairfuse.study.folds import fold_numbers, outer_folds
from pairfuse.study.missing_modality import NOTHING, missing_modality_scores
from pairfuse.study.mixture import shares_in_words
from pairfuse.study.strata import Agreement, Stratum, agreement, strata
from pairfuse.study.verdict import Verdict, build_verdict, find

#: Of what `to_dict` writes; another number is refused.
FORMAT = 4


@dataclass(frozen=True)
class Design:
    """How the arms were judged: on `rows` pairs, which are `groups` after joining duplicates."""

    rows: int
    groups: int
    folds: int
    repeats: int
    n_models: int
    n_trials: int
    ensemble: str
    nested: bool
    seed: int
    resamples: int


@dataclass(frozen=True)
class ArmResult:
    """One row of the ablation: the views and heads that it uses, none of a dummy; its scores.

    `shares` says what each model counts in the arm's mixture; a baseline has none.
    """

    name: str
    views: tuple[str, ...]
    heads: tuple[str, ...]
    scores: Scores
    shares: dict[str, float]


@dataclass(frozen=True)
class Evidence:
    """One ablation's results.

    Attributes:
        labels: The vocabulary, in order.
        emap: None where the fused model cannot be projected: it reads tokens or joint views.
        missing_modality: Fused scores by what is missing at test time.
        selective: By the share of the pairs that are predicted.
    """

    labels: tuple[str, ...]
    design: Design
    verdict: Verdict
    arms: tuple[ArmResult, ...]
    comparisons: tuple[Comparison, ...]
    emap: Interaction | None
    missing_modality: dict[str, Scores]
    strata: tuple[Stratum, ...]
    agreement: Agreement
    cost: tuple[ArmCost, ...]
    cascade: Cascade
    calibration: Calibration
    conformal: Conformal
    selective: tuple[SelectivePoint, ...]

    def arm(self, name: str) -> ArmResult | None:
        """One arm's result, or none."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as evidence.json holds them."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, found: object, *, source: str = "the evidence") -> Evidence:
        """What `to_dict` gave.

        Args:
            found: Parsed JSON.
            source: Names it in an error.

        Raises:
            DataError: It is of another version, or a part of it is missing, unknown or of no use.
        """
        if not isinstance(found, Mapping) or found.get("format") != FORMAT:
            raise DataError(f"{source} is of another version; run `pairfuse ablate` again")
        try:
            given = {name: value for name, value in found.items() if name != "format"}
            read: Evidence = _read(cls, given, "evidence")
        except ValueError as error:
            raise DataError(
                f"{source} cannot be used: {error}; run `pairfuse ablate` again"
            ) from error
        return read


def gather(
    arms: Sequence[Arm],
    table: Table,
    prepared: Sequence[ScaledRowSet],
    *,
    study: StudyConfig,
    texts: Sequence[str | None],
    encoders: Sequence[EncoderCost],
) -> Evidence:
    """Compute all of it; nothing is trained.

    Args:
        arms: Fused, text-only and image-only among them.
        table: The rows that the arms were judged on.
        prepared: Row sets of their folds.
        study: The study's settings.
        texts: The N rows' texts.
        encoders: What each view's encoder costs.
    """
    targets, labels = table.targets, table.labels
    draws = draw_groups(table.groups, seed=study.seed)
    probabilities = {arm.name: arm.probabilities for arm in arms}
    text_only, image_only = probabilities[TEXT_ONLY], probabilities[IMAGE_ONLY]
    fused = probabilities[FUSED]
    scores = {name: score(targets, each, labels, draws) for name, each in probabilities.items()}
    comparisons = compare_all(probabilities, targets, draws, seed=study.seed)
    [fit] = [arm.fit for arm in arms if arm.name == FUSED]
    assert fit is not None
    together = None
    # A joint view is known for the pairs that there are and cannot be crossed; nor can tokens.
    if not joint_views(fit.folds) and not reads_tokens(fit.folds):
        projection = emap(table.views, fit.folds, prepared, seed=study.seed)
        together = interaction(projection, targets, draws)
    places = strata(table, texts, (text_only, image_only, fused), draws, seed=study.seed)
    folds = fold_numbers(outer_folds(prepared), len(targets))
    costs = arm_costs([_parts(arm) for arm in arms if arm.fit], encoders, table.views.sizes)
    saved = cascade(text_only, fused, targets, folds, draws)
    scaled = calibrated(fused, targets, folds)
    return Evidence(
        labels=tuple(labels),
        design=Design(
            rows=len(targets),
            groups=draws.groups,
            folds=study.folds,
            repeats=study.repeats,
            n_models=study.n_models,
            n_trials=study.n_trials,
            ensemble=study.ensemble,
            nested=study.nested,
            seed=study.seed,
            resamples=draws.resamples,
        ),
        verdict=build_verdict(
            scores=scores,
            comparisons=comparisons,
            strata=places,
            interaction=together,
            costs=costs,
            cascade=saved,
            text_arms=_arms_of(arms, table, {"text"}),
            both_arms=_arms_of(arms, table, set(MODALITIES)),
            baselines=[arm.name for arm in arms if arm.name in BASELINES],
            groups=draws.groups,
            with_image=_with_image(table),
        ),
        arms=tuple(
            ArmResult(
                name=arm.name,
                views=tuple(arm.views),
                heads=tuple(sorted({recipe.head for recipe in arm.recipes})),
                scores=scores[arm.name],
                shares=dict(arm.shares),
            )
            for arm in arms
        ),
        comparisons=tuple(comparisons),
        emap=together,
        missing_modality=missing_modality_scores(table, fit, prepared, draws),
        strata=tuple(places),
        agreement=agreement(targets, text_only, image_only),
        cost=tuple(costs),
        cascade=saved,
        calibration=calibration(fused, targets, folds, labels, draws),
        conformal=conformal(fused, targets, table.groups, folds, coverage=study.coverage),
        selective=tuple(selective_curve(scaled, targets)),
    )


def evidence_lines(found: Evidence) -> list[str]:
    """The ablation as a table and in words, for the screen."""
    rows = [["arm", "accuracy", "macro-F1 (95 % interval)", "AUROC"]]
    named = [f"F1 {label[:10]}" for label in found.labels]
    taken = max(len(arm.name) for arm in found.arms) + len("  ".join(rows[0][1:])) + 2
    ends = np.cumsum([2 + len(name) for name in named])
    shown = int(np.searchsorted(ends, WIDTH - 10 - taken, side="right"))
    rows[0] += named[:shown]
    for arm in found.arms:
        scores = arm.scores
        cells = (f"{scores.accuracy.value:.3f}", in_words(scores.macro_f1))
        per_class = (f"{each.f1.value:.3f}" for each in scores.classes[:shown])
        rows.append([arm.name, *cells, f"{scores.auroc.value:.3f}", *per_class])
    numbers = {1, *range(3, len(rows[0]))}
    lines = columns(rows, right=numbers)
    if shown < len(named):
        lines.append(f"F1 of {len(named) - shown} more labels is in ablation.csv")
    fused = found.arm(FUSED)
    if fused and fused.shares:
        lines += _wrapped(f"{FUSED} is a mixture of {shares_in_words(fused.shares)}")
    best = best_baseline(found)
    for other in (TEXT_ONLY, IMAGE_ONLY, *([best.name] if best else [])):
        gap = find(found.comparisons, FUSED, other)
        clear = "a clear" if gap.low > 0 or gap.high < 0 else "no clear"
        lines.append(
            f"{FUSED} minus {other}: {in_words(gap, sign=True)} macro-F1, {clear} difference"
        )
    lines += [
        f"{FUSED} with the {name} missing: macro-F1 {in_words(scores.macro_f1)}"
        for name, scores in found.missing_modality.items()
        if name != NOTHING
    ]
    return [*_beside("ablate", lines), *_beside("verdict", _wrapped(found.verdict.words))]


def best_baseline(found: Evidence) -> ArmResult | None:
    """The baseline of the highest macro-F1."""
    plain = [arm for arm in found.arms if arm.name in BASELINES]
    return max(plain, key=lambda arm: arm.scores.macro_f1.value, default=None)


def _wrapped(text: str) -> list[str]:
    """Lines that fit beside a title."""
    return textwrap.wrap(text, WIDTH - 10, break_long_words=False, break_on_hyphens=False)


def _beside(title: str, lines: Sequence[str]) -> list[str]:
    """The title before the first line, the others below it."""
    return [f"{'' if at else title:<10}{line}" for at, line in enumerate(lines)]


def _arms_of(arms: Sequence[Arm], table: Table, modalities: set[Modality]) -> list[str]:
    """Trained arms that may read just these modalities."""
    return [arm.name for arm in arms if arm.fit and _read_by(arm, table) == modalities]


def _read_by(arm: Arm, table: Table) -> set[Modality]:
    """Modalities that an arm may read; a joint view saw both, and raw texts are no view."""
    if arm.name in BASELINES:
        modality = BASELINES[arm.name].modality
        return {modality} if modality else set(MODALITIES)
    kinds = {table.views.modality[view] for view in arm.views}
    return set(MODALITIES) if "joint" in kinds else kinds


def _with_image(table: Table) -> int:
    """Pairs that have an image."""
    views = table.views
    return int(np.any([views.present[view] for view in views.of("image")], axis=0).sum())


def _parts(arm: Arm) -> ArmParts:
    """What a trained arm is made of; only the views that its recipes use have to be encoded."""
    assert arm.fit is not None
    ensemble = arm.fit.ensemble
    return ArmParts(
        name=arm.name,
        views=tuple(view for view in arm.views if view in ensemble.dims),
        parameters=ensemble.size,
        train_seconds=arm.fit.seconds,
    )


def _read(kind: Any, value: Any, place: str) -> Any:
    """A JSON value as the type of a field: dataclasses, tuples, dicts, literals, plain values."""
    origin, inside = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _read_fields(kind, value, place)
    if origin is UnionType:
        [wanted] = [each for each in inside if each is not NoneType]
        return None if value is None else _read(wanted, value, place)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_read(inside[0], each, f"{place}[{at}]") for at, each in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {name: _read(inside[1], each, f"{place}.{name}") for name, each in value.items()}
    if origin is Literal and value in inside:
        return value
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if kind in (str, int, bool) and type(value) is kind:
        return value
    raise ValueError(f"{place} is {shown(value)}")


def _read_fields(kind: Any, value: Any, place: str) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{place} is {shown(value)}")
    types = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    if missing := [name for name in names if name not in value]:
        raise ValueError(f"{place} has no {missing[0]!r}")
    if unknown := [name for name in value if name not in names]:
        raise ValueError(f"{place} has the unknown {shown(unknown[0])}")
    return kind(**{name: _read(types[name], value[name], f"{place}.{name}") for name in names})

"""Evidence: all that one ablation says, computed from the arms' out-of-fold probabilities."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pairfuse.config import StudyConfig
from pairfuse.fusion.fitting import ScaledRowSet
from pairfuse.stats.bootstrap import Estimate, draw_groups
from pairfuse.stats.calibration import (
    Answered,
    Calibration,
    Cascade,
    Conformal,
    abstention,
    calibrated,
    calibration,
    cascade,
    conformal,
)
from pairfuse.stats.metrics import Scores, score
from pairfuse.stats.paired import Comparison, compare_all
from pairfuse.study.ablation import FUSED, IMAGE_ONLY, TEXT_ONLY, Arm
from pairfuse.study.cost import ArmCost, ArmParts, EncoderCost, arm_costs, head_parameters
from pairfuse.study.crossfit import Table
from pairfuse.study.emap import (
    Interaction,
    emap,
    fold_numbers,
    interaction,
    joint_views,
    outer_folds,
    reads_tokens,
)
from pairfuse.study.missing_modality import NOTHING, removal_scores
from pairfuse.study.strata import Stratum, agreement, strata
from pairfuse.study.verdict import Verdict, build_verdict, find


@dataclass(frozen=True)
class Evidence:
    """One ablation's tables; `arms` and `scores` are in the same order."""

    labels: tuple[str, ...]
    rows: int
    groups: int
    study: StudyConfig
    resamples: int
    arms: tuple[Arm, ...]
    scores: tuple[Scores, ...]
    comparisons: tuple[Comparison, ...]
    emap: Interaction | None
    removal: Mapping[str, Scores]
    strata: tuple[Stratum, ...]
    agreement: Mapping[str, float]
    cost: tuple[ArmCost, ...]
    cascade: Cascade
    calibration: Calibration
    conformal: Conformal
    abstention: tuple[Answered, ...]
    verdict: Verdict

    def scores_of(self, name: str) -> Scores:
        """The scores of one arm."""
        return next(s for arm, s in zip(self.arms, self.scores, strict=True) if arm.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as evidence.json holds them."""
        study = self.study
        return {
            "labels": list(self.labels),
            "rows": self.rows,
            "groups": self.groups,
            "folds": study.folds,
            "repeats": study.repeats,
            "n_models": study.n_models,
            "n_trials": study.n_trials,
            "ensemble": study.ensemble,
            "nested": study.nested,
            "seed": study.seed,
            "resamples": self.resamples,
            "verdict": self.verdict.as_dict(),
            "arms": [
                {
                    "name": arm.name,
                    "views": list(arm.views),
                    "heads": sorted({recipe.head for recipe in arm.recipes}),
                    "scores": scores.as_dict(),
                }
                for arm, scores in zip(self.arms, self.scores, strict=True)
            ],
            "comparisons": [found.as_dict() for found in self.comparisons],
            "emap": self.emap.as_dict() if self.emap else None,
            "removal": {name: found.as_dict() for name, found in self.removal.items()},
            "strata": [found.as_dict() for found in self.strata],
            "agreement": dict(self.agreement),
            "cost": [found.as_dict() for found in self.cost],
            "cascade": self.cascade.as_dict(),
            "calibration": self.calibration.as_dict(),
            "conformal": self.conformal.as_dict(),
            "abstention": [found.as_dict() for found in self.abstention],
        }


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
    chances = {arm.name: arm.probabilities for arm in arms}
    scores = {name: score(targets, given, labels, draws) for name, given in chances.items()}
    comparisons = compare_all(chances, targets, draws, seed=study.seed)
    [fit] = [arm.fit for arm in arms if arm.name == FUSED]
    assert fit is not None
    together = None  # a joint view is known for the pairs that there are, and cannot be crossed;
    # nor are tokens
    if not joint_views(fit.ensemble) and not reads_tokens(fit.ensemble):
        projection = emap(
            table.views,
            fit.ensemble,
            prepared,
            final_estimators=fit.final_estimators,
            seed=study.seed,
        )
        together = interaction(projection, targets, draws)
    text_only, image_only = chances[TEXT_ONLY], chances[IMAGE_ONLY]
    three = text_only, image_only, chances[FUSED]
    places = strata(table, texts, three, draws, seed=study.seed)
    folds = fold_numbers(outer_folds(prepared), len(targets))
    costs = arm_costs(
        [_parts(arm) for arm in arms if arm.fit],
        encoders,
        table.views.sizes,
    )
    saved = cascade(text_only, chances[FUSED], targets, folds, draws)
    calm = calibrated(chances[FUSED], targets, folds)
    return Evidence(
        labels,
        len(targets),
        draws.groups,
        study,
        draws.resamples,
        tuple(arms),
        tuple(scores.values()),
        tuple(comparisons),
        together,
        removal_scores(table, fit.ensemble, prepared, draws, final_estimators=fit.final_estimators),
        tuple(places),
        agreement(targets, text_only, image_only),
        tuple(costs),
        saved,
        calibration(chances[FUSED], targets, folds, labels, draws),
        conformal(calm, targets, table.groups, folds, coverage=study.coverage),
        tuple(abstention(calm, targets)),
        build_verdict(
            *(scores, comparisons, places, together, costs, saved),
            text_arms=_text_arms(arms, table),
            groups=draws.groups,
        ),
    )


def _text_arms(arms: Sequence[Arm], table: Table) -> list[str]:
    """FittedModel arms that may use texts alone."""
    texts = set(table.views.of("text"))
    return [arm.name for arm in arms if arm.views and set(arm.views) <= texts]


def _parts(arm: Arm) -> ArmParts:
    """What a trained arm is made of; only the views that its recipes use have to be encoded."""
    assert arm.fit is not None
    used = tuple(view for view in arm.views if view in arm.fit.ensemble.dims)
    final_estimator = arm.fit.ensemble.final_estimator
    parameters = head_parameters(arm.fit.ensemble.members) + (
        final_estimator.size if final_estimator else 0
    )
    return ArmParts(arm.name, used, parameters, arm.fit.seconds)


def evidence_lines(found: Evidence) -> list[str]:
    """The ablation as a table in words, for the screen."""
    width = max(len(arm.name) for arm in found.arms) + 2
    head = f"{'ablate':<10}{'arm':<{width}}{'accuracy':>9}  {'macro-F1 (95 % interval)':<26}"
    lines = [f"{head}{'AUROC':>7}" + "".join(f"{label[:10]:>11}" for label in found.labels)]
    for arm, scores in zip(found.arms, found.scores, strict=True):
        per_class = "".join(f"{each.f1.value:>11.3f}" for each in scores.classes)
        lines.append(
            f"{'':<10}{arm.name:<{width}}{scores.accuracy.value:>9.3f}  "
            f"{in_words(scores.macro_f1):<26}{scores.auroc.value:>7.3f}{per_class}"
        )
    for other in (TEXT_ONLY, IMAGE_ONLY):
        gap = find(found.comparisons, FUSED, other)
        beyond = "beyond the noise" if gap.low > 0 or gap.high < 0 else "inside the noise"
        lines.append(
            f"{'':<10}fused less {other}: {gap.value:+.3f} macro-F1 "
            f"({gap.low:+.3f} to {gap.high:+.3f}), {beyond}"
        )
    lines += [
        f"{'':<10}fused without {name} at test time: macro-F1 {in_words(scores.macro_f1)}"
        for name, scores in found.removal.items()
        if name != NOTHING
    ]
    words = textwrap.wrap(found.verdict.words, 90)
    return [*lines, *(f"{'' if at else 'verdict':<10}{line}" for at, line in enumerate(words))]


def in_words(estimate: Estimate) -> str:
    """`0.617 (0.598 to 0.635)`."""
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"

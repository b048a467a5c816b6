"""Classes: which labels are confused, and how far probabilities can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

from pairfuse.report.canvas import WIDE, Drawing
from pairfuse.report.confusion import MOST_CELLS, plot_confusion
from pairfuse.report.figures import plot_bars, plot_lines
from pairfuse.report.inputs import ReportInput
from pairfuse.report.layout import Section, show
from pairfuse.report.markup import join, number, percent, words
from pairfuse.stats.calibration import Calibration
from pairfuse.stats.conformal import Conformal
from pairfuse.stats.metrics import ReliabilityBin, Scores
from pairfuse.stats.selective import SelectivePoint
from pairfuse.study.ablation import FUSED, IMAGE_ONLY, MAJORITY, PRIOR, TEXT_ONLY

MAIN = (FUSED, TEXT_ONLY, IMAGE_ONLY)
#: Of more labels, those that go wrong most are drawn: more cannot be read on one page.
MOST_LABELS = 20
SHOWN = 0.8  # of the shares of pairs predicted, the one that the words name


def confusions(found: ReportInput) -> Section | None:
    """One matrix for each arm that learns; of many labels, for the main ones."""
    labels = found.evidence.labels
    few = len(labels) <= MOST_CELLS
    kept = [
        arm
        for arm in found.evidence.arms
        if arm.name not in (PRIOR, MAJORITY) and (few or arm.name in MAIN)
    ]
    if not kept:
        return None
    worst = _most_errors(kept[0].scores)
    plots = [
        plot_confusion(
            f"confusion-{place}",
            arm.name,
            *joined_confusion(labels, arm.scores.confusion, worst),
        )
        for place, arm in enumerate(kept)
    ]
    said = (
        "Rows are the true label, columns the predicted one: the share of the row, and the number "
        "of pairs (mean of repeats)."
    )
    if len(labels) > MOST_LABELS:
        said += (
            f" Shown are the {MOST_LABELS} labels with most errors of {kept[0].name}; the other "
            f"{len(labels) - MOST_LABELS} are joined."
        )
    kind = "two" if len(labels) > 4 else ""
    return Section("confusion", "Confusion", join([words(said), show(plots, kind)]))


def joined_confusion(
    labels: Sequence[str], matrix: Sequence[Sequence[float]], kept: Sequence[int]
) -> tuple[list[str], list[list[float]]]:
    """The labels at these places and their cells; all others, if any, as one label at the end."""
    rest = [at for at in range(len(labels)) if at not in kept]
    groups = [[at] for at in kept] + ([rest] if rest else [])
    names = [labels[at] for at in kept] + ([f"{len(rest)} others"] if rest else [])
    cells = [
        [sum(matrix[row][column] for row in rows for column in across) for across in groups]
        for rows in groups
    ]
    return names, cells


def _most_errors(scores: Scores) -> list[int]:
    """Places, in order, of the labels whose pairs are most often predicted wrongly."""
    wrong = [sum(row) - row[at] for at, row in enumerate(scores.confusion)]
    return sorted(sorted(range(len(wrong)), key=lambda at: -wrong[at])[:MOST_LABELS])


def classes(found: ReportInput) -> Section | None:
    """Precision, recall and F1 of each class; of many, of those with the lowest F1."""
    main = [arm for name in MAIN if (arm := found.evidence.arm(name))]
    if not main:
        return None
    labels, first = found.evidence.labels, main[0].scores.classes
    kept = sorted(sorted(range(len(labels)), key=lambda at: first[at].f1.value)[:MOST_LABELS])
    plots = [
        plot_bars(
            f"classes-{measure}",
            title,
            [labels[at] for at in kept],
            {arm.name: [getattr(arm.scores.classes[at], measure) for at in kept] for arm in main},
            measure=title,
            top=1.0,
        )
        for measure, title in (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1"))
    ]
    said = (
        f"The {MOST_LABELS} of {len(labels)} labels with the lowest F1 of {main[0].name}."
        if len(labels) > MOST_LABELS
        else ""
    )
    return Section("classes", "Classes", join([words(said), show(plots)]) if said else show(plots))


def calibration(found: ReportInput) -> Section | None:
    """How far probabilities can be trusted, and what they allow."""
    calibrated, conformal = found.evidence.calibration, found.evidence.conformal
    plots = [_reliability(calibrated), *_selective(found.evidence.selective), _sizes(conformal)]
    lines = [
        "Calibration: confidence differs from accuracy by "
        f"{number(calibrated.before.ece)} on average (expected calibration error), and by "
        f"{number(calibrated.after.ece)} after temperature scaling; log loss is "
        f"{number(calibrated.before.log_loss)} before and {number(calibrated.after.log_loss)} "
        f"after. `pairfuse predict` applies the temperature, {number(calibrated.temperature)}.",
        _selective_words(found.evidence.selective),
        f"Prediction sets: sets made to contain the true label for {percent(conformal.coverage)} "
        f"of the pairs contain it for {percent(conformal.empirical_coverage, 1)}, with "
        f"{number(conformal.mean_size, 2)} labels on average. `pairfuse predict` writes one for "
        "each pair.",
    ]
    body = join([words(*lines), show(plots, "two")])
    return Section("calibration", "Confidence", body)


def _reliability(found: Calibration) -> Drawing:
    return plot_lines(
        "reliability-plot",
        "Reliability, bins of at least 1 % of the pairs",
        {"after scaling": _filled(found.after.bins), "before": _filled(found.before.bins)},
        across="confidence",
        upward="accuracy",
        square=True,
    )


def _filled(bins: Sequence[ReliabilityBin]) -> list[tuple[float, float]]:
    """Confidence and accuracy of the bins that are not nearly empty."""
    least = 0.01 * sum(each.rows for each in bins)
    return [(each.confidence, each.accuracy) for each in bins if each.rows > least]


def _selective_words(points: Sequence[SelectivePoint]) -> str:
    kept = next((each for each in points if each.coverage == SHOWN), None)
    if kept is None:
        return ""
    return (
        "Selective prediction: if the pairs with the lowest confidence are left to a person, the "
        f"other {percent(kept.coverage)} are predicted with an accuracy of "
        f"{number(kept.accuracy)}; all pairs, with {number(points[-1].accuracy)}."
    )


def _selective(points: Sequence[SelectivePoint]) -> list[Drawing]:
    if not points:
        return []
    curves = {
        "accuracy": [(each.coverage, each.accuracy) for each in points],
        "macro-F1": [(each.coverage, each.macro_f1) for each in points],
    }
    plot = plot_lines(
        "selective-plot",
        "Score if only the most confident pairs are predicted",
        curves,
        across="share of pairs predicted",
        upward="score",
    )
    return [plot]


def _sizes(found: Conformal) -> Drawing:
    return plot_bars(
        "conformal-plot",
        "Labels in a prediction set",
        [f"{size} label" + "s" * (size != "1") for size in found.sizes],
        {"share": list(found.sizes.values())},
        measure="share of pairs",
        width=WIDE,
    )

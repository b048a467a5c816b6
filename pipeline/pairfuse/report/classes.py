"""Classes: the sections on which labels are confused, and on whether probabilities are true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pairfuse.report.canvas import WIDE, Drawing
from pairfuse.report.confusion import MOST_CELLS, plot_confusion
from pairfuse.report.figures import plot_bars, plot_lines
from pairfuse.report.inputs import FUSED, IMAGE, TEXT, ReportInput
from pairfuse.report.layout import Section, show
from pairfuse.report.markup import join, number, percent, words


def confusions(found: ReportInput) -> Section | None:
    """One matrix for each arm."""
    every = [arm for arm in found.evidence.get("arms") or () if arm["scores"].get("confusion")]
    kept = [arm for arm in every if arm.get("views")]
    if len(found.labels) > MOST_CELLS:
        kept = [arm for arm in kept if arm["name"] in (FUSED, TEXT, IMAGE)]
    if not kept:
        return None
    plots = [
        plot_confusion(f"confusion-{place}", arm["name"], found.labels, arm["scores"]["confusion"])
        for place, arm in enumerate(kept)
    ]
    said = "Rows are the truth, columns the guess: share of the row, and pairs (mean of repeats)."
    kind = "two" if len(found.labels) > 4 else ""
    return Section("confusion", "Confusion", join([words(said), show(plots, kind)]))


def classes(found: ReportInput) -> Section | None:
    """Precision, recall and F1 of each class."""
    main = [arm for name in (FUSED, TEXT, IMAGE) if (arm := found.arm(name))]
    main = [arm for arm in main if arm["scores"].get("classes")]
    if not main:
        return None
    groups = [str(each["label"]) for each in main[0]["scores"]["classes"]]
    plots = [
        plot_bars(
            f"classes-{measure}",
            title,
            groups,
            {arm["name"]: [each.get(measure) for each in arm["scores"]["classes"]] for arm in main},
            measure=title,
            top=1.0,
        )
        for measure, title in (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1"))
    ]
    return Section("classes", "Classes", show(plots))


def calibration(found: ReportInput) -> Section | None:
    """Are the probabilities true, and what do they allow."""
    given = found.evidence.get("calibration") or {}
    conformal = found.evidence.get("conformal") or {}
    answered = found.evidence.get("abstention") or ()
    plots, lines = [], []
    if given:
        plots.append(_reliability(found, given))
        before, after = given.get("before") or {}, given.get("after") or {}
        lines.append(
            f"Temperature {number(given.get('temperature'))}, fitted out-of-fold: calibration "
            f"error {number(before.get('ece'))} before, {number(after.get('ece'))} after; log loss "
            f"{number(before.get('log_loss'))} before, {number(after.get('log_loss'))} after."
        )
    if answered:
        curves = {
            name: [(each["answered"], each[key]) for each in answered if each[key] is not None]
            for key, name in (("accuracy", "accuracy"), ("macro_f1", "macro-F1"))
        }
        plots.append(
            plot_lines(
                *("abstention-plot", "If the least certain pairs stay unanswered", curves),
                across="share answered",
                upward="score of the answered",
            )
        )
        lines.append("Abstention: pairs below a confidence are left to a person.")
    if conformal:
        sizes = conformal.get("sizes") or {}
        names = [f"{size} label" + "s" * (size != "1") for size in sizes]
        plots.append(
            plot_bars(
                *("conformal-plot", "Size of conformal prediction sets", names),
                {"share": list(sizes.values())},
                measure="share of pairs",
                width=WIDE,
            )
        )
        lines.append(
            f"Conformal sets that hold the truth for {percent(conformal.get('coverage'))} of pairs "
            f"held it for {percent(conformal.get('achieved'), 1)}, with "
            f"{number(conformal.get('mean_size'), 2)} labels on average."
        )
    if not plots:
        return None
    return Section("calibration", "Calibration", join([words(*lines), show(plots, "two")]))


def _reliability(found: ReportInput, given: Mapping[str, Any]) -> Drawing:
    fused = found.arm(FUSED)
    bins = {
        "after": given.get("reliability") or (),
        "before": ((fused or {}).get("scores") or {}).get("reliability") or (),
    }
    curves = {name: _filled(given) for name, given in bins.items()}
    return plot_lines(
        *("reliability-plot", "Reliability, bins of at least 1 % of the pairs", curves),
        across="confidence",
        upward="share right",
        square=True,
    )


def _filled(bins: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Confidence and accuracy of the bins that are not nearly empty."""
    least = 0.01 * sum(each["rows"] for each in bins)
    return [(each["confidence"], each["accuracy"]) for each in bins if each["rows"] > least]

"""Curves: the sections on how the models were trained and tuned, and the map of their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pairfuse.report.canvas import NARROW, WIDE, Drawing, canvas, legend_name
from pairfuse.report.embedding import Map, neighbour_map, principal_map, sample
from pairfuse.report.figures import NAME, plot_bars
from pairfuse.report.inputs import ReportInput
from pairfuse.report.layout import Section, show
from pairfuse.report.markup import join, number, short, squeezed, words
from pairfuse.report.svg import ACCENT, GRID, HUES, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDES = {"training": ("train", HUES[1]), "validation": ("val", ACCENT)}
MEASURES = {"loss": "Loss", "accuracy": "Accuracy", "macro_f1": "Macro-F1"}
MOST_MODELS = 50  # curves of one panel
MOST_SLICES = 12
MOST_CHOICES = 14
FEW_CHOICES = 6  # whole numbers of so few values are choices


History = Sequence[Mapping[str, float]]


def training(found: ReportInput) -> Section | None:
    """Loss, accuracy and macro-F1 over epochs."""
    histories = [rows for rows in found.history if rows][:MOST_MODELS]
    if not histories:
        return None
    said = (
        f"{len(found.history)} models, each a thin line; thick: the mean of those still in "
        "training. Blue is validation, orange training."
    )
    plots = [_learning(measure, title, histories) for measure, title in MEASURES.items()]
    return Section("training", "Training", join([words(said), show(plots)]))


def plot_history(histories: Sequence[History]) -> Drawing:
    """All measures side by side."""
    with canvas("history", width=3 * NARROW, height=290, panels=(1, len(MEASURES))) as sheet:
        for axes, (measure, title) in zip(sheet.panels, MEASURES.items(), strict=True):
            _draw_history(axes, histories, measure, named=axes is sheet.axes)
            axes.set_title(title)
        sheet.legend(list(SIDES))
    measured = [f"{side}_{measure}" for measure in MEASURES for side in ("train", "val")]
    rows = [
        (model, epoch, *(each[column] for column in measured))
        for model, history in enumerate(histories)
        for epoch, each in enumerate(history, 1)
    ]
    return sheet.drawing(
        "Training: each model, and their mean", ("model", "epoch", *measured), rows
    )


def _learning(measure: str, title: str, histories: Sequence[History]) -> Drawing:
    with canvas(f"history-{measure}", width=NARROW, height=250) as sheet:
        _draw_history(sheet.axes, histories, measure)
        sheet.legend(list(SIDES))
    rows = [
        (model, epoch, each[f"train_{measure}"], each[f"val_{measure}"])
        for model, history in enumerate(histories)
        for epoch, each in enumerate(history, 1)
    ]
    return sheet.drawing(title, ("model", "epoch", "training", "validation"), rows)


def _draw_history(
    axes: Axes, histories: Sequence[History], measure: str, *, named: bool = True
) -> None:
    """Each model thin, the mean of those still in training thick."""
    for name, (side, colour) in SIDES.items():
        curves = [[each[f"{side}_{measure}"] for each in history] for history in histories]
        for curve in curves:
            axes.plot(range(1, len(curve) + 1), curve, color=colour, alpha=0.22, linewidth=0.8)
        longest = max(map(len, curves))
        means = [float(np.mean([c[at] for c in curves if at < len(c)])) for at in range(longest)]
        label = name if named else None
        axes.plot(range(1, longest + 1), means, color=colour, linewidth=2.2, label=label)
    axes.set(xlabel="epoch")
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.locator_params(axis="y", nbins=5)
    axes.grid()


def tuning(found: ReportInput) -> Section | None:
    """The search: its history, what mattered, and how each parameter did."""
    trials = [trial for trial in found.trials if str(trial["state"]).lower() == "complete"]
    if not trials:
        return None
    stopped = len(found.trials) - len(trials)
    said = (
        f"{len(found.trials)} trials of the fused model, {stopped} of them stopped early or "
        f"failed; the best reached {found.metric} {number(max(t['value'] for t in trials))}."
    )
    plots = [_search(trials, found.metric)]
    if found.importances:
        ranked = sorted(found.importances.items(), key=lambda each: -each[1])
        plots.append(
            plot_bars(
                "importances-plot",
                "Importance of each parameter for the score",
                [name for name, _ in ranked],
                {"importance": [value for _, value in ranked]},
                measure="share of the variance between trials",
                width=WIDE,
            )
        )
    order = sorted(
        _varied(trials),
        key=lambda name: (-found.importances.get(name, 0.0), name),
    )
    slices = [
        _slice(place, name, trials, found.metric) for place, name in enumerate(order[:MOST_SLICES])
    ]
    parts = [words(said), show(plots, "two")]
    if slices:
        parts += [words("Each dot is a trial."), show(slices)]
    return Section("tuning", "Tuning", join(parts))


def _search(trials: Sequence[Mapping[str, Any]], metric: str) -> Drawing:
    ordered = sorted(trials, key=lambda trial: trial["number"])
    numbers = [trial["number"] for trial in ordered]
    values = [float(trial["value"]) for trial in ordered]
    best = np.maximum.accumulate(values).tolist()
    with canvas("tuning-history") as sheet:
        axes = sheet.axes
        axes.plot(numbers, values, "o", color=MUTED, markersize=5, label="trial")
        axes.step(numbers, best, where="post", color=ACCENT, linewidth=2, label="best so far")
        axes.set(xlabel="trial", ylabel=metric)
        axes.locator_params(axis="x", integer=True)
        axes.grid()
        sheet.legend(["trial", "best so far"])
    rows = list(zip(numbers, values, best, strict=True))
    return sheet.drawing("Score of each trial", ("trial", metric, "best so far"), rows)


def _slice(place: int, name: str, trials: Sequence[Mapping[str, Any]], metric: str) -> Drawing:
    rows = [
        (t["number"], t["params"][name], float(t["value"])) for t in trials if name in t["params"]
    ]
    values = [value for _, _, value in rows]
    given = {v for _, v, _ in rows}
    numeric = all(isinstance(v, float) for v in given) or (
        len(given) > FEW_CHOICES and all(isinstance(v, int) for v in given)
    )
    choices = [str(v) for v in sorted(given, key=_by_size)][:MOST_CHOICES]
    with canvas(f"slice-{place}", NARROW, 230 if numeric else 70 + 26 * len(choices)) as sheet:
        axes = sheet.axes
        style: dict[str, Any] = {
            "color": ACCENT,
            "alpha": 0.75,
            "markersize": 5.5,
            "markeredgewidth": 0,
        }
        if numeric:
            at = [float(v) for _, v, _ in rows]
            axes.plot(at, values, "o", **style)
            if min(at) > 0 and max(at) / min(at) > 20 and float(np.median(at)) < 0.25 * max(at):
                _logarithmic(axes)
            else:
                axes.locator_params(axis="x", nbins=4)
            axes.set(ylabel=metric)
            axes.locator_params(axis="y", nbins=5)
        else:
            kept = [(choices.index(str(v)), value) for _, v, value in rows if str(v) in choices]
            axes.plot([value for _, value in kept], [at for at, _ in kept], "o", **style)
            axes.set_yticks(range(len(choices)), [squeezed(choice, NAME) for choice in choices])
            axes.set_ylim(len(choices) - 0.4, -0.6)
            axes.set(xlabel=metric)
            axes.locator_params(axis="x", nbins=4)
        axes.grid(color=GRID)
    return sheet.drawing(short(name, 40), ("trial", name, metric), rows)


def _varied(trials: Sequence[Mapping[str, Any]]) -> set[str]:
    """Parameters that had more than one value."""
    seen: dict[str, set[str]] = {}
    for trial in trials:
        for name, value in trial["params"].items():
            seen.setdefault(name, set()).add(str(value))
    return {name for name, values in seen.items() if len(values) > 1}


def _by_size(value: Any) -> tuple[bool, float, str]:
    return (True, value, "") if isinstance(value, int | float) else (False, 0.0, str(value))


def _logarithmic(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def feature_map(found: ReportInput) -> Section | None:
    """Fused features in the plane, coloured by label."""
    features, targets = found.fused_features, found.targets
    if features is None or targets is None or features.ndim != 2:
        return None
    seed = found.evidence.design.seed
    components = principal_map(features, seed=seed)
    if components is None or components.shape[1] < 2:
        return None
    shown = sample(len(features), seed=seed)
    labels = [legend_name(label) for label in found.evidence.labels]
    drawn = targets[shown]
    plots = [
        _cloud("map-pca", "Principal components", components[shown, :2], drawn, labels),
        _cloud("map-tsne", "t-SNE", neighbour_map(components[shown], seed=seed), drawn, labels),
    ]
    said = (
        f"The features of {len(shown):,} of {len(features):,} pairs, text and image side by side, "
        "coloured by label: near points are alike to the encoders. Directions have no meaning; in "
        "t-SNE, neither do large distances."
    )
    return Section("map", "Map of the features", join([words(said), show(plots, "two")]))


def _cloud(key: str, title: str, points: Map, targets: Any, labels: Sequence[str]) -> Drawing:
    """All points of a label are one path of dots: light, and coloured by the page."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    tall = 380 + 20 * ((min(len(labels), len(HUES) + 1) + 2) // 3)
    with canvas(key, WIDE, tall) as sheet:
        axes = sheet.axes
        for target, label in enumerate(labels):
            own = points[targets == target]
            colour, size = (HUES[target], 4.2) if target < len(HUES) else (MUTED, 3.2)
            named = label if target < len(HUES) else "others" if target == len(HUES) else None
            axes.plot([], [], "o", color=colour, label=named)
            if not len(own):
                continue
            codes = [Path.MOVETO, Path.LINETO] * len(own)
            dots = PathPatch(
                Path(np.repeat(own, 2, axis=0), codes),
                edgecolor=colour,
                linewidth=size,
                capstyle="round",
                alpha=0.7,
            )
            axes.add_patch(dots)
        axes.autoscale_view()
        axes.set(xticks=[], yticks=[])
        for side in axes.spines.values():
            side.set_visible(False)
        sheet.legend([*labels[: len(HUES)], *["others"] * (len(labels) > len(HUES))])
    rows = [
        (labels[target], round(float(x), 3), round(float(y), 3))
        for target, (x, y) in zip(targets.tolist(), points, strict=True)
    ]
    return sheet.drawing(title, ("label", "x", "y"), rows)

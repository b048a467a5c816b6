"""Curves: the sections on how the models were trained and tuned, and the map of their features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pairfuse.report.canvas import (
    ACCENT,
    GRID,
    HUES,
    MUTED,
    NARROW,
    WIDE,
    Drawing,
    canvas,
    legend_name,
)
from pairfuse.report.embedding import Map, neighbour_map, principal_map, sample
from pairfuse.report.figures import NAME, plot_bars
from pairfuse.report.inputs import ReportInput
from pairfuse.report.layout import Section, show
from pairfuse.report.markup import join, number, short, squeezed, words

MEASURES = {"loss": "Loss", "accuracy": "Accuracy", "macro_f1": "Macro-F1"}
MOST_MODELS = 50  # curves of one panel
MOST_SLICES = 12
MOST_CHOICES = 14
FEW_CHOICES = 6  # whole numbers of so few values are choices


def training(found: ReportInput) -> Section | None:
    """Loss, accuracy and macro-F1 over epochs."""
    histories = [rows for rows in found.history if rows][:MOST_MODELS]
    plots = [
        _learning(measure, title, histories)
        for measure, title in MEASURES.items()
        if histories and f"val_{measure}" in histories[0][0]
    ]
    if not plots:
        return None
    said = (
        f"{len(found.history)} models, each a thin line; thick: the mean of those still in "
        "training. Blue is validation, orange training."
    )
    return Section("training", "Training", join([words(said), show(plots)]))


def _learning(
    measure: str, title: str, histories: Sequence[Sequence[Mapping[str, float]]]
) -> Drawing:
    sides = {"training": (f"train_{measure}", HUES[1]), "validation": (f"val_{measure}", ACCENT)}
    rows = [
        (model, epoch, each.get(sides["training"][0]), each.get(sides["validation"][0]))
        for model, history in enumerate(histories)
        for epoch, each in enumerate(history, 1)
    ]
    with canvas(f"history-{measure}", width=NARROW, height=250) as sheet:
        axes = sheet.axes
        for name, (column, colour) in sides.items():
            curves = [[each.get(column, math.nan) for each in history] for history in histories]
            for curve in curves:
                axes.plot(range(1, len(curve) + 1), curve, color=colour, alpha=0.22, linewidth=0.8)
            longest = max(map(len, curves))
            means = [
                float(np.mean([c[at] for c in curves if at < len(c)])) for at in range(longest)
            ]
            axes.plot(range(1, longest + 1), means, color=colour, linewidth=2.2, label=name)
        axes.set(xlabel="epoch")
        axes.locator_params(axis="x", nbins=6, integer=True)
        axes.locator_params(axis="y", nbins=5)
        axes.grid()
        sheet.legend(list(sides))
    columns = ("model", "epoch", "training", "validation")
    return sheet.drawing(f"history-{measure}", title, columns, rows)


def tuning(found: ReportInput) -> Section | None:
    """The search: its history, what mattered, and how each parameter did."""
    trials = [trial for trial in found.trials if str(trial["state"]).lower() == "complete"]
    if not trials:
        return None
    stopped = len(found.trials) - len(trials)
    said = (
        f"{len(found.trials)} trials of the fused arm, {stopped} of them stopped early or failed; "
        f"the best reached {found.metric} {number(max(t['value'] for t in trials))}."
    )
    plots = [_search(trials, found.metric)]
    if found.importances:
        ranked = sorted(found.importances.items(), key=lambda each: -each[1])
        plots.append(
            plot_bars(
                *("importances-plot", "Importance of parameters", [name for name, _ in ranked]),
                {"importance": [value for _, value in ranked]},
                measure="share of variance",
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
    return sheet.drawing("tuning-history", "History", ("trial", metric, "best so far"), rows)


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
    return sheet.drawing(f"slice-{place}", short(name, 40), ("trial", name, metric), rows)


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
    seed = int(found.evidence.get("seed") or 0)
    components = principal_map(features, seed=seed)
    if components is None or components.shape[1] < 2:
        return None
    shown = sample(len(features), seed=seed)
    labels = [legend_name(label) for label in found.labels]
    drawn = targets[shown]
    plots = [
        _cloud("map-pca", "Principal components", components[shown, :2], drawn, labels),
        _cloud("map-tsne", "t-SNE", neighbour_map(components[shown], seed=seed), drawn, labels),
    ]
    said = (
        f"What the fused model sees of {len(shown):,} of {len(features):,} pairs, coloured by "
        "label. Directions have no meaning; in t-SNE, neither do large distances."
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
    return sheet.drawing(key, title, ("label", "x", "y"), rows)

"""Plots: one picture per question, drawn without a screen and without global state."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pairfuse.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pairfuse.data.pairs import Dataset
    from pairfuse.data.profile import Profile

MOST_BARS = 8
MANY_IMAGES = 5000  # more points than that hide each other
INK = "#33608c"


def plot_data_check(profile: Profile, dataset: Dataset, path: Path) -> None:
    """Draw labels per split, text lengths, image sizes and what was odd, into one PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    figure.suptitle(f"{_short(profile.name, 40)}: {sum(profile.splits.values())} pairs")
    panels = figure.subplots(2, 2)
    _plot_labels(panels[0, 0], profile)
    _plot_lengths(panels[0, 1], dataset)
    _plot_oddities(panels[1, 0], profile)  # long names stay at the outer edge
    _plot_sizes(panels[1, 1], dataset)
    save_png(figure, path)


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure whole; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; that is no reason to stop.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())


def _plot_labels(axes: Axes, profile: Profile) -> None:
    names = list(dict.fromkeys(name for counts in profile.labels.values() for name in counts))
    totals = [sum(c.get(name, 0) for c in profile.labels.values()) for name in names]
    shown = 0.06 * max(totals, default=0)  # a number needs some room
    starts = [0] * len(names)
    for split, counts in profile.labels.items():
        widths = [counts.get(name, 0) for name in names]
        bars = axes.barh(range(len(names)), widths, left=starts, label=split)
        numbers = [str(width) if width > shown else "" for width in widths]
        axes.bar_label(bars, numbers, label_type="center", color="white", fontsize=9)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    axes.set_yticks(range(len(names)), [_short(name, 18) for name in names])
    axes.invert_yaxis()
    axes.set(title="Labels", xlabel="pairs", xlim=(0, 1.06 * max(totals, default=0) or 1))
    if len(profile.labels) > 1:
        axes.legend(frameon=False)


def _plot_lengths(axes: Axes, dataset: Dataset) -> None:
    lengths = [len(pair.text) for pair in dataset.pairs if pair.text is not None]
    axes.set(title="Text length", xlabel="characters", ylabel="pairs")
    if not lengths:
        _say_none(axes, "no texts")
        return
    axes.hist(lengths, bins=min(40, max(lengths) - min(lengths) + 1), color=INK)


def _plot_sizes(axes: Axes, dataset: Dataset) -> None:
    facts = [fact for fact in dataset.images.values() if not fact.error and fact.width]
    axes.set(title="Image size", xlabel="width, px", ylabel="height, px")
    if not facts:
        _say_none(axes, "no readable images")
        return
    widths, heights = [fact.width for fact in facts], [fact.height for fact in facts]
    if len(facts) <= MANY_IMAGES:
        axes.scatter(widths, heights, s=9, alpha=0.35, color=INK, linewidths=0)
        return
    cells = axes.hexbin(widths, heights, gridsize=40, bins="log", mincnt=1, cmap="Blues")
    axes.figure.colorbar(cells, ax=axes, label="pairs")


def _plot_oddities(axes: Axes, profile: Profile) -> None:
    """Encodings and problems side by side: one bar each, numbers written out."""
    bars = _most(profile.encodings, INK) + _most(profile.problems, "#c0563b")
    axes.set(title="Encodings (blue) and problems (red)", xlabel="pairs, logarithmic")
    if not bars:
        _say_none(axes, "no text files, no problems")
        return
    rows = range(len(bars))
    drawn = axes.barh(rows, [count for _, count, _ in bars], color=[ink for _, _, ink in bars])
    axes.bar_label(drawn, [str(count) for _, count, _ in bars], padding=3, fontsize=8)
    axes.set_yticks(rows, [_short(name, 26) for name, _, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.5, 3 * max(count for _, count, _ in bars))


def _most(counts: Mapping[str, int], ink: str) -> list[tuple[str, int, str]]:
    bars = [(name or "unknown", count, ink) for name, count in counts.items()]
    rest = sum(count for _, count, _ in bars[MOST_BARS:])
    return bars[:MOST_BARS] + ([("others", rest, ink)] if rest else [])


def _say_none(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes, color="grey")
    axes.set_xticks([])
    axes.set_yticks([])


def _short(name: str, length: int) -> str:
    """Cut, and mark dollar signs: they would start a formula, and a bad formula is an error."""
    short = name if len(name) <= length else name[: length - 1] + "\u2026"
    return short.replace("$", r"\$")


def plot_history(histories: Sequence[Sequence[Mapping[str, float]]], path: Path) -> None:
    """Draw loss, accuracy and macro-F1 over epochs: each model thin, their mean thick.

    Args:
        histories: One list of epoch rows for each model, as `FittedModel.history`.
        path: The PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    for axes, measure in zip(figure.subplots(1, 3), ("loss", "accuracy", "macro_f1"), strict=True):
        for side, colour in (("train", "#b06a2c"), ("val", INK)):
            _plot_curves(axes, histories, f"{side}_{measure}", colour)
        axes.set_title(measure.replace("_f1", "-F1"))
        axes.set_xlabel("epoch; the mean is of models still in training")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    save_png(figure, path)


def _plot_curves(
    axes: Axes, histories: Sequence[Sequence[Mapping[str, float]]], column: str, colour: str
) -> None:
    curves = [[row[column] for row in rows] for rows in histories]
    for curve in curves:
        axes.plot(range(1, len(curve) + 1), curve, color=colour, alpha=0.2, linewidth=0.8)
    longest = max(len(curve) for curve in curves)
    at_epoch = [[c[epoch] for c in curves if epoch < len(c)] for epoch in range(longest)]
    means = [sum(values) / len(values) for values in at_epoch]
    label = {"train": "training", "val": "validation"}[column.split("_")[0]]
    axes.plot(range(1, longest + 1), means, color=colour, linewidth=2, label=label)


def plot_arms(
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    path: Path,
) -> None:
    """Draw the out-of-fold macro-F1 of each arm with its 95 % interval, into one PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1.2 + 0.6 * len(names)), layout="constrained")
    axes = figure.subplots()
    for row, (value, (low, high)) in enumerate(zip(values, intervals, strict=True)):
        axes.plot([low, high], [row, row], color=INK, linewidth=2)
        axes.plot([value], [row], "o", color=INK, markersize=8)
        axes.annotate(f"{value:.3f}", (value, row), (0, 8), textcoords="offset points", ha="center")
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.5, -0.7)
    axes.set_xlabel("macro-F1, out-of-fold, with 95 % bootstrap interval")
    axes.grid(axis="x", alpha=0.3)
    save_png(figure, path)


def plot_costs(
    names: Sequence[str], costs: Sequence[float], scores: Sequence[float], path: Path
) -> None:
    """Draw each model's macro-F1 against its encoders' milliseconds a pair, into one PNG.

    The line joins models that no other beats in both.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.6 + 0.32 * len(names)), layout="constrained")
    axes = figure.subplots()
    order = sorted(range(len(names)), key=lambda at: (costs[at], -scores[at]))
    front: list[int] = []
    for at in order:
        if not front or scores[at] > scores[front[-1]]:
            front.append(at)
    axes.step([costs[at] for at in front], [scores[at] for at in front], where="post", color=INK)
    axes.scatter(
        costs, scores, s=22, color=[INK if at in front else "grey" for at in range(len(names))]
    )
    ranks = sorted(range(len(names)), key=lambda at: -scores[at])
    for rank, at in enumerate(ranks):
        height = 0.97 - 0.94 * rank / max(1, len(ranks) - 1)
        axes.annotate(
            f"{scores[at]:.3f}  {_short(names[at], 60)}",
            (costs[at], scores[at]),
            xytext=(1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "grey", "linewidth": 0.5, "relpos": (0, 0.5)},
        )
    axes.set_xscale("log")
    axes.set(xlabel="encoder time, ms a pair, logarithmic", ylabel="macro-F1, out-of-fold")
    axes.grid(alpha=0.3)
    save_png(figure, path)

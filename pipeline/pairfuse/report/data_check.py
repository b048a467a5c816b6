"""Data check: labels, text lengths, image sizes and what was odd in a data set, as one figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pairfuse.report.canvas import Drawing, canvas, legend_name
from pairfuse.report.markup import short
from pairfuse.report.svg import ACCENT, HUES, MUTED, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pairfuse.data.pairs import Dataset
    from pairfuse.data.profile import Profile

MOST_BARS = 8
MANY_IMAGES = 5000  # more points than that hide each other


def plot_data_check(profile: Profile, dataset: Dataset) -> Drawing:
    """Labels per split, text lengths, image sizes and what was odd, in four panels."""
    with canvas("data-check", width=800, height=580, panels=(2, 2)) as sheet:
        labels, lengths, oddities, sizes = sheet.panels
        _plot_labels(labels, profile)
        _plot_lengths(lengths, dataset)
        _plot_oddities(oddities, profile)  # long names stay at the outer edge
        _plot_sizes(sizes, dataset)
    title = f"{short(profile.name, 40)}: {sum(profile.splits.values()):,} pairs"
    rows = [
        (kind, name, count)
        for kind, counts in (("encoding", profile.encodings), ("problem", profile.problems))
        for name, count in counts.items()
    ]
    return sheet.drawing(title, ("kind", "name", "pairs"), rows)


def _plot_labels(axes: Axes, profile: Profile) -> None:
    names = list(dict.fromkeys(name for counts in profile.labels.values() for name in counts))
    totals = [sum(c.get(name, 0) for c in profile.labels.values()) for name in names]
    shown = 0.06 * max(totals, default=0)  # a number needs some room
    starts = [0] * len(names)
    for place, (split, counts) in enumerate(profile.labels.items()):
        widths = [counts.get(name, 0) for name in names]
        bars = axes.barh(
            range(len(names)),
            widths,
            left=starts,
            label=legend_name(split),
            color=HUES[place % len(HUES)],
        )
        numbers = [str(width) if width > shown else "" for width in widths]
        axes.bar_label(bars, numbers, label_type="center", color=PAPER, fontsize=9)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    axes.set_yticks(range(len(names)), [short(name, 18) for name in names])
    axes.invert_yaxis()
    axes.set(title="Labels", xlabel="pairs", xlim=(0, 1.06 * max(totals, default=0) or 1))
    if len(profile.labels) > 1:
        axes.legend()


def _plot_lengths(axes: Axes, dataset: Dataset) -> None:
    lengths = [len(pair.text) for pair in dataset.pairs if pair.text is not None]
    axes.set(title="Text length", xlabel="characters", ylabel="pairs")
    if not lengths:
        _say_none(axes, "no texts")
        return
    axes.hist(lengths, bins=min(40, max(lengths) - min(lengths) + 1), color=ACCENT)


def _plot_sizes(axes: Axes, dataset: Dataset) -> None:
    facts = [fact for fact in dataset.images.values() if not fact.error and fact.width]
    axes.set(title="Image size", xlabel="width, px", ylabel="height, px")
    if not facts:
        _say_none(axes, "no readable images")
        return
    widths, heights = [fact.width for fact in facts], [fact.height for fact in facts]
    if len(facts) <= MANY_IMAGES:
        axes.scatter(widths, heights, s=9, alpha=0.35, color=ACCENT, linewidths=0)
        return
    cells = axes.hexbin(widths, heights, gridsize=40, bins="log", mincnt=1, cmap="Blues")
    axes.figure.colorbar(cells, ax=axes, label="pairs")


def _plot_oddities(axes: Axes, profile: Profile) -> None:
    """Encodings and problems side by side: one bar each, numbers written out."""
    bars = _most(profile.encodings, ACCENT) + _most(profile.problems, HUES[1])
    axes.set(title="Encodings (blue) and problems (orange)", xlabel="pairs, logarithmic")
    if not bars:
        _say_none(axes, "no text files, no problems")
        return
    rows = range(len(bars))
    drawn = axes.barh(rows, [count for _, count, _ in bars], color=[ink for _, _, ink in bars])
    axes.bar_label(drawn, [str(count) for _, count, _ in bars], padding=3, fontsize=8)
    axes.set_yticks(rows, [short(name, 26) for name, _, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.5, 3 * max(count for _, count, _ in bars))


def _most(counts: Mapping[str, int], ink: str) -> list[tuple[str, int, str]]:
    bars = [(name or "unknown", count, ink) for name, count in counts.items()]
    rest = sum(count for _, count, _ in bars[MOST_BARS:])
    return bars[:MOST_BARS] + ([("others", rest, ink)] if rest else [])


def _say_none(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes, color=MUTED)
    axes.set_xticks([])
    axes.set_yticks([])

"""Figures: the shapes that many sections draw; each keeps the numbers that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pairfuse.report.canvas import NARROW, WIDE, Drawing, canvas, legend_name
from pairfuse.report.markup import Value, estimate, number, signed, squeezed
from pairfuse.report.svg import ACCENT, GRID, HUES, INK, MUTED
from pairfuse.stats.pareto import pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 26  # pixels of one row of words
NAME = 24  # characters of a name beside an axis


def plot_intervals(
    key: str,
    title: str,
    named: Sequence[tuple[str, Value]],
    *,
    measure: str,
    zero: bool = False,
    mark: str = "",
    limits: tuple[float, float] | None = None,
) -> Drawing:
    """One row for each estimate: a dot, its interval, the number beside it.

    Args:
        key: The drawing's key.
        title: What it shows.
        named: Name and estimate of each row, top to bottom.
        measure: The axis' words.
        zero: The estimates are differences: a line at zero, numbers with their sign.
        mark: The row drawn in the accent colour; of differences, those beyond zero are.
        limits: The axis, where several drawings share it.
    """
    rows = [(name, *estimate(found)) for name, found in named]
    with canvas(key, height=58 + ROW * len(rows)) as sheet:
        axes = sheet.axes
        _rows(axes, [name for name, *_ in rows], letters=34 if len(rows) > 8 else 30)
        for place, (name, value, low, high) in enumerate(rows):
            if value is None:
                continue
            beyond = low is not None and high is not None and (low > 0 or high < 0)
            colour = ACCENT if name == mark or (zero and beyond) else MUTED
            if low is not None and high is not None:
                axes.plot([low, high], [place, place], color=colour, linewidth=2)
            axes.plot([value], [place], "o", color=colour, markersize=7)
            said = signed(value) if zero else number(value)
            axes.text(1.03, place, said, transform=axes.get_yaxis_transform(), va="center")
        if zero:
            axes.axvline(0, color=INK, linewidth=1)
        _across(axes, measure, limits)
    return sheet.drawing(title, ("name", "value", "low", "high"), rows)


def spread(found: Sequence[Value]) -> tuple[float, float]:
    """Limits that hold all these estimates and zero, with some room."""
    values = [value for each in found for value in estimate(each) if value is not None]
    low, high = min([0.0, *values]), max([0.0, *values])
    room = 0.06 * (high - low) or 0.01
    return low - room, high + room


def plot_bars(
    key: str,
    title: str,
    groups: Sequence[str],
    series: Mapping[str, Sequence[Value]],
    *,
    measure: str,
    top: float | None = None,
    width: int = NARROW,
) -> Drawing:
    """Horizontal bars, grouped by row, one colour for each series, intervals as whiskers."""
    thick = 0.8 / max(1, len(series))
    tall = 64 + (ROW if len(series) < 2 else 13 * len(series) + 12) * len(groups)
    legend = ROW if len(series) > 1 else 0
    rows: list[tuple[object, ...]] = []
    with canvas(key, width=width, height=tall + legend) as sheet:
        axes = sheet.axes
        _rows(axes, groups)
        for place, (name, found) in enumerate(series.items()):
            at = [row + (place - (len(series) - 1) / 2) * thick for row in range(len(groups))]
            values = [estimate(each) for each in found]
            axes.barh(
                at,
                [v or 0 for v, _, _ in values],
                0.88 * thick,
                color=HUES[place % 10],
                label=legend_name(name),
            )
            for y, (value, low, high) in zip(at, values, strict=True):
                if low is not None and high is not None:
                    axes.plot([low, high], [y, y], color=INK, linewidth=1)
                if len(series) < 2:
                    side = axes.get_yaxis_transform()
                    axes.text(1.03, y, number(value), transform=side, va="center")
            rows += [(group, name, *each) for group, each in zip(groups, values, strict=True)]
        _across(axes, measure, (0, top) if top else None)
        if legend:
            sheet.legend(list(series))
    return sheet.drawing(title, ("name", "series", "value", "low", "high"), rows)


def plot_lines(
    key: str,
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    across: str,
    upward: str,
    square: bool = False,
    points: Sequence[tuple[str, float, float]] = (),
) -> Drawing:
    """Curves through points, one colour each; single points are marked and named.

    Args:
        key: The drawing's key.
        title: What it shows.
        series: Name to (x, y) of each point, in order.
        across: Words of the horizontal axis.
        upward: Words of the vertical axis.
        square: Both axes from 0 to 1 with the diagonal, as for calibration.
        points: Name, x and y of what is marked.
    """
    rows = [(name, x, y) for name, found in series.items() for x, y in found]
    many = len(series) > 1 or bool(points)
    with canvas(key, height=300 + 18 * (len(series) + len(points)) // 2) as sheet:
        axes = sheet.axes
        if square:
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
            axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
        for place, (name, found) in enumerate(series.items()):
            style = "-o" if len(found) <= 30 else "-"
            axes.plot(
                [x for x, _ in found],
                [y for _, y in found],
                style,
                color=HUES[place % 10],
                markersize=4.5,
                linewidth=1.8,
                label=legend_name(name),
            )
        for name, x, y in points:
            axes.plot([x], [y], "D", color=INK, markersize=7, label=name)
        axes.set(xlabel=across, ylabel=upward)
        axes.grid()
        if many:
            sheet.legend([*series, *(name for name, _, _ in points)])
    rows += [(name, x, y) for name, x, y in points]
    return sheet.drawing(title, ("series", across, upward), rows)


def _rows(axes: Axes, names: Sequence[str], letters: int = NAME) -> None:
    axes.set_yticks(range(len(names)), [squeezed(name, letters) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _across(axes: Axes, measure: str, limits: tuple[float, float] | None) -> None:
    axes.set_xlabel(measure)
    axes.grid(axis="x", color=GRID)
    axes.locator_params(axis="x", nbins=5)
    if limits:
        axes.set_xlim(*limits)


def plot_costs(
    key: str,
    title: str,
    named: Sequence[tuple[str, float, float]],
    *,
    width: int = WIDE,
    letters: int = 18,
) -> Drawing:
    """Score against cost on a logarithmic axis; what nothing beats on both is joined and filled.

    Args:
        key: The drawing's key.
        title: What it shows.
        named: Name, milliseconds a pair (> 0) and macro-F1 of each point.
        width: Pixels.
        letters: Of a name.
    """
    across, upward = "encoding time of a pair, ms", "macro-F1"
    costs, scores = [cost for _, cost, _ in named], [value for *_, value in named]
    front = pareto_front(costs, scores)
    with canvas(key, width=width, height=max(300, 90 + 20 * len(named))) as sheet:
        axes = sheet.axes
        axes.step(
            [costs[at] for at in front], [scores[at] for at in front], where="post", color=ACCENT
        )
        for at, (cost, value) in enumerate(zip(costs, scores, strict=True)):
            face = ACCENT if at in front else "none"
            axes.plot([cost], [value], "o", markersize=8, mec=ACCENT, mfc=face, mew=1.6)
        axes.set_xscale("log")
        axes.set_xlim(min(costs) / 1.8, max(costs) * 1.8)
        room = 0.1 * (max(scores) - min(scores)) or 0.05
        axes.set_ylim(min(scores) - room, max(scores) + room)
        _plain_log_axis(axes)
        _names_at_the_side(axes, named, letters)
        axes.set(xlabel=across, ylabel=upward)
        axes.grid()
    rows = [(*each, at in front) for at, each in enumerate(named)]
    return sheet.drawing(title, ("name", across, upward, "not beaten"), rows)


def _plain_log_axis(axes: Axes) -> None:
    """Ticks as 0.5, 5, 50, not as powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high / low < 300 else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _names_at_the_side(axes: Axes, named: Sequence[tuple[str, float, float]], letters: int) -> None:
    """Names in a column at the right, in the order of their points, a thin line to each."""
    bottom, top = axes.get_ylim()
    ordered = sorted(named, key=lambda each: (each[2], each[1]))
    gap = min(1 / max(1, len(ordered) - 1), 0.09)
    heights = [(value - bottom) / (top - bottom) for *_, value in ordered]
    for place in range(1, len(heights)):
        heights[place] = max(heights[place], heights[place - 1] + gap)
    heights[-1] = min(heights[-1], 1.0)
    for place in range(len(heights) - 2, -1, -1):
        heights[place] = min(heights[place], heights[place + 1] - gap)
    for (name, cost, value), height in zip(ordered, heights, strict=True):
        axes.annotate(
            squeezed(name, letters),
            (cost, value),
            (1.04, height),
            textcoords="axes fraction",
            va="center",
            fontsize=11.5,
            arrowprops={"arrowstyle": "-", "color": GRID, "linewidth": 1, "shrinkB": 5},
        )

"""Canvas: one way to draw a figure, which is then inlined into a page or saved as a PNG.

All figures share one style; the same figure gives the same bytes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairfuse.files import write_bytes
from pairfuse.report.markup import Markup, squeezed, text
from pairfuse.report.svg import GRID, INK, MUTED, PAPER, inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Pixels of a drawing that fills half of a wide page, and of one that fills a third.
WIDE, NARROW = 400, 300
#: Units of a drawing in an inch, so that one is a pixel of the page; a PNG has two for each.
_UNITS, _PNG_DPI = 72, 144
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 11.5,
    "axes.titlesize": 12,
    "axes.labelsize": 11.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "axes.formatter.useoffset": False,
    "figure.facecolor": "none",
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.color": GRID,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 11.5,
    "ytick.labelsize": 11.5,
    "legend.fontsize": 11.5,
    "legend.frameon": False,
    "path.simplify": True,
}


@dataclass(frozen=True)
class Drawing:
    """One figure with its numbers; `key` is unique on a page."""

    key: str
    title: str
    figure: Figure
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]

    @cached_property
    def svg(self) -> Markup:
        """The figure for a page, which has the title beside it."""
        width, height = self.figure.get_size_inches() * _UNITS
        buffer = io.BytesIO()
        with _style(self.key):
            engine = self.figure.get_layout_engine()
            assert engine is not None
            engine.execute(self.figure)
            self.figure.set_layout_engine(None)  # else saving would lay everything out once more
            self.figure.savefig(buffer, format="svg", metadata={"Date": None})
        svg = inline_svg(buffer.getvalue(), self.key, width, height)
        return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{text(self.title)}" ', 1))


class Canvas:
    """Empty axes, in one or several panels; `drawing` makes them a figure with its numbers."""

    def __init__(self, key: str, figure: Figure, panels: Sequence[Axes]) -> None:
        self.key = key
        self.figure = figure
        self.panels = panels

    @property
    def axes(self) -> Axes:
        """The first panel."""
        return self.panels[0]

    def legend(self, names: Sequence[str]) -> None:
        """Name the colours above the axes, in as many columns as these names leave room for."""
        room = self.figure.get_figwidth() * _UNITS - 10
        needs = [6.6 * len(name) + 36 for name in names]
        columns = len(names) if sum(needs) <= room else max(1, int(room // max(needs)))
        self.figure.legend(
            loc="outside upper left", ncols=columns, handlelength=1.2, columnspacing=1.2
        )

    def drawing(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> Drawing:
        """The figure with its title and its numbers."""
        return Drawing(
            key=self.key,
            title=title,
            figure=self.figure,
            columns=tuple(columns),
            rows=tuple(tuple(row) for row in rows),
        )


def legend_name(name: str) -> str:
    """A name as a legend shows it; matplotlib leaves out those that begin with an underscore."""
    cut = squeezed(name, 24)
    return f"\u2009{cut}" if cut.startswith("_") else cut


@contextmanager
def canvas(
    key: str, width: int = WIDE, height: int = 250, *, panels: tuple[int, int] = (1, 1)
) -> Iterator[Canvas]:
    """Open a figure of this many pixels, with rows and columns of panels."""
    from matplotlib.figure import Figure

    with _style(key):
        figure = Figure(figsize=(width / _UNITS, height / _UNITS), layout="constrained")
        yield Canvas(key, figure, list(figure.subplots(*panels, squeeze=False).flat))


def save_png(drawing: Drawing, path: Path) -> None:
    """Write a drawing with its title, whole."""
    buffer = io.BytesIO()
    with _style(drawing.key):
        drawing.figure.suptitle(drawing.title)
        drawing.figure.savefig(
            buffer, format="png", dpi=_PNG_DPI, facecolor=PAPER, metadata={"Software": None}
        )
    write_bytes(path, buffer.getvalue())


@contextmanager
def _style(key: str) -> Iterator[None]:
    import matplotlib

    style: Any = {**_STYLE, "svg.hashsalt": key}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # The page's font draws what the measuring font lacks; a PNG has boxes there.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        yield

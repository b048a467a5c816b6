"""Canvas: one matplotlib figure becomes one inline SVG that takes its colours from the page.

The rules: a unit of the drawing is one CSS pixel; text stays text, in the page's font; colours are
the page's variables, so that light and dark both read well; every id begins with the drawing's
key, so that no two drawings of a page disturb each other; the same figure gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from pairfuse.report.markup import NOTHING, Markup, squeezed, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours that drawings use, and the page's variable that each becomes.
INK, MUTED, GRID, PAPER = "#1b1f24", "#5b6470", "#dde1e6", "#ffffff"
HUES = (
    *("#2f6493", "#a55818", "#1f7566", "#84539e", "#7d6d12"),
    *("#b04a6a", "#4a7d34", "#5a66c4", "#96604a", "#2a7d97"),
)
ACCENT = HUES[0]
#: Pixels of a drawing that fills half of a wide page, and of one that fills a third.
WIDE, NARROW = 400, 300
#: How much larger than drawn a drawing is shown where there is room; a phone shows it smaller.
LARGER = 1.1
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    hue: f"c{place}" for place, hue in enumerate(HUES)
}
_COLOUR = re.compile("|".join(VARIABLES))
_FONT = re.compile(r"font: (?:[^;]*?)(bold )?([\d.]+)px[^;]*")
_DECIMALS = re.compile(r"(\d+\.\d{2})\d+")
_KEPT = ("style", "d", "transform", "x", "y", "width", "height", "viewBox", "clip-path", "href")
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
    svg: Markup
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


class Canvas:
    """An empty pair of axes; `svg` is there once the `with` block has ended."""

    def __init__(self, figure: Figure, axes: Axes) -> None:
        self.figure = figure
        self.axes = axes
        self.svg = NOTHING

    def legend(self, names: Sequence[str]) -> None:
        """Name the colours above the axes, in as many columns as these names leave room for."""
        room = self.figure.get_figwidth() * 72 - 10
        needs = [6.6 * len(name) + 36 for name in names]
        columns = len(names) if sum(needs) <= room else max(1, int(room // max(needs)))
        self.figure.legend(
            loc="outside upper left", ncols=columns, handlelength=1.2, columnspacing=1.2
        )

    def drawing(
        self, key: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> Drawing:
        """The picture with its numbers."""
        svg = Markup(self.svg.replace("<svg ", f'<svg role="img" aria-label="{text(title)}" ', 1))
        return Drawing(key, title, svg, tuple(columns), tuple(tuple(row) for row in rows))


def legend_name(name: str) -> str:
    """A name as a legend shows it; matplotlib leaves out those that begin with an underscore."""
    cut = squeezed(name, 24)
    return f"\u2009{cut}" if cut.startswith("_") else cut


@contextmanager
def canvas(key: str, width: int = WIDE, height: int = 250) -> Iterator[Canvas]:
    """Open axes of this many pixels; leaving the block renders them."""
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {**_STYLE, "svg.hashsalt": key}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        sheet = Canvas(figure, figure.subplots())
        yield sheet
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            # The page's font draws what the measuring font lacks.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            warnings.filterwarnings("ignore", message="constrained_layout not applied")
            engine = figure.get_layout_engine()
            assert engine is not None
            engine.execute(figure)
            figure.set_layout_engine(None)  # saving would draw everything once more to lay it out
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        sheet.svg = _inline(buffer.getvalue(), key, width, height)


def _inline(drawn: bytes, key: str, width: int, height: int) -> Markup:
    """What matplotlib wrote, without what a page does not need."""
    root = ElementTree.fromstring(drawn)  # our own bytes: no entity is declared there
    for parent in root.iter():
        for child in list(parent):
            kind = child.tag.rpartition("}")[2] if isinstance(child.tag, str) else ""
            if kind in ("metadata", "style", ""):
                parent.remove(child)
    used = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", drawn.decode()))
    wanted = {one or other for one, other in used}
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        _clean(element, key, wanted)
    _unwrap(root)
    root.attrib = {
        "viewBox": f"0 0 {width} {height}",
        "style": f"width:{width * LARGER:.0f}px",
    }
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _clean(element: ElementTree.Element, key: str, wanted: set[str]) -> None:
    found = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    kept = {name: found[name] for name in _KEPT if name in found}
    if "style" in kept:
        style = _FONT.sub(
            lambda m: f"font-size: {m[2]}px" + "; font-weight: 600" * bool(m[1]), kept["style"]
        )
        style = _COLOUR.sub(lambda m: f"var(--{VARIABLES[m[0]]})", style)
        kept["style"] = style.replace(": ", ":").replace("; ", ";")
    for name in ("d", "x", "y", "transform"):
        if name in kept:
            kept[name] = " ".join(_DECIMALS.sub(r"\1", kept[name]).split())
    if "clip-path" in kept:
        kept["clip-path"] = kept["clip-path"].replace("url(#", f"url(#{key}-")
    if kept.get("href", "").startswith("#"):
        kept["href"] = f"#{key}-{kept['href'][1:]}"
    if found.get("id") in wanted:
        kept["id"] = f"{key}-{found['id']}"
    element.attrib = kept
    if element.tag != "text" and element.text is not None and not element.text.strip():
        element.text = None
    if element.tail is not None and not element.tail.strip():
        element.tail = None


def _unwrap(parent: ElementTree.Element) -> None:
    """Drop groups that say nothing any more."""
    children: list[ElementTree.Element] = []
    for child in list(parent):
        _unwrap(child)
        children += list(child) if child.tag == "g" and not child.attrib else [child]
        parent.remove(child)
    parent.extend(children)

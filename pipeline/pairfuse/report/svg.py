"""SVG: what matplotlib drew becomes one inline SVG that takes its colours from the page.

The rules: a unit of the drawing is one CSS pixel; text stays text, in the page's font; colours are
the page's variables, so that light and dark both read well; every id begins with the drawing's
key, so that no two drawings of a page disturb each other.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from pairfuse.report.markup import Markup

#: Colours that drawings use, and the page's variable that each becomes.
INK, MUTED, GRID, PAPER = "#1b1f24", "#5b6470", "#dde1e6", "#ffffff"
HUES = (
    "#2f6493",
    "#a55818",
    "#1f7566",
    "#84539e",
    "#7d6d12",
    "#b04a6a",
    "#4a7d34",
    "#5a66c4",
    "#96604a",
    "#2a7d97",
)
ACCENT = HUES[0]
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    hue: f"c{place}" for place, hue in enumerate(HUES)
}
#: How much larger than drawn a drawing is shown where there is room; a phone shows it smaller.
LARGER = 1.1
_COLOUR = re.compile("|".join(VARIABLES))
_FONT = re.compile(r"font: (?:[^;]*?)(bold )?([\d.]+)px[^;]*")
_DECIMALS = re.compile(r"(\d+\.\d{2})\d+")
_KEPT = ("style", "d", "transform", "x", "y", "width", "height", "viewBox", "clip-path", "href")


def inline_svg(drawn: bytes, key: str, width: float, height: float) -> Markup:
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
        "viewBox": f"0 0 {width:.0f} {height:.0f}",
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

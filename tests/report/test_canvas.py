from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from pairfuse.report.canvas import Drawing, canvas, save_png
from pairfuse.report.svg import ACCENT, VARIABLES
from toys.reports import HOSTILE


def drawn(key: str = "toy", label: str = "label") -> Drawing:
    with canvas(key) as sheet:
        sheet.axes.plot([0, 1, 2], [1, 3, 2], "o-", color=ACCENT, label=label)
        sheet.axes.set_xlabel(label)
        sheet.legend([label])
    return sheet.drawing(label, ("x",), [(1,)])


def texts(drawing: Drawing) -> list[str]:
    return ["".join(each.itertext()) for each in ElementTree.fromstring(drawing.svg).iter("text")]


def test_text_stays_text() -> None:
    assert "label" in texts(drawn())


def test_a_label_that_looks_like_a_formula_is_drawn_as_it_is() -> None:
    assert "$x$ $\\frac{" in texts(drawn(label="$x$ $\\frac{"))


def test_a_hostile_label_is_escaped() -> None:
    drawing = drawn(label=HOSTILE.replace("\x00", ""))
    assert "<script" not in drawing.svg
    assert "<img" not in drawing.svg


def test_every_colour_is_a_variable_of_the_page() -> None:
    svg = drawn().svg
    assert "var(--c0)" in svg
    assert not [colour for colour in VARIABLES if colour in svg]


def test_ids_of_two_drawings_never_clash() -> None:
    one, other = drawn("one").svg, drawn("two").svg
    found = set(re.findall(r'\bid="([^"]+)"', one))
    assert found
    assert not found & set(re.findall(r'\bid="([^"]+)"', other))


def test_every_reference_inside_a_drawing_is_found() -> None:
    svg = drawn().svg
    wanted = {a or b for a, b in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg)}
    assert wanted
    assert wanted <= set(re.findall(r'\bid="([^"]+)"', svg))


def test_the_same_drawing_has_the_same_bytes() -> None:
    assert drawn().svg == drawn().svg


def test_a_drawing_is_saved_as_a_picture_too(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        save_png(drawn(label="$x$ \u60c5\u611f"), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.size == (2 * 400, 2 * 250)


def test_a_script_that_the_measuring_font_lacks_is_drawn() -> None:
    assert "\u60c5\u611f" in texts(drawn(label="\u60c5\u611f"))


def test_drawing_leaves_the_settings_of_others_alone() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    drawn()
    assert dict(mpl.rcParams) == before

"""The page in a real browser: nothing runs, nothing is fetched, nothing overlaps or runs over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pairfuse.report.page import write_report
from toys.data import picture, saved
from toys.reports import HOSTILE, made_up

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
WIDTHS = (1280, 390)
#: Rectangles of the texts of each drawing, as they are on the screen.
TEXTS = """() => [...document.querySelectorAll("figure")].map(figure => ({
  id: figure.id,
  frame: figure.querySelector("svg").getBoundingClientRect().toJSON(),
  texts: [...figure.querySelectorAll("svg text")].map(text => (
    {words: text.textContent, ...text.getBoundingClientRect().toJSON()}))}))"""
#: Colour of each kind of text and of what is behind it, as numbers 0 to 255.
COLOURS = """kinds => kinds.flatMap(kind => [...document.querySelectorAll(kind)].slice(0, 40))
  .filter(element => element.textContent.trim() && element.getClientRects().length)
  .map(element => {
    const rgba = said => (said.match(/[\\d.]+/g) || []).map(Number);
    const style = getComputedStyle(element);
    const ink = element.closest("svg") ? style.fill : style.color;
    let ground = element, behind = [];
    while (ground && !((behind = rgba(getComputedStyle(ground).backgroundColor))[3] !== 0
      && behind.length)) ground = ground.parentElement;
    return {words: element.textContent.trim().slice(0, 30), ink: rgba(ink), behind};
  })"""


class Visit:
    """One page in a tab, with all that it tried to do."""

    def __init__(self, browser: Any, place: Path, **options: Any) -> None:
        self.trouble: list[str] = []
        self.asked: list[str] = []
        self.tab = browser.new_page(**options)
        self.tab.on("console", lambda said: self.trouble.append(said.text))
        self.tab.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.tab.on("dialog", lambda dialog: (self.trouble.append("dialog"), dialog.dismiss()))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(place.as_uri())
        self.tab.wait_for_function("[...document.images].every(image => image.complete)")

    def measured(self, script: str, given: object = None) -> Any:
        return self.tab.evaluate(script, given)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as tools:
        opened = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page as it usually is, one of many labels, one whose every word is hostile."""
    root = tmp_path_factory.mktemp("pages")
    good, broken = root / "good.jpg", root / "broken.jpg"
    good.write_bytes(saved(picture(1, (300, 200)), "JPEG"))
    broken.write_bytes(good.read_bytes()[:400])
    usual = made_up(400, pictures=[good, broken, None], texts=["a text", None])
    labels = (HOSTILE, "$x$ & more", "</title></style>")
    cases = {
        "usual": usual,
        "many": made_up(200, labels=[f"a rather long topic {n}" for n in range(30)]),
        "hostile": replace(
            made_up(80, labels=labels, texts=[HOSTILE]),
            title=HOSTILE,
            data_check=HOSTILE,
            provenance={HOSTILE: HOSTILE},
        ),
    }
    for name, given in cases.items():
        write_report(given, root / f"{name}.html")
    return {name: root / f"{name}.html" for name in cases}


@pytest.fixture(
    scope="module", params=[(n, w) for n in ("usual", "many", "hostile") for w in WIDTHS], ids=str
)
def visit(request: pytest.FixtureRequest, browser: Any, pages: dict[str, Path]) -> Iterator[Visit]:
    name, width = request.param
    found = Visit(browser, pages[name], viewport={"width": width, "height": 900})
    yield found
    found.tab.close()


def test_the_browser_has_nothing_to_complain_about(visit: Visit) -> None:
    assert visit.trouble == []


def test_no_request_leaves_the_page(visit: Visit) -> None:
    assert len([url for url in visit.asked if not url.startswith("data:")]) == 1
    assert visit.asked[0].startswith("file:")


def test_no_word_of_the_data_runs(visit: Visit) -> None:
    assert visit.measured("typeof window.hacked") == "undefined"


def test_the_page_is_not_wider_than_the_screen(visit: Visit) -> None:
    wide = visit.measured("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1]


def test_every_picture_is_there(visit: Visit) -> None:
    assert visit.measured("[...document.images].every(image => image.naturalWidth > 0)")


def test_no_two_texts_of_a_drawing_overlap(visit: Visit) -> None:
    for drawing in visit.measured(TEXTS):
        texts = drawing["texts"]
        assert texts
        pairs = ((a, b) for at, a in enumerate(texts) for b in texts[at + 1 :])
        clashes = [(drawing["id"], a["words"], b["words"]) for a, b in pairs if overlap(a, b)]
        assert clashes == []


def test_no_text_is_cut_by_the_edge_of_its_drawing(visit: Visit) -> None:
    for drawing in visit.measured(TEXTS):
        frame = drawing["frame"]
        over = [
            (drawing["id"], text["words"])
            for text in drawing["texts"]
            if text["left"] < frame["left"] - 2 or text["right"] > frame["right"] + 2
        ]
        assert over == []


def test_texts_that_overlap_are_found_and_neighbours_are_not() -> None:
    def box(left: float) -> dict[str, float]:
        return {"left": left, "right": left + 40, "top": 0, "bottom": 10, "width": 40, "height": 10}

    assert overlap(box(0), box(20))
    assert not overlap(box(0), box(39))
    assert not overlap(box(0), box(50))


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether more than a sliver of the smaller rectangle lies under the other."""
    across = min(one["right"], other["right"]) - max(one["left"], other["left"])
    down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
    least = min(each["width"] * each["height"] for each in (one, other))
    return across > 0 and down > 0 and across * down > 0.15 * least


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Any, pages: dict[str, Path], scheme: str) -> None:
    visit = Visit(browser, pages["usual"], color_scheme=scheme)
    kinds = [
        *("h1", "p", "td", "th", "dt", "dd b", "summary", "nav a", "figcaption", "pre"),
        *("svg text", ".card p", ".card li", ".card li b", ".none", "footer", "small"),
    ]
    found = visit.measured(COLOURS, kinds)
    visit.tab.close()
    assert len(found) > 100
    assert [each for each in found if contrast(each["ink"], each["behind"]) < 4.5] == []


def contrast(one: list[float], other: list[float]) -> float:
    """Ratio of luminances (WCAG 2.2, 1.4.3)."""
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def luminance(colour: list[float]) -> float:
    parts = [value / 255 for value in colour[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_contrast_of_black_on_white_is_that_of_the_standard() -> None:
    assert contrast([0, 0, 0], [255, 255, 255]) == pytest.approx(21)


def test_dark_is_dark(browser: Any, pages: dict[str, Path]) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        visit = Visit(browser, pages["usual"], color_scheme=scheme)
        said = visit.measured("getComputedStyle(document.body).backgroundColor")
        grounds.append(luminance(json.loads(f"[{said[4:-1]}]")))
        visit.tab.close()
    assert grounds[0] > 0.9
    assert grounds[1] < 0.1


def test_it_prints_in_light_colours_whatever_the_screen(
    browser: Any, pages: dict[str, Path]
) -> None:
    visit = Visit(browser, pages["usual"], color_scheme="dark")
    visit.tab.emulate_media(media="print", color_scheme="dark")
    said = visit.measured("getComputedStyle(document.body).color")
    assert luminance(json.loads(f"[{said[4:-1]}]")) < 0.1
    assert len(visit.tab.pdf()) > 10_000
    visit.tab.close()


def test_the_numbers_of_a_figure_can_be_saved(browser: Any, pages: dict[str, Path]) -> None:
    visit = Visit(browser, pages["usual"])
    visit.tab.click("#arms-macro-f1 summary")
    with visit.tab.expect_download() as waiting:
        visit.tab.click("#arms-macro-f1 a[download]")
    file = waiting.value
    assert file.suggested_filename == "arms-macro-f1.csv"
    assert Path(file.path()).read_text("utf-8").startswith("name,value,low,high\nfused,")
    visit.tab.close()


def test_the_page_of_a_usual_set_is_small(pages: dict[str, Path]) -> None:
    assert pages["usual"].stat().st_size < 2_000_000

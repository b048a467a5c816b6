"""Layout: sections, figures with their numbers, and the frame of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pairfuse.report.canvas import Drawing
from pairfuse.report.markup import NOTHING, Markup, csv_link, fold, join, table, tag, text
from pairfuse.report.style import STYLE

#: Numbers of more rows than this are not shown as a table, only saved as CSV.
MOST_ROWS = 60
#: Nothing may be fetched, run or sent, whatever the data holds.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)


@dataclass(frozen=True)
class Section:
    """One part of the page; `key` is its anchor."""

    key: str
    title: str
    body: Markup


def show(drawings: Iterable[Drawing], kind: str = "") -> Markup:
    """Figures side by side as far as there is room: three of them, or "two" that are wider."""
    figures = [_figure(drawing) for drawing in drawings]
    return tag("div", *figures, class_=f"figures {kind}".strip()) if figures else NOTHING


def _figure(drawing: Drawing) -> Markup:
    plot = tag("div", drawing.svg, class_="plot")
    caption = tag("figcaption", text(drawing.title))
    return tag("figure", caption, plot, _numbers(drawing), id=drawing.key)


def _numbers(drawing: Drawing) -> Markup:
    save = tag("p", csv_link(drawing.key, drawing.columns, drawing.rows))
    if len(drawing.rows) <= MOST_ROWS:
        inside = fold("numbers", save, table(drawing.columns, drawing.rows))
    else:
        inside = fold(f"numbers ({len(drawing.rows):,} rows)", save)
    return tag("div", inside, class_="numbers")


def frame(title: str, verdict: Markup, sections: Sequence[Section], footer: Markup) -> str:
    """The whole page."""
    links = (tag("li", tag("a", text(s.title), href=f"#{s.key}")) for s in sections)
    contents = tag("nav", tag("ul", *links), aria_label="Contents")
    body = tag(
        "div",
        tag("header", verdict, contents),
        tag("main", *(_section(section) for section in sections)),
        tag("footer", footer),
        class_="page",
    )
    head = join(
        [
            Markup('<meta charset="utf-8">'),
            tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="referrer", content="no-referrer"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", text(title)),
            Markup(f"<style>{STYLE}</style>"),
        ]
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _section(section: Section) -> Markup:
    return Markup(
        f"\n{tag('section', tag('h2', text(section.title)), section.body, id=section.key)}"
    )

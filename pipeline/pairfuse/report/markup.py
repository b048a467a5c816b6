"""Markup: HTML from plain values; every word that comes from data passes through `text`.

`Markup` is a string that is safe to put into the page. Only this module and those of
the SVG, the canvas and the layout make one from a bare string, so the type checker finds a value
that was put in unescaped.
"""

from __future__ import annotations

import csv
import html
import io
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, NewType
from urllib.parse import quote

from pairfuse.stats.bootstrap import Estimate

Markup = NewType("Markup", str)
#: What has or may have an interval.
Value = Estimate | float | None
NOTHING = Markup("")
DASH = "\u2013"

#: Characters that XML forbids, lone surrogates among them.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: `0.703 (0.690 to 0.716)`, as `interval` writes it.
_ESTIMATE = re.compile(r"([+\u2212]?[\d.]+) \((\S+ to \S+)\)")
_NUMERIC = re.compile(r"[+\u2212<]?[\d.][\d.,]*( %)?|\u2013")


def plain(value: object) -> str:
    """The value as text, without characters that no page may hold."""
    return _FORBIDDEN.sub("\ufffd", str(value))


def short(value: object, length: int) -> str:
    """The text on one line, cut at this many characters."""
    line = " ".join(plain(value).split())
    return line if len(line) <= length else line[: length - 1] + "\u2026"


def squeezed(value: object, length: int) -> str:
    """The text on one line, cut in the middle: names often differ at their ends."""
    line = " ".join(plain(value).split())
    head = (length - 1) // 2
    return line if len(line) <= length else f"{line[:head]}\u2026{line[head + 1 - length :]}"


def text(value: object) -> Markup:
    """Escape a value."""
    return Markup(html.escape(plain(value)))


def join(parts: Iterable[Markup]) -> Markup:
    """Put parts behind each other."""
    return Markup("".join(parts))


def tag(element: str, /, *inside: Markup, **attributes: str) -> Markup:
    """One element; a trailing underscore of an attribute's name is dropped (`class_`)."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"' for key, value in attributes.items()
    )
    body = "" if element in ("img", "meta") else f"{join(inside)}</{element}>"
    return Markup(f"<{element}{said}>{body}")


def words(*lines: str, **attributes: str) -> Markup:
    """One paragraph for each line that is not empty; what stands in backticks is code."""
    return join(tag("p", *_prose(line), **attributes) for line in lines if line)


def _prose(line: str) -> list[Markup]:
    parts = line.replace(" %", "\u00a0%").split("`")  # no line ends between 95 and %
    if len(parts) % 2 == 0:
        return [text(line)]
    return [tag("code", text(part)) if at % 2 else text(part) for at, part in enumerate(parts)]


def name_of(value: object) -> Markup:
    """A name that comes from data: its writing direction cannot reach the words around it."""
    return tag("bdi", text(value))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, first: str = "") -> Markup:
    """A table in a box that scrolls; the row named `first` is marked."""
    head = tag("tr", *(tag("th", text(name), scope="col") for name in columns))
    body = (
        tag("tr", *(_cell(value, place == 0) for place, value in enumerate(row)), class_=kind)
        for row in rows
        for kind in ("first" if first and row and row[0] == first else "",)
    )
    inside = tag("table", tag("thead", head), tag("tbody", *body))
    return tag("div", inside, class_="scroll", tabindex="0")


def _cell(value: object, leads: bool) -> Markup:
    said = value if isinstance(value, str) else number(value)
    if leads:
        return tag("th", name_of(said), scope="row")
    if both := _ESTIMATE.fullmatch(said):
        return tag("td", text(both[1]), tag("small", text(both[2])), class_="n")
    if _NUMERIC.fullmatch(said):
        return tag("td", text(said), class_="n")
    return tag("td", name_of(said), class_="long" if len(said) > 20 else "short")


def facts(pairs: Iterable[tuple[str, str, str]]) -> Markup:
    """Large numbers side by side: what it is, the number, what else to know."""
    return tag(
        "dl",
        *(
            tag(
                "div",
                tag("dt", text(name)),
                tag("dd", tag("b", name_of(value)), tag("small", text(rest))),
            )
            for name, value, rest in pairs
        ),
        class_="facts",
    )


def fold(summary: str, *inside: Markup, is_open: bool = False) -> Markup:
    """Something that opens on a click, without a script."""
    state = {"open": ""} if is_open else {}
    return tag("details", tag("summary", text(summary)), *inside, **state)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV, floats with six digits."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_digits(value) for value in row] for row in rows)
    return buffer.getvalue()


def csv_link(name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    """A link that saves the rows as a file; it needs neither a network nor a script."""
    data = quote(plain(csv_text(columns, rows)), safe=",:;.-_ /()").replace(" ", "%20")
    return tag("a", text("CSV"), href=f"data:text/csv;charset=utf-8,{data}", download=f"{name}.csv")


def _digits(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else plain(value)


def number(value: object, digits: int = 3) -> str:
    """A number as people write it; a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return DASH
    if isinstance(value, float):
        return f"{value:.{digits}f}".replace("-", "\u2212")
    return f"{value:,}" if isinstance(value, int) else plain(value)


def signed(value: object, digits: int = 3) -> str:
    """A difference: with its sign, whichever it is."""
    said = number(value, digits)
    return said if said == DASH or said.startswith("\u2212") else f"+{said}"


def percent(value: object, digits: int = 0) -> str:
    """A share as a percentage."""
    said = number(float(value) * 100, digits) if isinstance(value, int | float) else DASH
    return said if said == DASH else f"{said} %"


def p_value(value: object) -> str:
    """A p-value; small ones are only said to be small."""
    return "<0.001" if isinstance(value, float) and value < 0.001 else number(value)


def estimate(found: Value) -> tuple[float | None, float | None, float | None]:
    """Value and interval of an estimate, or of a bare number; None for what is no number."""
    if isinstance(found, Estimate):
        return _known(found.value), _known(found.low), _known(found.high)
    return _known(found), None, None


def interval(found: Value, *, sign: bool = False) -> str:
    """`0.703 (0.690 to 0.716)`."""
    value, low, high = estimate(found)
    write: Any = signed if sign else number
    return str(write(value)) if low is None else f"{write(value)} ({write(low)} to {write(high)})"


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

"""Costs: the sections on what the image costs, and on paying for it only where it pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pairfuse.report.canvas import WIDE, Drawing
from pairfuse.report.figures import plot_bars, plot_costs, plot_lines
from pairfuse.report.inputs import FUSED, ReportInput
from pairfuse.report.layout import Section, show
from pairfuse.report.markup import (
    Markup,
    estimate,
    fold,
    interval,
    join,
    number,
    percent,
    table,
    tag,
    text,
    words,
)

COLUMNS = {
    "encode_ms": ("ms a pair", 2),
    "parameters": ("head parameters", 0),
    "encoder_parameters": ("encoder parameters", 0),
    "gflops": ("GFLOP a pair", 2),
    "peak_mib": ("peak MiB", 0),
    "train_seconds": ("training s", 1),
    "cache_mib": ("cache MiB", 1),
}


def cost(found: ReportInput) -> Section | None:
    """Score against cost."""
    every = found.evidence.get("cost") or ()
    if not every:
        return None
    scores = {arm["name"]: arm["scores"]["macro_f1"] for arm in found.evidence.get("arms") or ()}
    named = [
        (each["name"], float(each["encode_ms"]), value)
        for each in every
        if each.get("encode_ms") and (value := estimate(scores.get(each["name"]))[0]) is not None
    ]
    parts = []
    if named:
        plot = plot_costs(
            *("cost-plot", "Score against encoder time"),
            named,
            across="encoder time, ms a pair",
            upward="macro-F1",
        )
        parts = [
            words("Joined and filled: arms that no other beats on both score and time."),
            show([plot], "two"),
        ]
    devices = sorted({str(each["device"]) for each in every if each.get("device")})
    notes = sorted({str(each["note"]) for each in every if each.get("note")})
    rows = [[each["name"], interval(scores.get(each["name"])), *_amounts(each)] for each in every]
    columns = ("arm", "macro-F1", *(name for name, _ in COLUMNS.values()))
    parts += [
        table(columns, rows, first=FUSED),
        words(f"Measured on: {', '.join(devices)}." if devices else "", *notes),
    ]
    return Section("cost", "Cost", join(parts))


def _amounts(each: Mapping[str, Any]) -> list[str]:
    return [
        number(round(value) if digits == 0 else float(value), digits)
        if (value := each.get(key)) is not None
        else number(None)
        for key, (_, digits) in COLUMNS.items()
    ]


def cascade(found: ReportInput) -> Section | None:
    """Text first, the image only where the text is unsure."""
    given = found.evidence.get("cascade")
    if not given:
        return None
    threshold = float(given["threshold"])
    rule = f"Text first; the image only where the text's confidence is below {threshold:.3f}."
    if threshold > 1:
        rule = "No threshold keeps the score: every image is needed."
    line = (
        f"{rule} Chosen on other folds: {percent(given.get('saved'))} of image encodes saved, "
        f"macro-F1 {interval(given.get('cascade'))} against {interval(given.get('fused'))} with "
        "every image."
    )
    curve = [(float(c["saved"]), float(c["macro_f1"])) for c in given.get("curve") or ()]
    kept, saved = estimate(given.get("cascade"))[0], given.get("saved")
    chosen = [("chosen", float(saved), kept)] if saved is not None and kept is not None else []
    plots = [
        plot_lines(
            *("cascade-plot", "Score kept against image encodes saved", {"cascade": sorted(curve)}),
            across="share of image encodes saved",
            upward="macro-F1",
            points=chosen,
        )
    ] * bool(curve)
    return Section("cascade", "Cascade", join([words(line), show(plots, "two")]))


def speed(found: ReportInput) -> Section | None:
    """What the benchmarks measured, where there are any."""
    if not found.bench:
        return None
    parts: list[Markup] = []
    for place, (name, given) in enumerate(found.bench.items()):
        parts.append(tag("h3", text(name.removesuffix(".json"))))
        parts += _measured(f"speed-{place}", given)
    return Section("speed", "Speed", join(parts))


def _measured(key: str, given: Any) -> list[Markup]:
    """JSON of any shape: lists of rows become tables, single values one table of two columns."""
    if isinstance(given, Mapping):
        single = [(k, v) for k, v in given.items() if not isinstance(v, Mapping | list)]
        out = (
            [table(("measure", "value"), [[str(k), _said(v)] for k, v in single])] if single else []
        )
        for name, value in given.items():
            if isinstance(value, Mapping | list) and value:
                out += [
                    tag("h3", text(str(name).replace("_", " "))),
                    *_measured(f"{key}-{len(out)}", value),
                ]
        return out
    rows = [row for row in given if isinstance(row, Mapping)] if isinstance(given, list) else []
    if not rows:
        return [words(str(given))]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    shown = table(
        [str(name).replace("_", " ") for name in columns],
        [[_said(row.get(name)) for name in columns] for row in rows],
    )
    compared = _compared(key, rows)
    return [show([compared], "two"), fold("all numbers", shown)] if compared else [shown]


def _compared(key: str, rows: Sequence[Mapping[str, Any]]) -> Drawing | None:
    """Ours beside the usual way, where the rows hold both."""
    ours, usual = "ours_per_second", "reference_per_second"
    both = [row for row in rows if row.get(ours) and row.get(usual) and row.get("encoder")]
    if not both:
        return None
    series = {"here": [row[ours] for row in both], "the usual way": [row[usual] for row in both]}
    names = [str(row["encoder"]) for row in both]
    title = "Pairs encoded in a second"
    return plot_bars(f"{key}-plot", title, names, series, measure="pairs/s", width=WIDE)


def _said(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else number(value, 0)

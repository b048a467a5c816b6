"""Costs: the sections on what the image costs, and on paying for it only where it pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pairfuse.report.canvas import WIDE, Drawing
from pairfuse.report.figures import plot_bars, plot_costs, plot_lines
from pairfuse.report.inputs import ReportInput
from pairfuse.report.layout import Section, show
from pairfuse.report.markup import (
    Markup,
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
from pairfuse.study.ablation import FUSED
from pairfuse.study.cost import ROUNDS, ArmCost

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
    every = found.evidence.cost
    if not every:
        return None
    scores = {arm.name: arm.scores.macro_f1 for arm in found.evidence.arms}
    named = [
        (each.name, each.encode_ms, scores[each.name].value)
        for each in every
        if each.encode_ms and each.name in scores
    ]
    parts = []
    if named:
        said = "Filled and joined: models that no other beats on both macro-F1 and encoding time."
        plot = plot_costs("cost-plot", "Macro-F1 against encoding time", named)
        parts = [words(said), show([plot], "two")]
    devices = sorted({each.device for each in every})
    notes = sorted({each.note for each in every if each.note})
    rows = [[each.name, interval(scores.get(each.name)), *_amounts(each)] for each in every]
    columns = ("model", "macro-F1", *(name for name, _ in COLUMNS.values()))
    parts += [
        table(columns, rows, first=FUSED),
        words(f"Measured on: {', '.join(devices)}{_when(every)}.", *notes),
    ]
    return Section("cost", "Cost", join(parts))


def _when(costs: Sequence[ArmCost]) -> str:
    """When and how encoding was timed, and whether other work disturbed it."""
    days = sorted({each.measured[:10] for each in costs if each.measured})
    if not days:
        return ""
    load = max(each.load for each in costs)
    busy = "; the machine was busy, so times may be too long" if load > 1 else ""
    span = " to ".join(dict.fromkeys([days[0], days[-1]]))
    return f"; {span}, the fastest of {ROUNDS} rounds, load {load:.1f} on each core{busy}"


def _amounts(cost: ArmCost) -> list[str]:
    return [_amount(getattr(cost, key), digits) for key, (_, digits) in COLUMNS.items()]


def _amount(value: float | None, digits: int) -> str:
    if value is None:
        return number(None)
    return number(round(value) if digits == 0 else float(value), digits)


def cascade(found: ReportInput) -> Section | None:
    """Text first, the image only where the text is unsure."""
    given = found.evidence.cascade
    if given.threshold > 1:
        rule = "No threshold keeps the score: the image of every pair is needed."
    else:
        rule = (
            "`pairfuse predict --cascade` predicts from the text alone where its confidence is at "
            f"least {given.threshold:.3f}, and looks at the image of the other pairs only."
        )
    line = (
        f"{rule} With thresholds chosen on other folds, {percent(given.saved)} of the images need "
        f"no encoding; macro-F1 is {interval(given.macro_f1)}, and "
        f"{interval(given.fused_macro_f1)} with every image."
    )
    plot = plot_lines(
        "cascade-plot",
        "Macro-F1 against images saved",
        {"cascade": sorted((each.saved, each.macro_f1) for each in given.curve)},
        across="share of images not encoded",
        upward="macro-F1",
        points=[("chosen", given.saved, given.macro_f1.value)],
    )
    return Section("cascade", "Cascade", join([words(line), show([plot], "two")]))


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

"""Findings: the sections that show the evidence; each is left out where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from pairfuse.report.canvas import WIDE, Drawing
from pairfuse.report.figures import (
    plot_bars,
    plot_intervals,
    spread,
)
from pairfuse.report.inputs import FUSED, TEXT, ReportInput
from pairfuse.report.layout import Section, show
from pairfuse.report.markup import (
    Markup,
    estimate,
    facts,
    fold,
    interval,
    join,
    number,
    p_value,
    signed,
    table,
    tag,
    text,
    words,
)

HEADLINES = {
    "helps": "The image helps.",
    "does not help": "The image does not help.",
    "cannot be told": "Whether the image helps cannot be told from this many pairs.",
}
SCORES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted F1",
    "auroc": "AUROC",
    "average_precision": "avg. precision",
    "log_loss": "log loss",
    "brier": "Brier",
    "ece": "ECE",
}
MOST_DIFFERENCES = 24  # rows of one plot; the table has them all


def verdict(found: ReportInput) -> Markup:
    """The answer, first and large."""
    said = found.evidence.get("verdict") or {}
    headline = HEADLINES.get(said.get("outcome", ""), said.get("outcome") or "Results")
    return tag(
        "div",
        tag("p", text(found.title), class_="over"),
        tag("h1", text(headline)),
        *_told(str(said.get("words", "")).removeprefix(headline).strip()),
        facts(_headline_facts(found)),
        class_="verdict",
    )


def _told(said: str) -> list[Markup]:
    """The first sentence large, the others below it."""
    first, _, others = said.partition(". ")
    if not others:
        return [words(first)]
    return [words(f"{first}."), tag("p", text(others), class_="rest")]


def _headline_facts(found: ReportInput) -> list[tuple[str, str, str]]:
    out = []
    against = (found.evidence.get("verdict") or {}).get("against") or TEXT
    for name in (FUSED, against):
        if arm := found.arm(name):
            value, low, high = estimate(arm["scores"]["macro_f1"])
            out.append((f"{name}, macro-F1", number(value), f"{number(low)} to {number(high)}"))
    if least := _comparison(found, FUSED, against):
        value, low, high = estimate(least["difference"])
        out.append((f"{FUSED} less {against}", signed(value), f"{signed(low)} to {signed(high)}"))
    if use := (found.evidence.get("verdict") or {}).get("use"):
        rows, groups = (number(found.evidence.get(key)) for key in ("rows", "groups"))
        out.append(("use", str(use), f"judged on {rows} pairs in {groups} groups"))
    return out


def _comparison(found: ReportInput, first: str, second: str) -> Mapping[str, Any] | None:
    every = found.evidence.get("comparisons") or ()
    return next((c for c in every if (c["first"], c["second"]) == (first, second)), None)


def arms(found: ReportInput) -> Section | None:
    """Every arm's scores."""
    every = found.evidence.get("arms") or ()
    if not every:
        return None
    plots = [
        plot_intervals(
            f"arms-{key.replace('_', '-')}",
            f"{title}, 95 % interval",
            [(arm["name"], arm["scores"].get(key)) for arm in every],
            measure=SCORES[key],
            mark=FUSED,
        )
        for key, title in (("macro_f1", "Macro-F1"), ("accuracy", "Accuracy"))
    ]
    shown = {key: name for key, name in SCORES.items() if key in every[0]["scores"]}
    rows = [[arm["name"], *(interval(arm["scores"].get(key)) for key in shown)] for arm in every]
    made = [
        [arm["name"], *(" + ".join(arm.get(key) or ("none",)) for key in ("views", "heads"))]
        for arm in every
    ]
    setting = (found.evidence.get(key) for key in ("folds", "repeats", "resamples"))
    folds, repeats, resamples = (number(value) for value in setting)
    often = "once" if repeats == "1" else f"{repeats} times"
    said = (
        f"Out-of-fold scores: {folds} folds, {often}; no model scores a pair that it, or "
        f"its duplicates, trained on. Intervals: 95 %, {resamples} resamples of duplicate groups."
    )
    parts = [
        words(said),
        show(plots, "two"),
        table(("arm", *shown.values()), rows, first=FUSED),
        fold("what each arm is made of", table(("arm", "views", "heads"), made)),
        *_removal(found, shown),
    ]
    return Section("arms", "Arms", join(parts))


def _removal(found: ReportInput, shown: Mapping[str, str]) -> list[Markup]:
    """What the fused arm is worth without one of its modalities."""
    given = found.evidence.get("removal") or {}
    if len(given) < 2:
        return []
    rows = [[name, *(interval(scores.get(key)) for key in shown)] for name, scores in given.items()]
    said = (
        f"The {FUSED} arm with a modality removed at test time. Nothing is trained: a learnt "
        "stand-in takes its place. What costs nothing is not used; what costs all is leant on."
    )
    return [words(said), table(("removed", *shown.values()), rows, first="nothing")]


def differences(found: ReportInput) -> Section | None:
    """Every two arms on the same pairs."""
    every = found.evidence.get("comparisons") or ()
    if not every:
        return None
    ordered = sorted(every, key=lambda c: FUSED not in (c["first"], c["second"]))
    learnt = {arm["name"] for arm in found.evidence.get("arms") or () if arm.get("views")}
    drawn = [c for c in every if {c["first"], c["second"]} <= learnt]
    with_fused = [(c["second"], c["difference"]) for c in drawn if c["first"] == FUSED]
    others = [(_names(c), c["difference"]) for c in drawn if c["first"] != FUSED]
    cut = others[:MOST_DIFFERENCES]
    more = f" (the first {len(cut)})" if len(cut) < len(others) else ""
    plots = [
        plot_intervals(
            key, title, named, measure="difference of macro-F1, 95 % interval", zero=True
        )
        for key, title, named in (
            ("differences-fused", f"{FUSED} less \u2026", with_fused),
            ("differences-others", f"Other arms{more}", cut),
        )
        if named
    ]
    rows = [
        [
            _names(c),
            interval(c["difference"], sign=True),
            *(p_value(c.get(key)) for key in ("mcnemar", "permutation", "holm")),
            number(c.get("detectable")),
            number(c.get("pairs_needed")),
        ]
        for c in ordered
    ]
    columns = (
        *("arms", "macro-F1 difference", "McNemar", "permutation", "Holm"),
        *("detectable", "pairs needed"),
    )
    said = (
        "On the same pairs, resampled together. Coloured: the interval leaves out zero. "
        "McNemar is exact, on accuracy; the permutation test is on macro-F1; Holm corrects it for "
        "the number of comparisons. Detectable: the least difference that these pairs would show "
        "in 80 of 100 studies; pairs needed: to show the difference that was found. Those to arms "
        "that look at nothing (prior, majority) are in the table only."
    )
    parts = [words(said), show(plots, "two"), table(columns, rows)]
    return Section("differences", "Paired differences", join(parts))


def _names(comparison: Mapping[str, Any]) -> str:
    return f"{comparison['first']} \u2212 {comparison['second']}"


def emap(found: ReportInput) -> Section | None:
    """Interaction or addition."""
    given = found.evidence.get("emap")
    if not given:
        return None
    models = [(FUSED, given["fused"]), ("best additive", given["additive"])]
    plots = [
        plot_intervals(
            "emap-models", "With and without interaction", models, measure="macro-F1", mark=FUSED
        ),
        plot_intervals(
            *("emap-interaction", "What the interaction adds"),
            [("interaction", given["interaction"])],
            measure="macro-F1, difference",
            zero=True,
        ),
    ]
    _, low, high = estimate(given["interaction"])
    certain = low is not None and high is not None and (low > 0 or high < 0)
    said = (
        "EMAP (Hessel and Lee, 2020) is the best approximation of the fused model by one function "
        "of the text plus one of the image. What is lost is what text and image say only together."
    )
    answer = f"Interaction: {interval(given['interaction'], sign=True)} macro-F1, " + (
        "beyond the noise." if certain else "not told from none."
    )
    return Section(
        "emap", "Interaction or addition", join([words(said, answer), show(plots, "two")])
    )


def where(found: ReportInput) -> Section | None:
    """Strata and agreement."""
    strata = found.evidence.get("strata") or ()
    agreement = found.evidence.get("agreement") or {}
    if not strata and not agreement:
        return None
    limits = spread([each["difference"] for each in strata])
    parts_by = groupby(strata, key=lambda each: str(each["by"]))
    plots = [_stratum(at, by, list(rows), limits) for at, (by, rows) in enumerate(parts_by)]
    if agreement:
        plots.append(_agreement(agreement))
    parts = [
        words("Accuracy of fused less text-only within parts of the pairs, on one scale."),
        show(plots, "two"),
    ]
    columns = ("by", "part", "pairs", TEXT, FUSED, "difference", "Holm")
    rows = [
        [
            *(str(each["by"]), str(each["name"]), number(each["rows"])),
            *(number(each.get("text_only")), number(each.get("fused"))),
            *(interval(each["difference"], sign=True), p_value(each.get("holm"))),
        ]
        for each in strata
    ]
    if rows:
        parts.append(table(columns, rows))
    return Section("where", "Where it helps", join(parts))


def _stratum(
    place: int, by: str, rows: list[Mapping[str, Any]], limits: tuple[float, float]
) -> Drawing:
    named = [(f"{each['name']}", each["difference"]) for each in rows]
    return plot_intervals(
        f"strata-{place}",
        f"By {by}",
        named,
        measure="accuracy, difference",
        zero=True,
        limits=limits,
    )


def _agreement(shares: Mapping[str, float]) -> Drawing:
    named = {"both": "both right", "neither": "neither right"}
    rows = [named.get(key, f"{key} right") for key in shares]
    return plot_bars(
        "agreement-plot",
        "Which single modality is right, share of pairs",
        rows,
        {"share": list(shares.values())},
        measure="share of pairs",
        width=WIDE,
    )

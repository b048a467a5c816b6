"""Findings: the answer, and the sections that say which arm does how well, and where."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from pairfuse.report.canvas import WIDE, Drawing
from pairfuse.report.figures import plot_bars, plot_intervals, spread
from pairfuse.report.inputs import ReportInput
from pairfuse.report.layout import Section, show
from pairfuse.report.markup import (
    Markup,
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
from pairfuse.stats.paired import Comparison
from pairfuse.study.ablation import FUSED, MAJORITY, PRIOR, TEXT_ONLY
from pairfuse.study.evidence import ArmResult, Evidence, best_baseline
from pairfuse.study.missing_modality import NOTHING
from pairfuse.study.mixture import shares_in_words
from pairfuse.study.strata import Agreement, Stratum
from pairfuse.study.verdict import find

#: Scores of the tables.
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
#: Names the row of the fused arm's calibrated probabilities.
CALIBRATED = f"{FUSED}, calibrated"
MOST_DIFFERENCES = 24  # rows of one plot; the table has them all
MINUS = "\u2212"
#: Of more kinds of pairs, those that differ most are drawn; the table has all.
MOST_ROWS = 20


def verdict(found: ReportInput) -> Markup:
    """The answer, first and large; its first sentence large too, the others below it."""
    said = found.evidence.verdict
    first, others = said.sentences[:1], said.sentences[1:]
    return tag(
        "div",
        tag("p", text(found.title), class_="over"),
        tag("h1", text(said.headline)),
        words(*first),
        words(" ".join(others), class_="rest"),
        facts(_headline_facts(found.evidence)),
        class_="verdict",
    )


def _headline_facts(evidence: Evidence) -> list[tuple[str, str, str]]:
    best, against = evidence.verdict.best, evidence.verdict.against
    out = []
    for name in (best, against):
        if arm := evidence.arm(name):
            f1 = arm.scores.macro_f1
            out.append((f"macro-F1, {name}", number(f1.value), _bounds(f1.low, f1.high)))
    gap = find(evidence.comparisons, best, against)
    bounds = f"{signed(gap.low)} to {signed(gap.high)}"
    out.append((f"{best} {MINUS} {against}", signed(gap.value), f"95 % interval {bounds}"))
    rows = f"judged on {number(evidence.design.rows)} pairs"
    return [*out, ("use", evidence.verdict.advice, rows)]


def _bounds(low: float, high: float) -> str:
    return f"95 % interval {number(low)} to {number(high)}"


def plot_arms(arms: Sequence[ArmResult], measure: str) -> Drawing:
    """One score of every arm with its interval."""
    name = SCORES[measure]
    return plot_intervals(
        f"arms-{measure.replace('_', '-')}",
        f"{name[0].upper()}{name[1:]} of each model, 95 % interval",
        [(arm.name, getattr(arm.scores, measure)) for arm in arms],
        measure=name,
        mark=FUSED,
    )


def arms(found: ReportInput) -> Section | None:
    """Every arm's scores."""
    every, design = found.evidence.arms, found.evidence.design
    if not every:
        return None
    rows = [row for arm in every for row in _score_rows(found.evidence, arm)]
    made = [
        [
            arm.name,
            " + ".join(arm.views) or "none",
            " + ".join(arm.heads) or "none",
            shares_in_words(arm.shares) or "itself",
        ]
        for arm in every
    ]
    times = "once" if design.repeats == 1 else f"{design.repeats} times"
    models = (
        "fused reads text and image, text-only and image-only one of them; a model named after an "
        "encoder reads what that encoder gives. Each is a mixture of trained heads and baselines, "
        "selected on the other folds. The baselines stand alone too: linear models on TF-IDF and "
        "on the features, nearest neighbours, boosted trees; prior and majority read nothing."
    )
    said = (
        f"Each model is judged by {design.folds}-fold cross-validation, {times}: no pair is scored "
        "by a model that was trained on it or on a duplicate of it. Intervals come from "
        f"{number(design.resamples)} bootstrap resamples, in which duplicates stay together."
    )
    calibrated = (
        "Log loss, Brier and ECE are of probabilities as a model gives them; "
        f"\u201c{CALIBRATED}\u201d has those after temperature scaling, which `pairfuse predict` "
        "applies. It changes no label."
    )
    parts = [
        words(models, said, calibrated),
        *_over_baseline(found.evidence),
        show([plot_arms(every, "macro_f1"), plot_arms(every, "accuracy")], "two"),
        table(("model", *SCORES.values()), rows, first=FUSED),
        fold("what each model is made of", table(("model", "encoders", "heads", "mixture"), made)),
        *_missing_modality(found.evidence),
    ]
    return Section("arms", "Models", join(parts))


def _over_baseline(evidence: Evidence) -> list[Markup]:
    """What the mixture adds to the best of the baselines."""
    best = best_baseline(evidence)
    if best is None:
        return []
    gap = next(c for c in evidence.comparisons if {c.first, c.second} == {FUSED, best.name})
    found = find(evidence.comparisons, FUSED, best.name)
    row = [
        f"{FUSED} {MINUS} {best.name}",
        interval(best.scores.macro_f1),
        interval(found, sign=True),
        p_value(gap.p_holm),
    ]
    heading = ("what the mixture adds", "best baseline, macro-F1", "difference", "Holm-adjusted p")
    return [table(heading, [row])]


def _score_rows(evidence: Evidence, arm: ArmResult) -> list[list[str]]:
    """An arm's scores; below those of the fused arm what scaling its probabilities changes."""
    rows = [[arm.name, *(interval(getattr(arm.scores, key)) for key in SCORES)]]
    if arm.name == FUSED:
        after = evidence.calibration.after
        changed = {"log_loss": number(after.log_loss), "ece": number(after.ece)}
        rows.append([CALIBRATED, *(changed.get(key, "") for key in SCORES)])
    return rows


def _missing_modality(evidence: Evidence) -> list[Markup]:
    """What the fused arm is worth without one of its modalities."""
    given = evidence.missing_modality
    if len(given) < 2:
        return []
    rows = [
        [name, *(interval(getattr(scores, key)) for key in SCORES)]
        for name, scores in given.items()
    ]
    said = (
        f"What the {FUSED} model scores if a modality is missing at test time; nothing is trained "
        "again. Where the score stays, the model makes no use of that modality; where it falls "
        "far, do not trust the model with pairs that lack it."
    )
    return [words(said), table(("missing", *SCORES.values()), rows, first=NOTHING)]


def differences(found: ReportInput) -> Section | None:
    """Every two arms on the same pairs."""
    every = found.evidence.comparisons
    if not every:
        return None
    ordered = sorted(every, key=lambda c: FUSED not in (c.first, c.second))
    learnt = {arm.name for arm in found.evidence.arms} - {PRIOR, MAJORITY}
    drawn = [c for c in every if {c.first, c.second} <= learnt]
    with_fused = [(c.second, c.difference) for c in drawn if c.first == FUSED]
    others = [(_names(c), c.difference) for c in drawn if c.first != FUSED]
    cut = others[:MOST_DIFFERENCES]
    more = f" (the first {len(cut)})" if len(cut) < len(others) else ""
    plots = [
        plot_intervals(
            key, title, named, measure="difference of macro-F1, 95 % interval", zero=True
        )
        for key, title, named in (
            ("differences-fused", f"{FUSED} minus \u2026", with_fused),
            ("differences-others", f"Other models{more}", cut),
        )
        if named
    ]
    rows = [
        [
            _names(c),
            interval(c.difference, sign=True),
            p_value(c.p_accuracy),
            p_value(c.p_permutation),
            p_value(c.p_holm),
            number(c.detectable),
            number(c.pairs_needed),
        ]
        for c in ordered
    ]
    columns = (
        "models",
        "macro-F1 difference",
        "McNemar p (accuracy)",
        "permutation p",
        "Holm-adjusted p",
        "detectable",
        "pairs needed",
    )
    said = (
        "Every two models on the same pairs. Coloured: the interval does not contain zero. "
        "McNemar's test is exact and compares accuracy, the permutation test compares macro-F1; "
        "both take groups of duplicates as one. "
        f"Holm's method adjusts its p-value for the {len(every)} comparisons. Detectable: the "
        "smallest difference that this many pairs detect with 80 % power. Pairs needed: how many "
        "would detect the difference that was found. Comparisons with the baselines that look at "
        "neither text nor image are in the table only."
    )
    parts = [words(said), show(plots, "two"), table(columns, rows)]
    return Section("differences", "Differences between models", join(parts))


def _names(comparison: Comparison) -> str:
    return f"{comparison.first} {MINUS} {comparison.second}"


def emap(found: ReportInput) -> Section | None:
    """Interaction or addition."""
    given = found.evidence.emap
    if given is None:
        return None
    plots = [
        plot_intervals(
            "emap-models",
            "With and without interaction",
            [(FUSED, given.fused), ("best sum", given.additive)],
            measure="macro-F1",
            mark=FUSED,
        ),
        plot_intervals(
            "emap-interaction",
            "What the interaction adds",
            [("interaction", given.interaction)],
            measure="macro-F1, difference",
            zero=True,
        ),
    ]
    said = (
        "Does the model need text and image together, or does it add up what each says? The best "
        "sum is the closest model of the form f(text) + g(image) (EMAP, Hessel and Lee 2020); what "
        "it loses is what only text and image together can tell."
    )
    numbers = interval(given.interaction, sign=True)
    answer = (
        f"The interaction adds {numbers} macro-F1."
        if given.is_there
        else f"No interaction is detected: {FUSED} {MINUS} best sum is {numbers} macro-F1."
    )
    body = join([words(answer, said), show(plots, "two")])
    return Section("emap", "Interaction of text and image", body)


def where(found: ReportInput) -> Section | None:
    """Strata and agreement."""
    strata = found.evidence.strata
    limits = spread([each.difference for each in strata])
    parts_by = groupby(strata, key=lambda each: each.by)
    plots = [_stratum(at, by, list(rows), limits) for at, (by, rows) in enumerate(parts_by)]
    said = (
        f"Accuracy of {FUSED} minus {TEXT_ONLY} by kind of pair, on one scale: right of zero the "
        "image helps. Coloured: the interval does not contain zero."
    )
    parts = [
        words(said if strata else ""),
        show([*plots, _agreement(found.evidence.agreement)], "two"),
    ]
    if strata:
        columns = ("by", "kind", "pairs", TEXT_ONLY, FUSED, "difference", "Holm-adjusted p")
        rows = [
            [
                each.by,
                each.name,
                number(each.rows),
                number(each.text_only),
                number(each.fused),
                interval(each.difference, sign=True),
                p_value(each.p_holm),
            ]
            for each in strata
        ]
        parts.append(table(columns, rows))
    return Section("where", "Where the image helps", join(parts))


def _stratum(place: int, by: str, rows: Sequence[Stratum], limits: tuple[float, float]) -> Drawing:
    shown = sorted(rows, key=lambda each: -abs(each.difference.value))[:MOST_ROWS]
    kept = [each for each in rows if each in shown]
    title = f"By {by}" if len(kept) == len(rows) else f"By {by}, the {MOST_ROWS} that differ most"
    return plot_intervals(
        f"strata-{place}",
        title,
        [(each.name, each.difference) for each in kept],
        measure="accuracy, difference",
        zero=True,
        limits=limits,
    )


def _agreement(shares: Agreement) -> Drawing:
    named = {
        "both right": shares.both,
        "only text right": shares.only_text,
        "only image right": shares.only_image,
        "neither right": shares.neither,
    }
    return plot_bars(
        "agreement-plot",
        "Which modality alone is right, share of pairs",
        list(named),
        {"share": list(named.values())},
        measure="share of pairs",
        width=WIDE,
    )

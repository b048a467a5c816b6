"""Verdict: fixed rules that turn the evidence into an answer; the README states them too.

1. Fused is compared with the best arm that sees texts alone. The image *helps* if the 95 % interval
   of the difference of their macro-F1 lies above 0. It *does not help* if even the upper end of the
   interval is below `WORTHWHILE`. Else it *cannot be told* from this many pairs.
2. Strata are named where their gain or loss stands after Holm's correction, at most `NAMED`.
3. Text and image *work together* if the interval of fused less its additive projection is above 0.
4. The arm to use is the cheapest of those that the best one does not beat beyond the noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from pairfuse.stats.bootstrap import Estimate
from pairfuse.stats.cascade import Cascade
from pairfuse.stats.metrics import Scores
from pairfuse.stats.paired import Comparison
from pairfuse.study.ablation import FUSED, IMAGE_ONLY, TEXT_ONLY
from pairfuse.study.cost import ArmCost
from pairfuse.study.emap import Interaction
from pairfuse.study.strata import Stratum

Outcome = Literal["helps", "does not help", "cannot be told"]
#: A gain below one point of macro-F1 is not worth an image encoder.
WORTHWHILE = 0.01
#: So many strata are named at most.
NAMED = 2
#: Adjusted p below which a stratum is named.
LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """The answer in words, the arm to use, and the text arm that fused was held against."""

    outcome: Outcome
    words: str
    use: str
    against: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def outcome(difference: Estimate) -> Outcome:
    """Does the image help, by the macro-F1 of fused less the best of the text arms? Rule 1."""
    if difference.low > 0:
        return "helps"
    return "does not help" if difference.high < WORTHWHILE else "cannot be told"


def arm_to_use(
    scores: Mapping[str, Scores], comparisons: Sequence[Comparison], costs: Sequence[ArmCost]
) -> str:
    """Rule 4; among arms of one price, the better one."""
    price = {cost.name: _milliseconds(cost) for cost in costs}
    best = max(price, key=lambda name: scores[name].macro_f1.value)
    equal = [name for name in price if name == best or find(comparisons, best, name).low <= 0]
    return min(equal, key=lambda name: (price[name], -scores[name].macro_f1.value))


def find(comparisons: Sequence[Comparison], first: str, second: str) -> Estimate:
    """Macro-F1 of the first arm minus that of the second."""
    for found in comparisons:
        if (found.first, found.second) == (first, second):
            return found.difference
        if (found.first, found.second) == (second, first):
            turned = found.difference
            return Estimate(-turned.value, -turned.high, -turned.low)
    raise KeyError(f"{first} was not compared with {second}")


def build_verdict(
    scores: Mapping[str, Scores],
    comparisons: Sequence[Comparison],
    strata: Sequence[Stratum],
    together: Interaction | None,
    costs: Sequence[ArmCost],
    saved: Cascade,
    *,
    text_arms: Sequence[str],
    groups: int,
) -> Verdict:
    """Apply the rules; `text_arms` are those that see texts alone."""
    text = max(text_arms, key=lambda name: scores[name].macro_f1.value)
    found = outcome(find(comparisons, FUSED, text))
    use = arm_to_use(scores, comparisons, costs)
    sentences = [
        _answer(found, text, scores, comparisons, groups),
        _where(strata),
        _together(together),
        _price(costs),
        _advice(use, saved, scores),
    ]
    return Verdict(found, " ".join(filter(None, sentences)), use, text)


def _milliseconds(cost: ArmCost) -> float:
    """What could not be measured counts as dearest."""
    return float("inf") if cost.encode_ms is None else cost.encode_ms


def _answer(
    found: Outcome,
    text: str,
    scores: Mapping[str, Scores],
    comparisons: Sequence[Comparison],
    groups: int,
) -> str:
    head = {
        "helps": "The image helps.",
        "does not help": "The image does not help.",
        "cannot be told": "Whether the image helps cannot be told from this many pairs.",
    }[found]
    compared = next(c for c in comparisons if {c.first, c.second} == {FUSED, text})
    gap, rows = find(comparisons, FUSED, text), scores[FUSED].rows
    said = (
        f"{head} On {rows:,} pairs ({groups:,} after joining duplicates) macro-F1 is "
        f"{scores[FUSED].macro_f1.value:.3f} with it and {scores[text].macro_f1.value:.3f} without "
        f"({text}, the best on texts alone): a difference of {gap.value:+.3f} (95 % interval "
        f"{gap.low:+.3f} to {gap.high:+.3f}). So many pairs show a difference of "
        f"{compared.detectable:.3f} in four of five studies"
    )
    needed = compared.pairs_needed
    if found == "cannot be told" and needed is not None and needed > rows:
        return f"{said}; to show the one found, {needed:,} pairs would be needed."
    return f"{said}."


def _where(strata: Sequence[Stratum]) -> str:
    sure = [stratum for stratum in strata if stratum.holm < LEVEL]
    gains = sorted(sure, key=lambda s: -s.difference.value)[:NAMED]
    losses = sorted(sure, key=lambda s: s.difference.value)[:NAMED]
    parts = []
    for words, chosen, sign in (("gains most", gains, 1), ("loses", losses, -1)):
        named = [s for s in chosen if sign * s.difference.value > 0]
        if named:
            listed = " and ".join(
                f"{s.by}: {s.name} ({s.difference.value:+.3f} accuracy)" for s in named
            )
            parts.append(f"{words} in {listed}")
    return f"It {', and '.join(parts)}." if parts else "In no stratum is the difference certain."


def _together(together: Interaction | None) -> str:
    if together is None:
        return (
            "What text and image add only together cannot be told, since the fused model uses a "
            "view that saw both at once, or reads tokens."
        )
    gain = together.interaction
    bounds = f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
    if together.is_there:
        return f"Text and image work together, beyond what each adds: {bounds}."
    return f"No interaction is seen: adding up what each says does as well ({bounds})."


def _price(costs: Sequence[ArmCost]) -> str:
    price = {cost.name: cost for cost in costs}
    text, image = price[TEXT_ONLY].encode_ms, price[IMAGE_ONLY].encode_ms
    if text is None or image is None:
        return ""
    return (
        f"Encoding the text of a pair takes {text:.1f} ms on this {price[TEXT_ONLY].device}, its "
        f"image {image:.1f} ms more."
    )


def _advice(use: str, saved: Cascade, scores: Mapping[str, Scores]) -> str:
    words = {
        FUSED: "Use text and image",
        TEXT_ONLY: "Use the text alone",
        IMAGE_ONLY: "Use the image alone",
    }.get(use, f"Use {use} alone")
    if use == FUSED and saved.saved > 0:
        return (
            f"{words}; a cascade saves {100 * saved.saved:.0f} % of the image encodes at macro-F1 "
            f"{saved.macro_f1.value:.3f}."
        )
    return f"{words}: the cheapest that nothing beats beyond the noise."

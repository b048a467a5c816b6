"""Verdict: fixed rules that turn the evidence into an answer; the README states them too.

1. Fused is compared with the best arm that sees texts alone. The image *helps* if the 95 % interval
   of the difference of their macro-F1 lies above 0. It *does not help* if even the upper end of the
   interval is below `WORTHWHILE`. Else it *cannot be determined* with this many pairs.
2. Strata are named where their gain or loss stands after Holm's correction, at most `NAMED`.
3. Text and image *interact* if the interval of fused minus its additive projection is above 0.
4. The arm to use is the cheapest of those that the best one does not beat beyond its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pairfuse.stats.bootstrap import Estimate
from pairfuse.stats.cascade import Cascade
from pairfuse.stats.metrics import Scores
from pairfuse.stats.paired import Comparison
from pairfuse.study.ablation import FUSED, IMAGE_ONLY, TEXT_ONLY
from pairfuse.study.cost import ArmCost
from pairfuse.study.emap import Interaction
from pairfuse.study.strata import Stratum, where

Outcome = Literal["helps", "does not help", "cannot be determined"]
#: What a sentence says of an outcome.
OUTCOMES: Mapping[Outcome, str] = {
    "helps": "the image helps",
    "does not help": "the image does not help",
    "cannot be determined": "whether the image helps cannot be determined with this many pairs",
}
#: A gain below one point of macro-F1 is not worth an image encoder.
WORTHWHILE = 0.01
#: So many strata are named at most.
NAMED = 2
#: Adjusted p-values below this count.
LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """The answer, the arm to use, and the text arm that fused was held against.

    `sentences` give the numbers, the most important first; none repeats the headline.
    """

    outcome: Outcome
    sentences: tuple[str, ...]
    use: str
    against: str

    @property
    def headline(self) -> str:
        """The outcome as a sentence."""
        said = OUTCOMES[self.outcome]
        return f"{said[0].upper()}{said[1:]}."

    @property
    def words(self) -> str:
        """All of it."""
        return " ".join([self.headline, *self.sentences])

    def __str__(self) -> str:
        return self.words


def outcome(difference: Estimate) -> Outcome:
    """Does the image help, by the macro-F1 of fused minus the best of the text arms? Rule 1."""
    if difference.low > 0:
        return "helps"
    return "does not help" if difference.high < WORTHWHILE else "cannot be determined"


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
    *,
    scores: Mapping[str, Scores],
    comparisons: Sequence[Comparison],
    strata: Sequence[Stratum],
    interaction: Interaction | None,
    costs: Sequence[ArmCost],
    cascade: Cascade,
    text_arms: Sequence[str],
    groups: int,
) -> Verdict:
    """Apply the rules; `text_arms` are those that see texts alone."""
    text = max(text_arms, key=lambda name: scores[name].macro_f1.value)
    found = outcome(find(comparisons, FUSED, text))
    use = arm_to_use(scores, comparisons, costs)
    sentences = [
        _difference(text, scores, comparisons, groups),
        _power(found, text, scores[FUSED].rows, comparisons),
        _where(strata),
        _interaction(interaction),
        _price(costs),
        _advice(use, cascade),
    ]
    return Verdict(
        outcome=found,
        sentences=tuple(said for said in sentences if said),
        use=use,
        against=text,
    )


def _milliseconds(cost: ArmCost) -> float:
    """What could not be measured counts as dearest."""
    return float("inf") if cost.encode_ms is None else cost.encode_ms


def _difference(
    text: str, scores: Mapping[str, Scores], comparisons: Sequence[Comparison], groups: int
) -> str:
    gap, rows = find(comparisons, FUSED, text), scores[FUSED].rows
    alone = "the text alone" if text == TEXT_ONLY else f"the text alone (by {text})"
    return (
        f"On {rows:,} pairs ({groups:,} after joining duplicates), macro-F1 is "
        f"{scores[FUSED].macro_f1.value:.3f} with text and image and "
        f"{scores[text].macro_f1.value:.3f} with {alone}: a difference of {gap.value:+.3f} "
        f"(95 % interval {gap.low:+.3f} to {gap.high:+.3f})."
    )


def _power(found: Outcome, text: str, rows: int, comparisons: Sequence[Comparison]) -> str:
    compared = next(c for c in comparisons if {c.first, c.second} == {FUSED, text})
    said = (
        f"With {rows:,} pairs, differences of {compared.detectable:.3f} or more are detected with "
        "80 % power"
    )
    needed = compared.pairs_needed
    if found == "cannot be determined" and needed is not None and needed > rows:
        size = abs(compared.difference.value)
        return f"{said}; label more pairs: one of {size:.3f} needs about {needed:,}."
    return f"{said}."


def _where(strata: Sequence[Stratum]) -> str:
    certain = [stratum for stratum in strata if stratum.p_holm < LEVEL]
    gains = [
        s for s in sorted(certain, key=lambda s: -s.difference.value) if s.difference.value > 0
    ]
    losses = [
        s for s in sorted(certain, key=lambda s: s.difference.value) if s.difference.value < 0
    ]
    parts = []
    if gains:
        parts.append(f"The gain is largest {_listed(gains[:NAMED])}.")
    if losses:
        parts.append(f"The image does harm {_listed(losses[:NAMED])}.")
    return " ".join(parts) or "No kind of pair gains or loses more than chance explains."


def _listed(strata: Sequence[Stratum]) -> str:
    return " and ".join(f"{where(s)} ({s.difference.value:+.2f} accuracy)" for s in strata)


def _interaction(found: Interaction | None) -> str:
    if found is None:
        return (
            "Whether text and image interact cannot be determined: the fused model reads tokens, "
            "or uses an encoder that sees both at once."
        )
    gain = found.interaction
    numbers = f"{gain.value:+.3f} macro-F1 (95 % interval {gain.low:+.3f} to {gain.high:+.3f})"
    if found.is_there:
        return (
            "Text and image interact: the fused model beats the best sum of what each says by "
            f"{numbers}."
        )
    return (
        "No interaction of text and image is detected: the fused model minus the best sum of what "
        f"each says is {numbers}."
    )


def _price(costs: Sequence[ArmCost]) -> str:
    price = {cost.name: cost for cost in costs}
    text, image = price[TEXT_ONLY].encode_ms, price[IMAGE_ONLY].encode_ms
    if text is None or image is None:
        return ""
    return (
        f"Encoding takes {text:.1f} ms for the text of a pair and {image:.1f} ms for its image "
        f"(on {price[TEXT_ONLY].device})."
    )


def _advice(use: str, cascade: Cascade) -> str:
    if use != FUSED:
        named = {TEXT_ONLY: "the text", IMAGE_ONLY: "the image"}.get(use, use)
        return f"Use {named} alone: no cheaper model is as good, and no model is clearly better."
    if cascade.saved > 0:
        return (
            "Use text and image; `pairfuse predict --cascade` looks at the image only where the "
            f"text-only model is unsure, which saves {100 * cascade.saved:.0f} % of the image "
            f"encoding at macro-F1 {cascade.macro_f1.value:.3f}."
        )
    return "Use text and image: no cheaper model is as good."

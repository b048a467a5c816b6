"""Verdict: fixed rules that turn the evidence into an answer; the README states them too.

1. The best arm that sees texts and images, head or baseline, is compared with the best arm that
   sees texts alone. The image *helps* if the 95 % interval of the difference of their macro-F1 lies
   above 0. It *does not help* if even the upper end of the interval is below `WORTHWHILE`. Else it
   *cannot be determined* with this many pairs.
2. Strata are named where their gain or loss stands after Holm's correction, at most `NAMED`.
3. Text and image *interact* if the interval of fused minus its additive projection is above 0.
4. The arm to use is the cheapest mixture that the best one does not beat beyond its interval; if
   the image helps, none that sees texts alone, and if it does not, none that sees both. Where the
   answer cannot be determined, both arms of rule 1 are shown with score and price, and how many
   labelled pairs would decide.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pairfuse.stats.bootstrap import Estimate, in_words
from pairfuse.stats.cascade import Cascade
from pairfuse.stats.metrics import Scores
from pairfuse.stats.paired import Comparison, pairs_needed
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
    """The answer, the arm to use, and the two arms of rule 1: of text and image, and of text.

    `sentences` give the numbers, the most important first; none repeats the headline.
    """

    outcome: Outcome
    sentences: tuple[str, ...]
    use: str
    best: str
    against: str

    @property
    def headline(self) -> str:
        """The outcome as a sentence."""
        said = OUTCOMES[self.outcome]
        return f"{said[0].upper()}{said[1:]}."

    @property
    def advice(self) -> str:
        """The arm to use, or the two to choose from."""
        if self.outcome == "cannot be determined":
            return f"{self.best} or {self.against}"
        return self.use

    @property
    def words(self) -> str:
        """All of it."""
        return " ".join([self.headline, *self.sentences])

    def __str__(self) -> str:
        return self.words


def outcome(difference: Estimate) -> Outcome:
    """Does the image help, by the macro-F1 of the best arm of both minus that of texts? Rule 1."""
    if difference.low > 0:
        return "helps"
    return "does not help" if difference.high < WORTHWHILE else "cannot be determined"


def arm_to_use(
    scores: Mapping[str, Scores],
    comparisons: Sequence[Comparison],
    costs: Sequence[ArmCost],
    *,
    without: Collection[str] = (),
) -> str:
    """Rule 4, of all arms but those `without`; among arms of one price, the better one."""
    price = {cost.name: _milliseconds(cost) for cost in costs if cost.name not in without}
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


def pairs_to_decide(difference: Estimate, compared: Comparison, rows: int) -> int:
    """Rows at which rule 1 would say "helps" or "does not help", if the difference stays as it is.

    With 80 % power, whichever comes first: an interval above 0, or one below `WORTHWHILE`.
    """
    needed = []
    if difference.value > 0 and compared.pairs_needed is not None:
        needed.append(compared.pairs_needed)
    if difference.value < WORTHWHILE:
        ruled_out = pairs_needed(rows, WORTHWHILE - difference.value, compared.error)
        assert ruled_out is not None
        needed.append(ruled_out)
    return max(rows + 1, min(needed))


def build_verdict(
    *,
    scores: Mapping[str, Scores],
    comparisons: Sequence[Comparison],
    strata: Sequence[Stratum],
    interaction: Interaction | None,
    costs: Sequence[ArmCost],
    cascade: Cascade,
    text_arms: Sequence[str],
    both_arms: Sequence[str],
    baselines: Sequence[str],
    groups: int,
    with_image: int,
) -> Verdict:
    """Apply the rules.

    Args:
        scores: Of each arm, by its name.
        comparisons: Every two of them.
        strata: Kinds of pairs.
        interaction: None where it is not known.
        costs: Of each trained arm.
        cascade: What it saves.
        text_arms: Those that see texts alone.
        both_arms: Those that see texts and images.
        baselines: Those that are no heads.
        groups: Pairs after joining duplicates.
        with_image: Pairs that have an image.
    """
    best, text = (_best(names, scores) for names in (both_arms, text_arms))
    gap = find(comparisons, best, text)
    found = outcome(gap)
    excluded = {"helps": tuple(text_arms), "does not help": tuple(both_arms)}.get(found, ())
    # What is kept for prediction is the mixtures, in which the baselines have their share.
    use = arm_to_use(scores, comparisons, costs, without=(*excluded, *baselines))
    compared = next(c for c in comparisons if {c.first, c.second} == {best, text})
    sentences = [
        _difference(best, text, scores, gap, groups, with_image),
        _power(scores[best].rows, compared),
        _over_baseline(_best(baselines, scores), comparisons) if baselines else "",
        _where(strata),
        _interaction(interaction, found, use, both_arms),
    ]
    if found == "cannot be determined":
        sentences += [_both(best, text, scores, costs), _needed(gap, compared, scores[best].rows)]
    else:
        sentences += [_price(costs), _advice(use, both_arms, cascade)]
    return Verdict(
        outcome=found,
        sentences=tuple(said for said in sentences if said),
        use=use,
        best=best,
        against=text,
    )


def _best(arms: Sequence[str], scores: Mapping[str, Scores]) -> str:
    return max(arms, key=lambda name: scores[name].macro_f1.value)


def _over_baseline(baseline: str, comparisons: Sequence[Comparison]) -> str:
    gap = find(comparisons, FUSED, baseline)
    numbers = f"{gap.value:+z.3f} macro-F1 (95 % interval {gap.low:+z.3f} to {gap.high:+z.3f})"
    if gap.low > 0:
        return f"The mixture beats the best baseline, {baseline}, by {numbers}."
    if gap.high < 0:
        return f"The best baseline, {baseline}, beats the mixture: {numbers} for the mixture."
    return f"The mixture minus the best baseline, {baseline}, is {numbers}: no clear difference."


def _milliseconds(cost: ArmCost) -> float:
    """What could not be measured counts as dearest."""
    return float("inf") if cost.encode_ms is None else cost.encode_ms


def _together(arm: str) -> str:
    return "text and image" if arm == FUSED else f"text and image (by {arm})"


def _alone(arm: str) -> str:
    return "the text alone" if arm == TEXT_ONLY else f"the text alone (by {arm})"


def _difference(
    best: str,
    text: str,
    scores: Mapping[str, Scores],
    gap: Estimate,
    groups: int,
    with_image: int,
) -> str:
    rows = scores[best].rows
    images = "all" if with_image == rows else f"{with_image:,}"
    return (
        f"On {rows:,} pairs ({groups:,} after joining duplicates; {images} with an image), "
        f"macro-F1 is {scores[best].macro_f1.value:.3f} with {_together(best)} and "
        f"{scores[text].macro_f1.value:.3f} with {_alone(text)}: a difference of {gap.value:+z.3f} "
        f"(95 % interval {gap.low:+z.3f} to {gap.high:+z.3f})."
    )


def _power(rows: int, compared: Comparison) -> str:
    return (
        f"With {rows:,} pairs, differences of {compared.detectable:.3f} or more are detected with "
        "80 % power."
    )


def _both(best: str, text: str, scores: Mapping[str, Scores], costs: Sequence[ArmCost]) -> str:
    price = {cost.name: cost for cost in costs}
    parts = []
    for arm, named in ((text, _alone(text)), (best, _together(best))):
        said = f"{named} with macro-F1 {in_words(scores[arm].macro_f1)}"
        if price[arm].encode_ms is not None:
            said += f" for {price[arm].encode_ms:.1f} ms a pair (on {price[arm].device})"
        parts.append(said)
    return f"Both choices are open: {parts[0]}, or {parts[1]}."


def _needed(gap: Estimate, compared: Comparison, rows: int) -> str:
    needed = pairs_to_decide(gap, compared, rows)
    return (
        f"Label more pairs: if the difference stays {gap.value:+z.3f}, about {needed:,} in all "
        "would decide."
    )


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


def _interaction(
    found: Interaction | None, answer: Outcome, use: str, both_arms: Sequence[str]
) -> str:
    if found is None:
        return (
            "Whether text and image interact cannot be determined: the fused model reads tokens, "
            "or uses an encoder that sees both at once."
        )
    gain = found.interaction
    numbers = f"{gain.value:+z.3f} macro-F1 (95 % interval {gain.low:+z.3f} to {gain.high:+z.3f})"
    if found.is_there:
        beats = f"the fused model beats the best sum of what each says by {numbers}"
        if answer == "cannot be determined":
            return (
                f"Text and image interact: {beats}. Whether that makes it better than the text "
                "alone is what cannot be determined."
            )
        if use not in both_arms:
            return f"Though {beats}, this is no certain gain over {_named(use)} alone."
        return f"Text and image interact: {beats}."
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


def _named(arm: str) -> str:
    return {TEXT_ONLY: "the text", IMAGE_ONLY: "the image"}.get(arm, arm)


def _advice(use: str, both_arms: Sequence[str], cascade: Cascade) -> str:
    if use not in both_arms:
        return (
            f"Use {_named(use)} alone: no cheaper model is as good, and no model is clearly better."
        )
    if cascade.saved > 0 and use == FUSED:
        return (
            "Use text and image; `pairfuse predict --cascade` looks at the image only where the "
            f"text-only model is unsure, which saves {100 * cascade.saved:.0f} % of the image "
            f"encoding at macro-F1 {cascade.macro_f1.value:.3f}."
        )
    return f"Use {_together(use)}: no cheaper model is as good."

"""Verdict: the stated rules, and words that say what the numbers say."""

from __future__ import annotations

import numpy as np
import pytest

from pairfuse.stats.bootstrap import Estimate, draw_groups, in_words
from pairfuse.stats.cascade import Cascade
from pairfuse.stats.metrics import Scores, score
from pairfuse.stats.paired import Comparison
from pairfuse.study.cost import ArmCost
from pairfuse.study.emap import Interaction
from pairfuse.study.strata import AGREEMENT, LENGTH, Stratum
from pairfuse.study.verdict import (
    Verdict,
    arm_to_use,
    build_verdict,
    find,
    outcome,
    pairs_to_decide,
)

NOTHING = Estimate(0.0, -0.01, 0.01)
SURE, UNSURE = Estimate(0.1, 0.05, 0.15), Estimate(0.1, -0.05, 0.25)
INTERACTION = Estimate(0.02, 0.01, 0.03)
ARMS = {"fused": 0.7, "text-only": 0.6, "image-only": 0.5}
PRICES = {"fused": 30.0, "text-only": 10.0, "image-only": 20.0}


def _scores(right: float) -> Scores:
    """Scores of an arm that is right on about this share of 400 rows of two classes."""
    targets = np.arange(400) % 2
    probabilities = np.eye(2, dtype=np.float32)[targets]
    wrong = int((1 - right) * 400)
    probabilities[:wrong] = probabilities[:wrong, ::-1]
    draws = draw_groups(np.arange(400), seed=0, resamples=20)
    return score(targets, probabilities[None], ("no", "yes"), draws)


def _comparison(first: str, second: str, difference: Estimate) -> Comparison:
    return Comparison(
        first=first,
        second=second,
        difference=difference,
        p_accuracy=0.5,
        p_permutation=0.5,
        p_holm=0.5,
        error=0.01,
        detectable=0.028,
        pairs_needed=1234,
    )


def _comparisons(fused_minus_text: Estimate, image_gap: Estimate = SURE) -> list[Comparison]:
    return [
        _comparison("fused", "text-only", fused_minus_text),
        _comparison("fused", "image-only", image_gap),
        _comparison("text-only", "image-only", SURE),
    ]


def _costs(prices: dict[str, float | None]) -> list[ArmCost]:
    return [
        ArmCost(
            name=name,
            encode_ms=price,
            parameters=10,
            encoder_parameters=10,
            gflops=0.1,
            peak_mib=100.0,
            train_seconds=1.0,
            cache_mib=1.0,
            device="cpu",
        )
        for name, price in prices.items()
    ]


def _stratum(by: str, name: str, difference: Estimate, p_holm: float) -> Stratum:
    return Stratum(
        by=by,
        name=name,
        rows=90,
        text_only=0.6,
        fused=0.6 + difference.value,
        difference=difference,
        p_holm=p_holm,
    )


def _verdict(
    difference: Estimate,
    *,
    together: Estimate | None = NOTHING,
    saved: float = 0.0,
    with_image: int = 312,
    image_gap: Estimate = SURE,
) -> Verdict:
    found = {name: _scores(right) for name, right in ARMS.items()}
    some = Estimate(0.7, 0.65, 0.75)
    strata = [
        _stratum(AGREEMENT, "disagree", Estimate(0.35, 0.2, 0.5), 0.001),
        _stratum(LENGTH, "short", Estimate(-0.2, -0.3, -0.1), 0.01),
        _stratum(LENGTH, "long", Estimate(0.3, -0.1, 0.7), 0.4),
    ]
    return build_verdict(
        scores=found,
        comparisons=_comparisons(difference, image_gap),
        strata=strata,
        interaction=Interaction(some, some, together) if together else None,
        costs=_costs(dict(PRICES)),
        cascade=Cascade(threshold=0.6, saved=saved, macro_f1=some, fused_macro_f1=some, curve=()),
        text_arms=["text-only"],
        both_arms=["fused"],
        baselines=[],
        groups=390,
        with_image=with_image,
    )


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0.001, 0.02, "helps"),
        (0.0, 0.02, "cannot be determined"),
        (-0.02, 0.02, "cannot be determined"),
        (-0.02, 0.0099, "does not help"),
        (-0.03, -0.01, "does not help"),
    ],
)
def test_the_interval_decides(low: float, high: float, wanted: str) -> None:
    assert outcome(Estimate((low + high) / 2, low, high)) == wanted


def test_a_comparison_is_found_either_way_round() -> None:
    found = _comparisons(Estimate(0.1, 0.05, 0.2))
    assert find(found, "text-only", "fused") == Estimate(-0.1, -0.2, -0.05)
    with pytest.raises(KeyError):
        find(found, "fused", "nobody")


def test_the_cheapest_arm_that_is_not_beaten_is_used() -> None:
    scores = {name: _scores(right) for name, right in ARMS.items()}
    costs = _costs(dict(PRICES))
    assert arm_to_use(scores, _comparisons(SURE), costs) == "fused"
    assert arm_to_use(scores, _comparisons(UNSURE), costs) == "text-only"


def test_an_arm_whose_price_is_not_known_is_the_dearest() -> None:
    scores = {name: _scores(right) for name, right in ARMS.items()}
    costs = _costs({**PRICES, "text-only": None})
    assert arm_to_use(scores, _comparisons(UNSURE), costs) == "fused"


def test_the_words_give_the_difference_and_where_it_lies() -> None:
    said = _verdict(Estimate(0.1, 0.05, 0.15), saved=0.4).words
    assert said.startswith(
        "The image helps. On 400 pairs (390 after joining duplicates; 312 with an image)"
    )
    assert "+0.100 (95 % interval +0.050 to +0.150)" in said
    assert "With 400 pairs, differences of 0.028 or more are detected with 80 % power." in said
    assert "gain is largest where text and image alone disagree (+0.35 accuracy)." in said
    assert "does harm where the text is short (-0.20 accuracy)." in said
    assert "long" not in said
    assert "saves 40 % of the image encoding" in said


def test_where_nothing_can_be_determined_both_choices_are_shown_with_score_and_price() -> None:
    found = _verdict(Estimate(0.01, -0.01, 0.03))
    assert found.outcome == "cannot be determined"
    scores = {name: _scores(right).macro_f1 for name, right in ARMS.items()}
    wanted = [
        f"{named} with macro-F1 {in_words(scores[arm])} for {PRICES[arm]:.1f} ms a pair (on cpu)"
        for arm, named in (("text-only", "the text alone"), ("fused", "text and image"))
    ]
    assert f"Both choices are open: {wanted[0]}, or {wanted[1]}." in found.words
    assert "Use " not in found.words
    assert found.advice == "fused or text-only"
    assert found.against == "text-only"


def test_the_words_say_how_many_pairs_would_decide() -> None:
    said = _verdict(Estimate(0.01, -0.01, 0.03)).words
    assert "if the difference stays +0.010, about 1,234 in all would decide." in said
    assert "would decide" not in _verdict(Estimate(0.1, 0.05, 0.15)).words


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (0.02, 1234),  # by an interval above 0
        (0.0, 3140),  # by one that ends below 0.01: 400 * (2.802 * 0.01 / 0.01)^2
        (-0.01, 786),
        (0.002, 1234),  # whichever comes first
        (-0.5, 401),
    ],
)
def test_the_pairs_that_decide_show_a_help_or_rule_it_out(value: float, wanted: int) -> None:
    difference = Estimate(value, value - 0.6, value + 0.6)
    compared = _comparison("fused", "text-only", difference)
    assert pairs_to_decide(difference, compared, 400) == pytest.approx(wanted, abs=1)


@pytest.mark.parametrize(("count", "said"), [(400, "all with an image"), (7, "7 with an image")])
def test_the_words_say_how_many_pairs_have_an_image(count: int, said: str) -> None:
    assert f"; {said})" in _verdict(Estimate(0.1, 0.05, 0.15), with_image=count).words


@pytest.mark.parametrize("difference", [SURE, NOTHING, Estimate(-0.01, -0.02, 0.0)])
@pytest.mark.parametrize("image_gap", [SURE, UNSURE])
@pytest.mark.parametrize("together", [INTERACTION, NOTHING, None])
def test_no_two_sentences_contradict_each_other(
    difference: Estimate, image_gap: Estimate, together: Estimate | None
) -> None:
    found = _verdict(difference, image_gap=image_gap, together=together)
    said = found.words
    assert not ("Text and image interact:" in said and " alone: no cheaper" in said)
    assert not (found.outcome == "helps" and "Use the text alone" in said)
    assert not (found.outcome == "does not help" and "Use text and image" in said)
    assert not (found.outcome == "cannot be determined" and "Use " in said)


def test_where_the_image_helps_no_arm_on_texts_alone_is_advised() -> None:
    """A weaker text arm that is not beaten beyond its interval is cheaper still."""
    found = _verdict(Estimate(0.1, 0.05, 0.15), image_gap=UNSURE)
    assert found.use == found.advice == "image-only"


def test_interaction_is_claimed_only_beyond_the_noise() -> None:
    helps = Estimate(0.1, 0.05, 0.15)
    assert "No interaction of text and image is detected" in _verdict(helps).words
    assert "and image interact:" in _verdict(helps, together=INTERACTION).words
    assert "interact cannot be determined" in _verdict(helps, together=None).words


def test_an_outcome_is_one_sentence() -> None:
    found = _verdict(Estimate(0.1, 0.05, 0.15))
    assert found.headline == "The image helps."
    assert found.words.count(found.headline) == 1
    assert not [said for said in found.sentences if not said.endswith(".")]


def test_a_baseline_is_not_what_to_use_since_the_mixture_is_what_is_kept() -> None:
    found = {name: _scores(right) for name, right in ARMS.items()}
    some = Estimate(0.7, 0.65, 0.75)
    said = build_verdict(
        scores=found,
        comparisons=_comparisons(SURE, SURE),
        strata=[],
        interaction=None,
        costs=_costs({**PRICES, "image-only": 0.0}),
        cascade=Cascade(threshold=0.6, saved=0.0, macro_f1=some, fused_macro_f1=some, curve=()),
        text_arms=["text-only"],
        both_arms=["fused"],
        baselines=["image-only"],
        groups=390,
        with_image=312,
    )
    assert said.use == "fused"
    assert any("the best baseline, image-only" in sentence for sentence in said.sentences)

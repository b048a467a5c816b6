"""Verdict: the stated rules, and words that say what the numbers say."""

from __future__ import annotations

import numpy as np
import pytest

from pairfuse.stats.bootstrap import Estimate, draw_groups
from pairfuse.stats.calibration import Cascade
from pairfuse.stats.metrics import Scores, score
from pairfuse.stats.paired import Comparison
from pairfuse.study.cost import ArmCost
from pairfuse.study.emap import Interaction
from pairfuse.study.strata import Stratum
from pairfuse.study.verdict import Verdict, arm_to_use, build_verdict, find, outcome

NOTHING = Estimate(0.0, -0.01, 0.01)
ARMS = {"fused": 0.7, "text-only": 0.6, "image-only": 0.5}
PRICES = {"fused": 30.0, "text-only": 10.0, "image-only": 20.0}


def _scores(right: float) -> Scores:
    """Scores of an arm that is right on about this share of 400 rows of two classes."""
    targets = np.arange(400) % 2
    chances = np.eye(2, dtype=np.float32)[targets]
    wrong = int((1 - right) * 400)
    chances[:wrong] = chances[:wrong, ::-1]
    draws = draw_groups(np.arange(400), seed=0, resamples=20)
    return score(targets, chances[None], ("no", "yes"), draws)


def _comparison(first: str, second: str, difference: Estimate) -> Comparison:
    return Comparison(first, second, difference, 0.5, 0.5, 0.5, 0.01, 0.028, 1234)


def _comparisons(fused_less_text: Estimate) -> list[Comparison]:
    sure = Estimate(0.1, 0.05, 0.15)
    return [
        _comparison("fused", "text-only", fused_less_text),
        _comparison("fused", "image-only", sure),
        _comparison("text-only", "image-only", sure),
    ]


def _costs(prices: dict[str, float | None]) -> list[ArmCost]:
    return [
        ArmCost(name, price, 10, 10, 0.1, 100.0, 1.0, 1.0, "cpu") for name, price in prices.items()
    ]


def _verdict(
    difference: Estimate, *, together: Estimate | None = NOTHING, saved: float = 0.0
) -> Verdict:
    found = {name: _scores(right) for name, right in ARMS.items()}
    some = Estimate(0.7, 0.65, 0.75)
    strata = [
        Stratum("class", "yes", 200, 0.5, 0.8, Estimate(0.3, 0.2, 0.4), 0.001),
        Stratum("text length", "short", 90, 0.6, 0.4, Estimate(-0.2, -0.3, -0.1), 0.01),
        Stratum("text length", "long", 90, 0.6, 0.9, Estimate(0.3, -0.1, 0.7), 0.4),
    ]
    return build_verdict(
        *(found, _comparisons(difference), strata),
        Interaction(some, some, together) if together else None,
        *(_costs(dict(PRICES)), Cascade(0.6, saved, some, some, ())),
        text_arms=["text-only"],
        groups=390,
    )


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0.001, 0.02, "helps"),
        (0.0, 0.02, "cannot be told"),
        (-0.02, 0.02, "cannot be told"),
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
    sure, unsure = Estimate(0.1, 0.05, 0.15), Estimate(0.1, -0.05, 0.25)
    assert arm_to_use(scores, _comparisons(sure), costs) == "fused"
    assert arm_to_use(scores, _comparisons(unsure), costs) == "text-only"


def test_an_arm_whose_price_is_not_known_is_the_dearest() -> None:
    scores = {name: _scores(right) for name, right in ARMS.items()}
    unsure = Estimate(0.1, -0.05, 0.25)
    costs = _costs({**PRICES, "text-only": None})
    assert arm_to_use(scores, _comparisons(unsure), costs) == "fused"


def test_the_words_give_the_difference_and_where_it_lies() -> None:
    said = _verdict(Estimate(0.1, 0.05, 0.15), saved=0.4).words
    assert said.startswith("The image helps. On 400 pairs (390 after joining duplicates)")
    assert "+0.100 (95 % interval +0.050 to +0.150)" in said
    assert "class: yes (+0.300 accuracy)" in said
    assert "loses in text length: short (-0.200 accuracy)" in said
    assert "long" not in said
    assert "saves 40 % of the image encodes" in said


def test_the_words_say_how_many_pairs_are_needed_when_nothing_can_be_told() -> None:
    found = _verdict(Estimate(0.01, -0.01, 0.03))
    assert found.outcome == "cannot be told"
    assert "1,234 pairs would be needed" in found.words
    assert found.use == found.against == "text-only"


def test_interaction_is_claimed_only_beyond_the_noise() -> None:
    helps = Estimate(0.1, 0.05, 0.15)
    assert "No interaction is seen" in _verdict(helps).words
    assert "work together" in _verdict(helps, together=Estimate(0.02, 0.01, 0.03)).words
    assert "cannot be told, since" in _verdict(helps, together=None).words

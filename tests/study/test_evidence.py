"""Evidence is read back as it was written, and what does not fit is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pairfuse.console import WIDTH
from pairfuse.errors import DataError
from pairfuse.fusion.fitting import prepare_rows
from pairfuse.study.ablation import Arm
from pairfuse.study.crossfit import cross_fit
from pairfuse.study.evidence import FORMAT, Evidence, _arms_of, evidence_lines
from pairfuse.study.folds import make_folds
from toys.fusion import PLAIN, table, told_by_words
from toys.reports import made_up, without


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return made_up(60).evidence


def _written(evidence: Evidence) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(evidence.to_dict(), allow_nan=False))
    return found


def test_what_was_written_is_read_back(evidence: Evidence) -> None:
    assert Evidence.from_dict(_written(evidence)) == evidence


def test_evidence_without_an_interaction_is_read_back() -> None:
    bare = without(made_up(60), "emap", "strata").evidence
    assert Evidence.from_dict(_written(bare)) == bare


def test_a_model_of_raw_texts_counts_as_one_that_reads_texts() -> None:
    given = table(*told_by_words(60))
    rows = make_folds(given.targets, given.groups, given.labels, folds=2, n_models=1, seed=0)
    [fit] = cross_fit(given, prepare_rows(given.views, rows, seed=0), [PLAIN], seed=0)
    arms = [
        # Raw texts are no view: these two name what they read beside them.
        Arm("linear-text", (), fit.probabilities, fit=fit),
        Arm("linear-fused", ("look",), fit.probabilities, fit=fit),
        Arm("linear-image", ("look",), fit.probabilities, fit=fit),
        Arm("fused", ("words", "look"), fit.probabilities, fit=fit),
        Arm("prior", (), fit.probabilities),
    ]
    assert _arms_of(arms, given, {"text"}) == ["linear-text"]
    assert _arms_of(arms, given, {"text", "image"}) == ["linear-fused", "fused"]


def test_a_mixture_of_many_models_fits_the_screen(evidence: Evidence) -> None:
    [fused, *others] = evidence.arms
    shares = {f"a model of a long name {number}": 0.125 for number in range(8)}
    many = replace(evidence, arms=(replace(fused, shares=shares), *others))
    lines = evidence_lines(many)
    assert max(map(len, lines)) <= WIDTH
    assert sum("a model of a long name" in line for line in lines) > 1
    assert not any(line.endswith("-") for line in lines)  # text-only stays in one piece


def _deep(found: dict[str, Any], value: object) -> None:
    found["comparisons"][1]["difference"]["low"] = value


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "older": (lambda found: found.update(format=FORMAT - 1), "is of another version"),
    "no version": (lambda found: found.pop("format"), "is of another version"),
    "missing": (lambda found: found.pop("cascade"), "evidence has no 'cascade'"),
    "unknown": (lambda found: found.update(extra=1), "evidence has the unknown 'extra'"),
    "outcome": (
        lambda found: found["verdict"].update(outcome="perhaps"),
        "evidence.verdict.outcome is 'perhaps'",
    ),
    "words": (lambda found: _deep(found, "low"), r"comparisons\[1\].difference.low is 'low'"),
    "nan": (lambda found: _deep(found, float("nan")), r"comparisons\[1\].difference.low is nan"),
    "truth": (lambda found: _deep(found, True), r"comparisons\[1\].difference.low is True"),
    "no list": (lambda found: found.update(arms={}), r"evidence.arms is \{\}"),
    "no object": (lambda found: found.update(design=[]), r"evidence.design is \[\]"),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_what_does_not_fit_is_refused_in_one_line(case: str, evidence: Evidence) -> None:
    spoil, words = BROKEN[case]
    found = _written(evidence)
    spoil(found)
    with pytest.raises(DataError, match=words) as caught:
        Evidence.from_dict(found, source="run/evidence.json")
    message = str(caught.value)
    assert message.startswith("run/evidence.json ")
    assert message.endswith("run `pairfuse ablate` again")
    assert "\n" not in message


@pytest.mark.parametrize("found", [None, [], "x", 3, {}])
def test_what_is_no_evidence_at_all_is_refused(found: object) -> None:
    with pytest.raises(DataError, match="another version"):
        Evidence.from_dict(found)


def test_the_screen_shows_every_arm_and_the_verdict(evidence: Evidence) -> None:
    said = "\n".join(evidence_lines(evidence))
    for arm in evidence.arms:
        assert f"{arm.scores.macro_f1.value:.3f} ({arm.scores.macro_f1.low:.3f} to" in said
    assert "fused minus text-only: +" in said
    assert "fused with the image missing: macro-F1 0.552" in said
    assert evidence.verdict.headline in said

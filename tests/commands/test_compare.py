"""`pairfuse compare`: two arms of a run; what is no run is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pairfuse.cli import main
from pairfuse.commands.run_folder import read_evidence


def test_two_arms_of_a_run_are_compared(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "toy", "toy/text-only", "--cache", str(cache)]) == 0
    said = capsys.readouterr().out
    assert "McNemar" in said
    difference = next(
        found["difference"]["value"]
        for found in read_evidence(cache / "runs" / "toy")["comparisons"]
        if (found["first"], found["second"]) == ("fused", "text-only")
    )
    assert re.search(r"[+-]0\.\d{3}", said)
    assert abs(difference) < 1


@pytest.mark.parametrize("name", ["nowhere", "toy/none", "../toy", "toy/../../x"])
def test_what_is_no_run_cannot_be_compared(
    name: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "toy", name, "--cache", str(cache)]) == 1
    assert "no predictions of" in capsys.readouterr().err

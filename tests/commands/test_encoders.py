"""`pairfuse encoders`: every encoder is listed, in words and as JSON."""

from __future__ import annotations

import json

import pytest

from pairfuse.cli import main
from pairfuse.encoders import ENCODERS


def test_every_encoder_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encoders"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[0] != " "] == ["name", *ENCODERS]


def test_the_list_of_encoders_can_be_had_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encoders", "--json"]) == 0
    listed = {each.pop("name"): each for each in json.loads(capsys.readouterr().out)}
    assert list(listed) == list(ENCODERS)
    assert (listed["ngram"]["licence"], listed["ngram"]["weights"]) == (None, "no weights")
    assert (listed["flava"]["modality"], listed["flava"]["width"][0]) == (
        ["text", "image", "joint"],
        768,
    )

"""The probe: a wide margin, remembered, and never a reason to fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pairfuse.encoders import bf16_probe as probe


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Ratios that were measured; the first says 2, later ones say 1: a flip-flop if asked again."""
    done: list[float] = []

    def measure() -> float:
        done.append(1.0 if done else 2.0)
        return done[-1]

    monkeypatch.setattr(probe, "measure", measure)
    probe._verdict.cache_clear()
    return done


def test_a_verdict_is_measured_once_and_then_remembered(asked: list[float]) -> None:
    assert probe.bf16_is_faster()
    probe._verdict.cache_clear()  # as a new process
    assert probe.bf16_is_faster()
    assert asked == [2.0]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000])
def test_a_damaged_memory_is_measured_anew_and_mended(content: bytes, asked: list[float]) -> None:
    probe.place().parent.mkdir(parents=True)
    probe.place().write_bytes(content)
    assert probe.bf16_is_faster()
    assert list(json.loads(probe.place().read_bytes()).values()) == [2.0]


def test_a_folder_that_cannot_be_written_costs_a_measurement(
    asked: list[float], tmp_path: Path
) -> None:
    (tmp_path / "user").write_text("a file in place of the folder")
    assert probe.bf16_is_faster()
    assert asked == [2.0]


def test_another_machine_has_its_own_verdict(
    asked: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe.bf16_is_faster()
    monkeypatch.setattr(probe, "_machine", lambda: "another processor")
    assert not probe.bf16_is_faster()
    assert len(json.loads(probe.place().read_bytes())) == 2

"""Costs are measured apart from what this process holds; a failure is a note, sums are sums."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pairfuse.arrays import Floats
from pairfuse.encoders.base import EncoderInput
from pairfuse.errors import EncoderError
from pairfuse.fusion.ensemble import Member
from pairfuse.fusion.training import build_network, train_stack
from pairfuse.study import cost
from pairfuse.study.cost import (
    ROUNDS,
    SAMPLE,
    ArmParts,
    EncoderCost,
    arm_costs,
    measure,
    measure_encoders,
)
from toys import fusion as toys
from toys.data import picture, saved
from toys.encoders import ToyEncoder

TEXTS = [f"text {number}" for number in range(100)]


def _apart(*encoders: ToyEncoder, seconds: float = 60.0) -> list[EncoderCost]:
    return measure_encoders(encoders, {"text": TEXTS, "image": []}, device="cpu", seconds=seconds)


@dataclass(frozen=True)
class _Network:
    """One linear layer, (4,) to (8,); what is loaded notes its precision."""

    loaded: list[str]
    name: str = "net"
    modality: str = "text"
    dim: int = 8
    precision: str = "bf16"
    batch_size: int = 8

    def load(self, device: str) -> _Loaded:
        self.loaded.append(self.precision)
        return _Loaded(torch.nn.Linear(4, 8))


@dataclass(frozen=True)
class _Loaded:
    layer: torch.nn.Module

    def prepare(self, raw: Any) -> EncoderInput:
        return EncoderInput(torch.ones(4), size=len(raw))

    def encode(self, batch: Sequence[EncoderInput]) -> Floats:
        with torch.inference_mode():
            found: Floats = self.layer(torch.stack([each.value for each in batch])).numpy()
        return found


def test_an_encoder_is_measured_in_a_process_of_its_own() -> None:
    held = np.ones(2**26)  # 512 MiB that only this process has
    toy = ToyEncoder()
    [found] = _apart(toy)
    assert (found.name, found.modality, found.dim, found.device) == ("toy", "text", 4, "cpu")
    assert (found.note, toy.loads) == ("", 0)
    assert found.seconds > 0
    assert 5 < found.peak_mib < held.nbytes / 2**20


def test_encoders_that_fail_have_a_note_and_the_others_their_costs() -> None:
    refused, dead, good = _apart(
        ToyEncoder("refused", memory=0), ToyEncoder("dead", dies_after=0), ToyEncoder("good")
    )
    assert refused.note.startswith("RuntimeError: CUDA out of memory")
    assert dead.note == "the measuring process ended with code 1"
    assert (good.note, good.seconds > 0) == ("", True)


def test_an_encoder_that_takes_too_long_is_given_up() -> None:
    [found] = _apart(ToyEncoder(), seconds=0.001)
    assert found.note == "measuring took more than 0.001 seconds"
    assert found.seconds == 0


def test_every_input_of_the_sample_is_encoded_in_each_round() -> None:
    toy = ToyEncoder()
    measure(toy, TEXTS[:SAMPLE], device="cpu")
    rounds = 1 + ROUNDS  # the first is a warm-up
    assert toy.batches[: rounds * SAMPLE // 8] == [8] * (rounds * SAMPLE // 8)


def test_parameters_and_operations_are_those_of_the_plain_network() -> None:
    encoder = _Network([])
    found = measure(encoder, TEXTS[:3], device="cpu")
    assert encoder.loaded == ["bf16", "fp32"]
    assert found.parameters == 4 * 8 + 8
    assert found.gflops * 1e9 == pytest.approx(2 * 4 * 8)


@pytest.mark.parametrize("modality", ["image", "joint"])
def test_pictures_that_cannot_be_read_are_left_out(modality: Any, tmp_path: Path) -> None:
    toy = ToyEncoder(modality=modality)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    paths[0].write_bytes(saved(picture(0)))
    paths[1].write_bytes(b"no picture")
    given: list[Any] = [("a text", path) if modality == "joint" else path for path in paths]
    measure(toy, given, device="cpu")
    assert set(toy.batches) == {1}
    with pytest.raises(EncoderError, match="none of 2 contents can be read for encoder toy"):
        measure(toy, given[1:], device="cpu")


def test_pictures_are_measured_within_the_bounds_that_the_user_set(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(picture(0, (30, 20))))
    samples: Any = {"image": [path]}
    for bounds in ({"max_pixels": 599}, {"max_image_bytes": 60}):
        toy = [ToyEncoder(modality="image")]
        [found] = measure_encoders(toy, samples, device="cpu", **bounds)
        assert found.note == "none of 1 contents can be read for encoder toy"


def _encoder(name: str, seconds: float, *, note: str = "", peak: float = 100.0) -> EncoderCost:
    return EncoderCost(name, "text", 256, "cpu", seconds, peak, 1000, 0.5, note)


def test_an_arm_costs_what_its_encoders_cost_together() -> None:
    encoders = [_encoder("a", 0.01), _encoder("b", 0.02, peak=300.0), _encoder("c", 9)]
    arms = [ArmParts("both", ("a", "b"), 77, 3.5), ArmParts("prior", (), 0, 0.0)]
    both, prior = arm_costs(arms, encoders, {"a": 2**20, "b": 2**21, "c": 1})
    assert both.encode_ms == pytest.approx(30)
    assert (both.encoder_parameters, both.gflops, both.peak_mib) == (2000, 1.0, 300.0)
    assert (both.parameters, both.train_seconds, both.cache_mib) == (77, 3.5, 3.0)
    assert (prior.encode_ms, prior.peak_mib, prior.cache_mib) == (0, 0, 0)


def test_an_arm_with_an_unmeasured_encoder_has_no_cost_but_a_note() -> None:
    encoders = [_encoder("a", 0.01), _encoder("b", 0, note="it broke")]
    [found] = arm_costs([ArmParts("both", ("a", "b"), 7, 1.0)], encoders, {"a": 1, "b": 1})
    assert found.note == "b: it broke"
    assert found.encode_ms is found.encoder_parameters is found.gflops is found.peak_mib is None
    assert found.parameters == 7


def test_the_parameters_of_all_heads_are_counted() -> None:
    [model] = train_stack([toys.task(replace(toys.PLAIN, epochs=1))])
    sizes = sum(values.numel() for values in build_network(model).parameters())
    assert Member(model, {}).size == sizes


def test_the_fastest_round_counts_whatever_disturbs_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0.0, 9.0, 10.0, 10.5, 20.0, 29.0, 30.0, 39.0, 40.0, 49.0])
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(clock))
    found = measure(ToyEncoder(), TEXTS[:2], device="cpu")
    assert found.seconds == pytest.approx(0.5 / 2)


@pytest.mark.parametrize(("load", "disturbed"), [(0.3, False), (3.5, True)])
def test_a_cost_knows_when_it_was_measured_and_whether_the_machine_was_busy(
    load: float, disturbed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = os.cpu_count() or 1
    monkeypatch.setattr(os, "getloadavg", lambda: (load * cores, 0.0, 0.0))
    [found] = _apart(ToyEncoder())
    assert (found.load, found.is_disturbed) == (load, disturbed)
    assert datetime.fromisoformat(found.measured).tzinfo is not None


def test_an_arm_says_when_and_under_which_load_its_encoders_were_measured() -> None:
    encoders = [
        EncoderCost("words", "text", 4, "cpu", seconds=1.0, load=0.5, measured="2026-01-02"),
        EncoderCost("pixels", "image", 4, "cpu", seconds=1.0, load=2.0, measured="2026-01-01"),
    ]
    parts = [ArmParts("fused", ("words", "pixels"), 1, 1.0), ArmParts("prior", (), 0, 0.0)]
    fused, prior = arm_costs(parts, encoders, {"words": 1, "pixels": 1})
    assert (fused.load, fused.measured) == (2.0, "2026-01-02")
    assert (prior.load, prior.measured) == (0.0, "")

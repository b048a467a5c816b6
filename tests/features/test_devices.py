from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairfuse.arrays import Floats
from pairfuse.data.pairs import text_key
from pairfuse.encoders import network, resolve_device, resolve_precision
from pairfuse.encoders.base import EncoderInput, LoadedEncoder
from pairfuse.encoders.network import resolve_devices
from pairfuse.errors import EncoderError
from pairfuse.features import devices, extraction
from pairfuse.features.devices import Device, encode_on, first_batch
from pairfuse.features.extraction import Content, Extraction, buffer_size, extract
from pairfuse.features.prefetch import Buffer, threads
from pairfuse.features.store import FeatureStore, open_store
from toys.encoders import Killed, ToyEncoder, toy_features


@dataclass
class TwoNetworks(ToyEncoder):
    """An encoder that loads another network for each device; both encode before either goes on."""

    networks: list[ToyEncoder] = field(default_factory=lambda: [ToyEncoder(), ToyEncoder()])
    together: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=20))

    def load(self, device: str) -> ToyEncoder:
        network = self.networks[self.loads]
        self.loads += 1
        encode, first = network.encode, [True]

        def with_the_other(batch: Sequence[EncoderInput]) -> Floats:
            if first.pop() if first else False:
                self.together.wait()
            return encode(batch)

        network.encode = with_the_other  # type: ignore[method-assign]
        return network


@dataclass
class Launching(ToyEncoder):
    """A network that notes when a batch is begun, and when its features are waited for."""

    done: list[str] = field(default_factory=list)

    def launch(self, batch: Sequence[EncoderInput]) -> Callable[[], Floats]:
        number, features = len(self.batches), self.encode(batch)
        self.done.append(f"launch {number}")

        def wait() -> Floats:
            self.done.append(f"fetch {number}")
            return features

        return wait


def texts(count: int) -> dict[bytes, Content]:
    return {text_key(f"text {number}"): f"text {number}" for number in range(count)}


def run(encoder: ToyEncoder, cache: Path, count: int = 90, device: str = "cpu,cpu") -> Extraction:
    store = open_store(cache, encoder)
    return extract(texts(count), encoder, store, device=device, workers=2)


def store_in(cache: Path) -> FeatureStore:
    return open_store(cache, ToyEncoder())


def inputs(*sizes: int) -> Buffer:
    return [(bytes([n]), EncoderInput(bytes([n]), size)) for n, size in enumerate(sizes)]


def loaded(encoder: LoadedEncoder) -> Future[LoadedEncoder]:
    future: Future[LoadedEncoder] = Future()
    future.set_result(encoder)
    return future


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_may_have_gpu", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0,cuda:1", "cuda:0, cuda:1"])
def test_every_gpu_is_taken_and_training_takes_the_first(name: str, two_gpus: None) -> None:
    assert resolve_devices(name) == ["cuda:0", "cuda:1"]
    assert resolve_device(name) == "cuda:0"


REFUSED = {
    "cuda:0,cuda:7": "device cuda:7 is not available here (found 2 cuda); use auto",
    "cuda:0,tpu": "device 'tpu' is not known; use auto, cpu, cuda, mps, or several: cuda:0,cuda:1",
    "cpu,cuda:1": "device 'cpu,cuda:1' mixes cpu and cuda; name devices of a kind",
    "cpu,": "device '' is not known",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_list_with_a_device_that_cannot_be_used_is_refused(name: str, two_gpus: None) -> None:
    with pytest.raises(EncoderError) as refused:
        resolve_devices(name)
    assert str(refused.value).startswith(REFUSED[name])


def test_a_list_has_the_precision_of_its_first_device() -> None:
    assert resolve_precision("auto", resolve_device("cpu,cpu")) == resolve_precision("auto", "cpu")


def test_two_devices_give_the_rows_of_one(tmp_path: Path) -> None:
    encoder = TwoNetworks()
    result = run(encoder, tmp_path / "two")
    run(ToyEncoder(), tmp_path / "one", device="cpu")
    two, one = (store_in(tmp_path / name).read(list(texts(90))) for name in ("two", "one"))
    assert two.tobytes() == one.tobytes()
    assert (result.computed, encoder.loads) == (90, 2)
    assert sum(each.rows for each in encoder.networks) == 90
    assert all(each.rows for each in encoder.networks)


def test_a_row_has_the_same_company_on_two_devices_as_on_one(tmp_path: Path) -> None:
    encoder, alone = TwoNetworks(), ToyEncoder()
    run(encoder, tmp_path / "two")
    run(alone, tmp_path / "one", device="cpu")
    both = [size for each in encoder.networks for size in each.batches]
    assert sorted(both) == sorted(alone.batches)


def test_each_device_halves_its_own_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_free_device_memory", lambda: None)
    small, large = ToyEncoder(memory=3), ToyEncoder()
    assert run(TwoNetworks(networks=[small, large]), tmp_path).computed == 90
    assert max(small.batches) == 2
    assert max(large.batches) == 8
    assert store_in(tmp_path).missing(list(texts(90))) == []


@pytest.mark.parametrize("broken", [0, 1])
def test_an_error_of_one_device_ends_the_run_and_what_was_committed_stays(
    broken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "COMMIT_SECONDS", 0)
    dead = threading.Event()

    class Dying(ToyEncoder):
        def encode(self, batch: Sequence[EncoderInput]) -> Floats:
            if self.batches:
                dead.set()
                raise Killed
            return super().encode(batch)

    class Sound(ToyEncoder):
        def encode(self, batch: Sequence[EncoderInput]) -> Floats:
            if self.batches:
                dead.wait(20)  # else it may take all batches before the other has its second
            return super().encode(batch)

    networks = [Dying() if number == broken else Sound() for number in range(2)]
    with pytest.raises(Killed):
        run(TwoNetworks(networks=networks), tmp_path)
    left = store_in(tmp_path).missing(list(texts(90)))
    assert 0 < len(left) < 90
    assert run(ToyEncoder(), tmp_path).computed == len(left)


def test_weights_that_one_device_cannot_load_end_the_run(tmp_path: Path) -> None:
    turns = itertools.count()  # both devices load at the same time: each takes one turn

    class Lacking(ToyEncoder):
        def load(self, device: str) -> ToyEncoder:
            if next(turns):
                raise EncoderError("weights are gone")
            return super().load(device)

    with pytest.raises(EncoderError, match="weights are gone"):
        run(Lacking(), tmp_path)


def test_an_interrupt_leaves_no_thread_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> bool:
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    monkeypatch.setattr(extraction, "_due", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(ToyEncoder(), tmp_path, count=4000)
    assert set(threading.enumerate()) <= before


def test_a_device_that_waits_for_inputs_does_not_hold_up_the_end() -> None:
    never: Future[Any] = Future()

    def buffers() -> Iterator[Buffer]:
        yield inputs(1)
        never.result(timeout=20)

    both = [Device(loaded(ToyEncoder()), 8) for _ in range(2)]
    encoded = encode_on(both, buffers(), abandon=never.cancel)
    assert next(encoded)[0] == [b"\0"]
    encoded.close()
    assert never.cancelled()


def test_what_threads_have_not_begun_is_dropped_when_their_owner_fails() -> None:
    begun: list[str] = []
    dropped = threading.Event()

    def fail() -> None:
        with threads(1) as pool:
            pool.submit(dropped.wait, 20)
            pool.submit(begun.append, "second").add_done_callback(lambda _: dropped.set())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert begun == []


def test_a_batch_is_launched_before_the_last_one_is_waited_for() -> None:
    encoder = Launching()
    device = Device(loaded(encoder), 1, ahead=1)
    found = list(device.encode(iter([inputs(1, 1), inputs(1)])))
    assert [len(keys) for keys, _ in found] == [1, 1, 1]
    assert encoder.done == ["launch 0", "launch 1", "fetch 0", "launch 2", "fetch 1", "fetch 2"]


def test_launched_batches_have_the_features_of_encoded_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_free_device_memory", lambda: None)
    encoder = Launching(memory=3)
    device = Device(loaded(encoder), 8, ahead=1)
    buffer = inputs(*[1] * 20)
    rows = {
        key: row
        for keys, part in device.encode(iter([buffer]))
        for key, row in zip(keys, part, strict=True)
    }
    assert all((rows[key] == toy_features(key)).all() for key, _ in buffer)
    assert encoder.done[-1].startswith("fetch")


def test_a_network_that_cannot_be_launched_is_encoded_on_a_gpu_all_the_same() -> None:
    [(keys, features)] = Device(loaded(ToyEncoder()), 8, ahead=1).encode(iter([inputs(1, 1)]))
    assert keys == [b"\0", b"\1"]
    assert (features[1] == toy_features(b"\1")).all()


@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.integers(1, 40))
def test_a_batch_that_was_cut_is_not_cut_again(sizes: list[int], size: int) -> None:
    batch = first_batch(devices.by_length(inputs(*sizes)), size)
    assert first_batch(devices.by_length(batch), size) == batch


@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_window_holds_two_batches_for_each_gpu(modality: Any, count: int) -> None:
    size = 64 * extraction.GPU_BATCHES
    most = len(first_batch(inputs(*[2] * 250), size)) if modality == "text" else size
    assert buffer_size(modality, size, count) >= 2 * count * most


@pytest.mark.parametrize(("modality", "batch"), [("text", 64), ("text", 256), ("image", 32)])
def test_the_windows_of_a_processor_are_as_small_as_ever(modality: Any, batch: int) -> None:
    assert buffer_size(modality, batch, 1) == extraction.BUFFER[modality]


def test_arrays_are_stacked_in_their_order_and_type() -> None:
    rows = [np.full((2, 3), number, np.uint8) for number in range(4)]
    assert (network.stack(rows, "cpu").numpy() == np.stack(rows)).all()

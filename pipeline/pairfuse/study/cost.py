"""Cost: what an encoder takes on this machine, measured in a process of its own; cost of arms.

Nothing that this process has loaded counts: each encoder starts in a fresh process, so its peak
memory is its own (with the libraries that it needs).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pairfuse.data.images import MAX_IMAGE_BYTES, MAX_PIXELS, open_image, read_picture
from pairfuse.data.pairs import Modality
from pairfuse.encoders.base import Encoder, EncoderInput, LoadedEncoder
from pairfuse.encoders.checkpoint_folder import first_line
from pairfuse.encoders.token_encoder import TokenEncoder
from pairfuse.errors import DataError, EncoderError, PairfuseError
from pairfuse.features.prefetch import Content
from pairfuse.memory import keep_memory

#: Reads a content and prepares it for a loaded encoder.
Prepare = Callable[[Content, LoadedEncoder], EncoderInput]
#: Contents that are encoded in each of the rounds, and inputs whose operations are counted.
SAMPLE, ROUNDS, COUNTED = 32, 5, 4
#: Load on each core above which others are at work: a command's own training alone makes it 1.
BUSY = 1.5
#: An encoder that takes longer to measure is given up.
SECONDS = 300.0


@dataclass(frozen=True)
class EncoderCost:
    """One encoder on one device; `note` says why nothing is known, where it could not be measured.

    Attributes:
        seconds: To read, prepare and encode one input, the fastest of `ROUNDS` after a warm-up:
            other work on the machine only ever adds to it.
        peak_mib: Peak memory of its process, or on a GPU of the device, in MiB.
        parameters: Numbers in its network, 0 without one.
        gflops: Billions of operations for one input, a multiplication with its addition being two.
        load: Processes that ran or waited on each core, in the minute before.
        measured: When, as ISO 8601.
    """

    name: str
    modality: Modality
    dim: int
    device: str
    seconds: float = 0.0
    peak_mib: float = 0.0
    parameters: int = 0
    gflops: float = 0.0
    note: str = ""
    load: float = 0.0
    measured: str = ""

    @property
    def is_disturbed(self) -> bool:
        """Whether other work took cores away while it was measured."""
        return self.load > BUSY

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class ArmParts:
    """What an arm is made of: its views, the trained numbers of its heads, and their training."""

    name: str
    views: tuple[str, ...]
    parameters: int
    train_seconds: float


@dataclass(frozen=True)
class ArmCost:
    """What one arm takes; none where one of its encoders could not be measured.

    Attributes:
        encode_ms: For one pair, all its views one after the other.
        parameters: Trained, in all heads of the ensemble.
        peak_mib: Of the encoder that takes most.
        cache_mib: Features of all rows in the stores, with their tokens.
        load: The highest at which one of its encoders was measured.
        measured: When the last of them was.
    """

    name: str
    encode_ms: float | None
    parameters: int
    encoder_parameters: int | None
    gflops: float | None
    peak_mib: float | None
    train_seconds: float
    cache_mib: float
    device: str
    note: str = ""
    load: float = 0.0
    measured: str = ""


def measure_encoders(
    encoders: Sequence[Encoder],
    samples: Mapping[Modality, Sequence[Content]],
    *,
    device: str,
    seconds: float = SECONDS,
    max_pixels: int = MAX_PIXELS,
    max_image_bytes: int = MAX_IMAGE_BYTES,
) -> list[EncoderCost]:
    """Measure each encoder in a process of its own, one after the other.

    Args:
        encoders: Their weights are loaded there, not here.
        samples: Texts, paths of images, or both; `SAMPLE` of them are taken, evenly.
        device: A torch device's name.
        seconds: Given up after so long.
        max_pixels: A larger picture is left out.
        max_image_bytes: A larger picture file is left out.

    Returns:
        In the order of the encoders; one that fails has a note.
    """
    load = machine_load()  # before: what is measured is a load too
    measured = datetime.now().astimezone().isoformat(timespec="seconds")
    read = partial(_prepared, max_pixels=max_pixels, max_image_bytes=max_image_bytes)
    return [
        replace(
            _measure_apart(encoder, _evenly(samples[encoder.modality]), read, device, seconds),
            load=load,
            measured=measured,
        )
        for encoder in encoders
    ]


def machine_load() -> float:
    """Processes that run or wait on each core, mean of the last minute; 0 where it is not told."""
    try:
        return round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)
    except OSError:
        return 0.0


def measure(
    encoder: Encoder, sample: Sequence[Content], *, device: str, prepare: Prepare | None = None
) -> EncoderCost:
    """Measure an encoder in this process; contents that cannot be read are left out.

    Args:
        encoder: Loaded here.
        sample: Texts, paths of images, or both.
        device: A torch device's name.
        prepare: How a content is read, none for the usual bounds on pictures.

    Raises:
        EncoderError: It cannot be loaded or run, or no content can be read.
    """
    keep_memory()
    prepare = prepare or _prepared
    loaded = encoder.load(device)
    readable = [content for content in sample if _can_read(content, loaded, prepare)]
    if not readable:
        raise EncoderError(f"none of {len(sample)} contents can be read for encoder {encoder.name}")
    _encode(encoder, loaded, readable, prepare)  # warm-up
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        _encode(encoder, loaded, readable, prepare)
        times.append(time.perf_counter() - start)
    peak = _peak_mib(device)
    parameters, gflops = _counted(encoder, readable[:COUNTED], prepare)
    return EncoderCost(
        name=encoder.name,
        modality=encoder.modality,
        dim=encoder.dim,
        device=device,
        seconds=min(times) / len(readable),
        peak_mib=peak,
        parameters=parameters,
        gflops=gflops,
    )


def arm_costs(
    arms: Sequence[ArmParts], encoders: Sequence[EncoderCost], sizes: Mapping[str, int]
) -> list[ArmCost]:
    """Add up what the encoders of each arm's views take.

    Args:
        arms: In the order wanted; an arm without views costs no encoder.
        encoders: One for each view.
        sizes: Bytes that each view takes in its store.
    """
    known = {cost.name: cost for cost in encoders}
    device = encoders[0].device if encoders else "cpu"
    out = []
    for arm in arms:
        used = [known[view] for view in arm.views]
        notes = "; ".join(f"{cost.name}: {cost.note}" for cost in used if cost.note)
        cache = sum(sizes[cost.name] for cost in used) / 2**20
        out.append(
            ArmCost(
                name=arm.name,
                encode_ms=None if notes else 1000 * sum(cost.seconds for cost in used),
                parameters=arm.parameters,
                encoder_parameters=None if notes else sum(cost.parameters for cost in used),
                gflops=None if notes else sum(cost.gflops for cost in used),
                peak_mib=None if notes else max((cost.peak_mib for cost in used), default=0.0),
                train_seconds=arm.train_seconds,
                cache_mib=cache,
                device=device,
                note=notes,
                load=max((cost.load for cost in used), default=0.0),
                measured=max((cost.measured for cost in used), default=""),
            )
        )
    return out


def _measure_apart(
    encoder: Encoder, sample: Sequence[Content], prepare: Prepare, device: str, seconds: float
) -> EncoderCost:
    """Measure in a fresh process; whatever goes wrong there becomes a note."""
    unknown = EncoderCost(encoder.name, encoder.modality, encoder.dim, device)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    given = (theirs, encoder, sample, prepare, device)
    process = context.Process(target=_report, args=given, daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            return replace(unknown, note=f"measuring took more than {seconds:g} seconds")
        return replace(unknown, **json.loads(ours.recv_bytes()))
    except EOFError:
        process.join()
        return replace(unknown, note=f"the measuring process ended with code {process.exitcode}")
    finally:
        process.kill()
        process.join()
        ours.close()


def _report(
    connection: Connection,
    encoder: Encoder,
    sample: Sequence[Content],
    prepare: Prepare,
    device: str,
) -> None:
    """What runs in the fresh process."""
    try:
        found = measure(encoder, sample, device=device, prepare=prepare).as_dict()
    except Exception as error:
        kind = "" if isinstance(error, PairfuseError) else f"{type(error).__name__}: "
        found = {"note": kind + first_line(error)}
    connection.send_bytes(json.dumps(found).encode())


def _evenly(contents: Sequence[Content]) -> list[Content]:
    count = min(SAMPLE, len(contents))
    return [contents[place * len(contents) // count] for place in range(count)]


def _can_read(content: Content, loaded: LoadedEncoder, prepare: Prepare) -> bool:
    try:
        prepare(content, loaded)
    except (DataError, OSError):
        return False
    return True


def _prepared(
    content: Content,
    loaded: LoadedEncoder,
    *,
    max_pixels: int = MAX_PIXELS,
    max_image_bytes: int = MAX_IMAGE_BYTES,
) -> EncoderInput:
    if isinstance(content, str):
        return loaded.prepare(content)
    text, path = content if isinstance(content, tuple) else (None, content)
    data = read_picture(path, max_bytes=max_image_bytes)
    image = open_image(data, max_pixels=max_pixels, draft=getattr(loaded, "draft", 0))
    return loaded.prepare(image if text is None else (text, image))


def _encode(
    encoder: Encoder, loaded: LoadedEncoder, sample: Sequence[Content], prepare: Prepare
) -> None:
    """Prepare in threads, then encode batches of about the same length."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        inputs = list(pool.map(lambda content: prepare(content, loaded), sample))
    inputs.sort(key=lambda each: -each.size)
    for start in range(0, len(inputs), encoder.batch_size):
        loaded.encode(inputs[start : start + encoder.batch_size])


def _counted(encoder: Encoder, sample: Sequence[Content], prepare: Prepare) -> tuple[int, float]:
    """Parameters, and billions of operations for one input alone.

    Counted on the plain network in fp32: torch's counter does not see products of packed weights.
    """
    if "torch" not in sys.modules:
        return 0, 0.0  # an encoder without a network
    from torch.nn.modules.module import register_module_forward_pre_hook
    from torch.utils.flop_counter import FlopCounterMode

    loaded = _plain(encoder).load("cpu")
    inputs = [prepare(content, loaded) for content in sample]
    sizes: dict[int, int] = {}

    def note(module: Any, _: Any) -> None:
        sizes.update({id(each): each.numel() for each in module.parameters()})

    hook = register_module_forward_pre_hook(note)
    try:
        with FlopCounterMode(display=False) as counter:
            for each in inputs:
                loaded.encode([each])
    finally:
        hook.remove()
    return sum(sizes.values()), counter.get_total_flops() / len(inputs) / 1e9


def _plain(encoder: Any) -> Encoder:
    """The same encoder in fp32, whose network is not packed."""
    if isinstance(encoder, TokenEncoder):
        return _plain(encoder.plain)
    named = {field.name for field in fields(encoder)} & {"precision", "asked_precision"}
    plain: Encoder = replace(encoder, **dict.fromkeys(named, "fp32")) if named else encoder
    return plain


def _peak_mib(device: str) -> float:
    """Peak memory, of the device if it is a GPU, else of this process."""
    if device.startswith("cuda") and "torch" in sys.modules:
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss would begin with what the parent process took
        for line in status.read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

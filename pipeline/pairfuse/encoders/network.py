"""Networks on devices: which device, which precision, loading without noise, results checked."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from pairfuse.arrays import Floats
from pairfuse.encoders.base import EncoderOutput, Precision
from pairfuse.encoders.bf16_probe import bf16_is_faster
from pairfuse.encoders.checkpoint_folder import first_line
from pairfuse.encoders.tokens import Encoded, Tokens, offsets_of
from pairfuse.errors import EncoderError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Where Linux shows that a driver of a GPU that torch can use is loaded (CUDA, ROCm, WSL, Tegra).
GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/nvmap")


def resolve_device(device: str = "auto") -> str:
    """The first of the devices that a name stands for: training takes one."""
    return resolve_devices(device)[0]


def resolve_devices(device: str = "auto") -> list[str]:
    """Devices named, `cuda:0,cuda:1`; `auto` is all of cuda, else mps, else cpu; `cuda` is all.

    Raises:
        EncoderError: A name is unknown, this machine has no such device, or kinds are mixed.
    """
    if device == "auto":
        return _all_cuda() or ["mps" if _may_have_gpu() and _has_mps() else "cpu"]
    if device == "cuda" and (found := _all_cuda()):
        return found
    named = [_found_here(name.strip()) for name in device.split(",")]
    kinds = sorted({name.partition(":")[0] for name in named})
    if len(kinds) > 1:  # the precision, which is part of what features are, goes by the kind
        raise EncoderError(f"device {device!r} mixes {' and '.join(kinds)}; name devices of a kind")
    return named


def _all_cuda() -> list[str]:
    if not _may_have_gpu():
        return []
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [f"cuda:{index}" for index in range(count)] if count > 1 else ["cuda"] * count


def _has_mps() -> bool:
    import torch

    return torch.backends.mps.is_available()


def _found_here(device: str) -> str:
    if device == "cpu":
        return device
    kind, _, index = device.partition(":")
    if kind not in ("cuda", "mps", "cpu") or (index and not index.isdecimal()):
        raise EncoderError(
            f"device {device!r} is not known; use auto, cpu, cuda, mps, or several: cuda:0,cuda:1"
        )
    import torch

    has_mps = _has_mps()
    count = torch.cuda.device_count() if kind == "cuda" else int(kind == "cpu" or has_mps)
    if int(index or 0) >= count:
        raise EncoderError(
            f"device {device} is not available here (found {count} {kind}); use auto"
        )
    return device


def _may_have_gpu() -> bool:
    """Asked before torch is, whose import takes seconds."""
    return sys.platform != "linux" or any(Path(driver).exists() for driver in GPU_DRIVERS)


def resolve_precision(precision: str, device: str) -> Precision:
    """The precision that `auto` stands for on this device: bf16 where it is faster, else fp32."""
    if precision == "auto":
        if device == "cpu":
            return "bf16" if bf16_is_faster() else "fp32"
        if not device.startswith("cuda"):
            return "fp32"
        import torch

        supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if supported else "fp32"
    if precision not in get_args(Precision):
        raise EncoderError(f"precision {precision!r} is not known; use auto, fp32, bf16 or fp16")
    if precision == "fp16" and device == "cpu":
        raise EncoderError("precision fp16 does not run on the cpu; use auto, fp32 or bf16")
    return cast(Precision, precision)


def torch_dtype(precision: Precision) -> torch.dtype:
    """The torch type of a precision."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


@contextmanager
def quiet() -> Iterator[None]:
    """Load a network without progress bars, log lines or a change to the random state."""
    import torch
    from transformers.utils import logging

    library_logging: Any = logging
    level, bars = library_logging.get_verbosity(), library_logging.is_progress_bar_enabled()
    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            yield
    finally:
        library_logging.set_verbosity(level)
        if bars:
            library_logging.enable_progress_bar()


def to_device(values: NDArray[Any], device: str) -> Tensor:
    """An array on a device; on its way to a GPU the host goes on with other work."""
    import torch

    tensor = torch.from_numpy(values)
    if not device.startswith("cuda"):
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def stack(rows: Sequence[NDArray[Any]], device: str) -> Tensor:
    """Arrays of one shape as one on a device, (B, ...): for a GPU written into pinned memory."""
    import torch

    if not device.startswith("cuda"):
        return torch.from_numpy(np.stack(rows)).to(device)
    kind = torch.from_numpy(np.empty(0, rows[0].dtype)).dtype
    pinned = torch.empty((len(rows), *rows[0].shape), dtype=kind, pin_memory=True)
    np.stack(rows, out=pinned.numpy())
    return pinned.to(device, non_blocking=True)


def to_host(features: Tensor, name: str, dim: int) -> Callable[[], Floats]:
    """Begin to bring features (B, D) to the host as float32; the result waits for them.

    Waiting refuses a wrong width and non-numbers.
    """
    fetch = _fetching(features.float())
    return lambda: _checked(fetch(), name, dim)


def with_tokens(
    fetch: Callable[[], Floats], hidden: Tensor | None, lengths: Sequence[int], name: str, dim: int
) -> Callable[[], EncoderOutput]:
    """Begin to bring the sequences, too, to the host, as float16; the result waits for both.

    Args:
        fetch: Waits for the pooled features.
        hidden: A sequence (B, T, D) or a map (B, D, H, W), whose cells are tokens row by row.
        lengths: Tokens of each row that are kept, from the first; none keeps all.
        dim: Width of a token.

    Waiting refuses a wrong width, non-numbers and numbers that float16 does not hold.

    Raises:
        EncoderError: The network gives no sequence.
    """
    if hidden is None:
        raise EncoderError(
            f"encoder {name} gives no sequence; leave it out, or run without --tokens"
        )
    if hidden.ndim == 4:
        hidden = hidden.flatten(2).transpose(1, 2)  # (B, H * W, D)
    fetch_tokens = _fetching(hidden.half())

    def wait() -> Encoded:
        found = fetch_tokens()
        if found.ndim != 3 or found.shape[2] != dim:
            raise EncoderError(
                f"encoder {name} gave a sequence of shape {found.shape}, expected (B, T, {dim})"
            )
        kept = list(lengths) or [found.shape[1]] * len(found)
        values = np.concatenate([row[:length] for row, length in zip(found, kept, strict=True)])
        if not np.isfinite(values).all():
            raise EncoderError(
                f"encoder {name} gave tokens that float16 does not hold; run without --tokens"
            )
        return Encoded(fetch(), Tokens(values, offsets_of(kept)))

    return wait


def _fetching(values: Tensor) -> Callable[[], NDArray[Any]]:
    """Begin to bring a tensor to the host; the result waits for it."""
    if values.device.type != "cuda":
        found: NDArray[Any] = values.cpu().numpy()
        return lambda: found
    import torch

    pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    pinned.copy_(values, non_blocking=True)
    cuda: Any = torch.cuda
    copied = cuda.Event()
    copied.record(cuda.current_stream(values.device))

    def wait() -> NDArray[Any]:
        copied.synchronize()
        return pinned.numpy().copy()  # pinned memory is for the next batch

    return wait


def _checked(found: Floats, name: str, dim: int) -> Floats:
    if found.ndim != 2 or found.shape[1] != dim:
        raise EncoderError(
            f"encoder {name} gave features of shape {found.shape}, expected (B, {dim}); "
            "its config.json does not describe its weights"
        )
    if not np.isfinite(found).all():
        raise EncoderError(f"encoder {name} gave values that are not finite; use precision fp32")
    return found


def load_network(
    folder: Path,
    precision: Precision,
    device: str,
    *,
    untrained: Sequence[str] = (),
    without: Sequence[str] = (),
    family: str = "AutoModel",
) -> Any:
    """The checkpoint's network on a device: from safetensors alone, no code of its own, frozen.

    Args:
        untrained: Parts (beginnings of parameter names) that may lack weights as they are not used.
        without: Parts that are dropped before the network goes to the device.
        family: The class of transformers that reads it.

    Raises:
        EncoderError: It cannot be loaded, or lacks weights that the features need.
    """
    with quiet():
        import transformers

        try:
            network, info = getattr(transformers, family).from_pretrained(
                folder,
                dtype=torch_dtype(precision),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except Exception as error:
            raise EncoderError(f"{folder} cannot be loaded: {first_line(error)}") from None
    lacking = sorted(key for key in info["missing_keys"] if not key.startswith(tuple(untrained)))
    if lacking:
        raise EncoderError(
            f"{folder} lacks {len(lacking)} trained tensors that are needed, first {lacking[0]}; "
            "use another pooling or a complete checkpoint"
        )
    from pairfuse.encoders.fast_inference import pack_linears

    network.requires_grad_(False)
    for part in without:
        setattr(network, part, None)
    return pack_linears(network.eval().to(device))

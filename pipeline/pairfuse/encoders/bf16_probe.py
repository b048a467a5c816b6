"""Probe: whether bf16 is clearly faster than fp32 on this processor; measured once, remembered.

The verdict decides what precision `auto` is, which is part of the fingerprint: it must not change
from run to run. So the margin is wide, the best of several rounds counts, and it is written down.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pairfuse.files import write_json

#: Rounds, rows, inputs and outputs of the products that are timed: a tenth of a second in all.
ROUNDS, SHAPE = 6, (512, 768, 768)
#: bf16 counts as faster from here on; processors that have it in hardware are at 2 to 3.
CLEARLY = 1.5


def bf16_is_faster() -> bool:
    """Whether matrix products in bf16 are clearly faster here; imports torch only to measure."""
    return _verdict(place(), _machine())


def place() -> Path:
    """Where verdicts are kept, by machine: the user's cache folder."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        root = root.expanduser()
    except RuntimeError:  # a user without a home
        root = Path(tempfile.gettempdir())
    return root / "pairfuse" / "probe.json"


def measure() -> float:
    """How many times faster a matrix product is in bf16 than in fp32."""
    import torch

    rows, inputs, outputs = SHAPE
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    operands = {
        dtype: (torch.ones(rows, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype))
        for dtype in best
    }
    with torch.inference_mode():
        for _ in range(ROUNDS):
            for dtype, (left, right) in operands.items():
                start = time.perf_counter()
                torch.nn.functional.linear(left, right)
                best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.float32] / best[torch.bfloat16]


@cache
def _verdict(file: Path, machine: str) -> bool:
    known = _read(file)
    found = known.get(machine)
    if isinstance(found, (int, float)):
        return found > CLEARLY
    ratio = round(measure(), 2)
    with contextlib.suppress(OSError):  # not remembered, then: it is measured again next time
        write_json(file, {**known, machine: ratio})
    return ratio > CLEARLY


def _read(file: Path) -> dict[str, Any]:
    """What is remembered; a file that cannot be read, or holds something else, is no memory."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _machine() -> str:
    """Processor, number of cores and torch's version, in words."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):  # only Linux says more
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        wanted = ("vendor_id", "model name", "cpu family", "model\t", "stepping")
        parts = [line.partition(":")[2].strip() for line in lines if line.startswith(wanted)]
        name = " ".join(dict.fromkeys(parts)) or name
    try:
        torch_version = version("torch")
    except PackageNotFoundError:
        torch_version = "unknown"
    return f"{name}, {os.cpu_count()} cores, torch {torch_version}"

"""Threads: how many compute at a time, and that those which wait for another sleep.

The threads of one operation wait for each other at its end. OpenMP lets them spin meanwhile, which
takes the core from whoever has work to do on it. Measured on two busy cores (load 5 to 7), medians
of five: MiniLM took 1.8 s for 128 texts with one thread, 4.7 s with two that spin and 1.4 s with
two that sleep; EfficientNet-Lite0 2.5, 5.6 and 2.5 s for 32 images. NumPy's BLAS cannot be told to
sleep, so it has one thread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: What OpenMP and the BLAS libraries read when they are loaded, here and in processes started here.
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: Multiplications of a step of training, or of a scaling, below which one thread computes it: a
#: step of five models on 256 rows each has 80 million and was no faster with two.
SMALL = 200_000_000


def sleep_while_waiting() -> None:
    """Let threads sleep while they wait; has to be said before NumPy and torch are imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def set_threads(count: int) -> None:
    """Compute with so many threads from now on, also in processes started from here; 0: as is."""
    if not count:
        return
    for name in VARIABLES:
        os.environ[name] = str(count)
    if "numpy" in sys.modules:  # it has read the variables already
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        threadpool_limits(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


@contextmanager
def threads_for(multiplications: int) -> Iterator[None]:
    """Inside, one thread computes what is small; a number that was set stays as it is."""
    import torch

    before = torch.get_num_threads()
    if multiplications < SMALL and VARIABLES[0] not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

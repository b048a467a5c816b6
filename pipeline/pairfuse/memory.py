"""Memory: how this process asks the system for memory, so that networks are not slowed by it."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

#: glibc's numbers of two settings, and the size up to which freed memory is kept for the next use.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 2**30


@cache
def keep_memory() -> None:
    """Keep freed memory instead of handing it back after each layer of a network.

    By default glibc asks the kernel anew for every large tensor, which then zeroes it page by page:
    EfficientNet-Lite0 spends half of its time on that. Does nothing where the C library is another.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        setting = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has no mallopt
        return
    setting(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    setting(_M_TRIM_THRESHOLD, _KEPT_BYTES)

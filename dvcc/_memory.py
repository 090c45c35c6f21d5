"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD


def return_large_blocks(*, least: int, kept: int) -> None:
    """Have glibc give every block of `least` bytes or more back to the system as soon as it is freed.

    kept: the most bytes that may stay free at the end of its heap. By itself glibc raises both up to 32 and 64 MiB as such blocks
    are freed. Pictures of several decoders and a network's arrays then share its heap, and leave gaps there. Other C libraries
    have no such setting, and are left as they are.
    """
    if mallopt := _of_glibc("mallopt"):
        mallopt(_MMAP_THRESHOLD, least)
        mallopt(_TRIM_THRESHOLD, kept)


def return_free_blocks() -> None:
    """Have glibc give all that is free in its heap back to the system, whatever its size."""
    if trim := _of_glibc("malloc_trim"):
        trim(0)


def _of_glibc(name: str) -> Any:
    """Return a function that glibc has; None elsewhere."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None

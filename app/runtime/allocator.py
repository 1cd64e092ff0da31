"""Large blocks of memory that grow without being copied.

When an array of a million elements grows, Python asks for a larger block, and the C library copies
the old one over: 28 ms for 30 MB, in one go. A block that it has from the system by itself (mmap)
grows by moving its pages, which takes 1 ms. glibc begins with that, but each large block that is
freed raises the size from which it does so, up to 32 MB. So that size is set here.

For a process that is ours (`triode serve`); an embedding program decides for itself.
"""

from __future__ import annotations

import ctypes
from typing import Final

# malloc.h
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
# To copy less takes some 3 ms.
LARGE_BYTES: Final = 4 * 1024 * 1024
# What may stay at the end of the heap; twice the other one, as glibc itself has it.
KEPT_BYTES: Final = 2 * LARGE_BYTES


def large_blocks_apart() -> bool:
    """Have the system give large blocks, from now on. False: this is no glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    mallopt.restype = ctypes.c_int
    large = mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
    return bool(large and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))

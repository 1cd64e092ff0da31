"""What the C library is told about large blocks of memory."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from triode.app.runtime import allocator

GLIBC = platform.libc_ver()[0] == "glibc"
# Frees a block of 16 MB, which raises glibc's own bound to that. Then it says how much of the heap
# a list of 8 MB takes; what stands apart takes none.
HEAP = """
import ctypes, sys
from triode.app.runtime.allocator import large_blocks_apart
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
if sys.argv[1] == "apart":
    assert large_blocks_apart()
bytearray(16 << 20)
before = libc.mallinfo2().hblks
block = [None] * (1 << 20)
print(libc.mallinfo2().hblks - before)
"""


@pytest.mark.skipif(
    not GLIBC or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="of glibc 2.33 and later"
)
@pytest.mark.parametrize(("how", "apart"), [("apart", 1), ("usual", 0)])
def test_large_blocks_are_apart_also_after_larger_ones_were_freed(how: str, apart: int) -> None:
    """Only those grow without being copied."""
    told = subprocess.run(
        [sys.executable, "-c", HEAP, how], capture_output=True, text=True, check=True
    )
    assert int(told.stdout) == apart


def test_another_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert not allocator.large_blocks_apart()

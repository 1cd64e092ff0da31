"""JSON has no cycles, so the garbage collector need not look at it.

CPython's collector visits each element of each container that is new: 7 000 arrays of 500 elements
hold everybody up for 40 ms, and one of millions does so three times, whenever enough else has been
made. So wide containers of the document are taken off its list. Like all JSON they are freed when
their last reference goes. Narrow ones stay: to visit those, their number bounds what it takes.

A dict comes back on the list by itself when a container becomes its member (an array does not), so
whoever changes a wide one takes it off again.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# Elements. The young generations are 8 000 containers: to visit so many of this width takes 3 ms.
WIDE: Final = 64


def _in_cpython() -> Callable[[Any], object]:
    try:
        function = ctypes.pythonapi.PyObject_GC_UnTrack
    except AttributeError:  # another Python, whose collector works in another way
        return type
    function.argtypes = [ctypes.py_object]
    function.restype = None
    return function


# For a container that is no part of a cycle, and never becomes one.
untrack: Final = _in_cpython()

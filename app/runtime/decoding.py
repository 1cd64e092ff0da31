"""Decode JSON that a peer has sent; more than a little gives way to others.

What is large has to be freed little by little too, whatever becomes of it: it may be refused, or
fail, anywhere. So a value of a large text is on a list as well (`large`), until nobody else holds
it (`app/service/deferred_free.py`).
"""

from __future__ import annotations

from typing import Final

import trio

from triode.app.runtime.turns import exhaust
from triode.store.value import Json, decode, decode_steps

# Freeing less takes under a millisecond.
LARGE_BYTES: Final = 128 * 1024
large: Final[trio.lowlevel.RunVar[list[Json] | None]] = trio.lowlevel.RunVar("large", None)
# What takes longest for its size (many small members) takes some 2 ms.
AT_ONCE_BYTES: Final = 16 * 1024


async def decode_in_turns(data: bytes | bytearray | memoryview | str, *, max_depth: int) -> Json:
    """As `store.value.decode`; waits only when it is much. `data` must not change meanwhile.

    Raises JsonError. Cancelled, nothing is left behind.
    """
    if len(data) <= AT_ONCE_BYTES:
        return decode(data, max_depth=max_depth)
    value = await exhaust(decode_steps(data, max_depth=max_depth, slice_bytes=AT_ONCE_BYTES))
    if len(data) > LARGE_BYTES and isinstance(value, dict | list):
        values = large.get()
        if values is not None:
            values.append(value)
    return value

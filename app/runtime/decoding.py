"""Decode JSON that a peer has sent; more than a little gives way to others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from triode.app.runtime.turns import exhaust
from triode.store.value import decode, decode_steps

if TYPE_CHECKING:
    from triode.store.value import Json

# What takes longest for its size (many small members) takes some 2 ms.
AT_ONCE_BYTES: Final = 16 * 1024


async def decode_in_turns(data: bytes | bytearray | memoryview | str, *, max_depth: int) -> Json:
    """As `store.value.decode`; waits only when it is much. `data` must not change meanwhile.

    Raises JsonError. Cancelled, nothing is left behind.
    """
    if len(data) <= AT_ONCE_BYTES:
        return decode(data, max_depth=max_depth)
    return await exhaust(decode_steps(data, max_depth=max_depth, slice_bytes=AT_ONCE_BYTES))

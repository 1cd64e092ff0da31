"""What a large write asks for, written down in turns: in one step 16 MB of JSON would keep all
others waiting for 40 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio
from msgspec.structs import replace

from triode.app.runtime.turns import turn
from triode.store.json_type import JsonError
from triode.store.operation import Append, Batch, Merge, Patch, Push, Set
from triode.store.value import encode_steps

if TYPE_CHECKING:
    from triode.store.entry import Beside
    from triode.store.operation import Operation

# Values, and characters of text, that are encoded at once: some tenths of a millisecond.
AT_ONCE_ITEMS: Final = 2000
CHARS_AN_ITEM: Final = 64
JOINED_AT_ONCE_BYTES: Final = 1024 * 1024


def is_long(op: Operation | Beside) -> bool:
    """Whether to encode it takes longer than a turn. Costs little, whatever it is."""
    if isinstance(op, Set | Append | Push):
        return is_large(op.value)
    if isinstance(op, Merge | Patch):
        return is_large(op.patch)
    return isinstance(op, Batch) and any(map(is_long, op.ops))


async def written_down(op: Operation) -> Operation:
    """The same, with its large values as JSON: to be encoded, and for nothing else. Raises
    `JsonError`.
    """
    if isinstance(op, Batch):
        return replace(op, ops=tuple([await written_down(part) for part in op.ops]))
    if not is_long(op):
        return op
    if isinstance(op, Set | Append | Push):
        return replace(op, value=await _json(op.value))
    assert isinstance(op, Merge | Patch)
    return replace(op, patch=await _json(op.patch))


async def _json(value: Any) -> Any:
    parts: list[bytes] = []
    try:
        for part in encode_steps(value):
            parts.append(part)
            await turn()
    except (TypeError, UnicodeEncodeError, RecursionError) as error:
        raise JsonError(f"it cannot be written down as JSON: {error}") from error
    return msgspec.Raw(await _joined(parts))


async def _joined(parts: list[bytes]) -> bytes:
    """In a thread if it is much: from 1 MiB on CPython joins bytes without its lock."""
    if sum(map(len, parts)) < JOINED_AT_ONCE_BYTES:
        return b"".join(parts)
    return await trio.to_thread.run_sync(b"".join, parts)


def is_large(value: Any) -> bool:
    """Whether there is more in it than is encoded at once. Looks at no more than that."""
    kind = type(value)
    if kind is not dict and kind is not list:
        return kind is str and len(value) > AT_ONCE_ITEMS * CHARS_AN_ITEM
    left = AT_ONCE_ITEMS
    todo = [value]
    while todo:
        inner = todo.pop()
        left -= 1 + len(inner)
        if left < 0:
            return True
        for member in inner.values() if type(inner) is dict else inner:
            kind = type(member)
            if kind is dict or kind is list:
                todo.append(member)
            elif kind is str:
                left -= len(member) // CHARS_AN_ITEM
    return left < 0

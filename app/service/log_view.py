"""The entries of a log for people: what was written, when, by whom. Never what a writer may do, and
no long values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from triode.app.log.log import LogRefused
from triode.app.runtime.decoding import decode_in_turns
from triode.store.change import Position
from triode.store.entry import EntryError, batch_lines
from triode.store.json_type import JsonError
from triode.store.path import format_path

if TYPE_CHECKING:
    from triode.app.service.snapshot_reading import Readable

# A longer entry is shown without what it holds.
SHOWN_BYTES: Final = 4096
# At once, as they were written.
MOST_BYTES: Final = 1024 * 1024
DEPTH: Final = 600
_CONTENT: Final = frozenset({"value", "patch", "ops", "paths", "rooms", "body"})


async def entries(kept: Readable, epoch: str, since: int, last: int) -> list[dict[str, Any]]:
    """Some of those after the number `since`, up to `last`, without a hole; none: there are none.

        {"id": "k3j…:7", "time": 1767225600000, "who": "shop", "op": "set", "path": ".a", …}

    A long one has `bytes` in place of its content. Raises `LogRefused`.
    """
    found: list[dict[str, Any]] = []
    size = 0
    for batch in await kept.read(since) if since < last else []:
        try:
            lines = batch_lines(batch.data)
        except EntryError as error:
            raise LogRefused(f"entries {batch.first} to {batch.last}: {error}") from error
        for line in lines[max(since + 1 - batch.first, 0) : last + 1 - batch.first]:
            if size > MOST_BYTES:
                return found
            size += len(line)
            since += 1
            found.append({"id": str(Position(epoch, since))} | await _shown(line))
    return found


async def _shown(line: bytes) -> dict[str, Any]:
    try:
        entry: Any = await decode_in_turns(line, max_depth=DEPTH)
        op = dict(entry["op"])
        # Before it is made readable: there may be thousands of operations in it.
        if len(line) > SHOWN_BYTES:
            op = {name: value for name, value in op.items() if name not in _CONTENT}
        op = _operation(op)
    except (JsonError, TypeError, KeyError, msgspec.ValidationError) as error:
        raise LogRefused(f"a damaged entry: {error}") from error
    if len(line) > SHOWN_BYTES:
        op["bytes"] = len(line)
    return {"time": entry["time_ms"], "who": entry.get("by", "")} | op


def _operation(logged: dict[str, Any]) -> dict[str, Any]:
    """As a command would say it."""
    op = dict(logged)
    if op["op"] == "record":
        return {"op": "record", "name": op["name"], "removed": op.get("value") is None}
    if "path" in op:
        op["path"] = format_path(tuple(op["path"]))
    if op.get("if_value"):
        expected = op.pop("if_value")
        op["if"] = {expected["test"]: expected["value"]}
    if op["op"] == "expire":
        return {"op": "expire", "paths": [format_path(tuple(path)) for path in op.get("paths", ())]}
    if "ttl_ms" in op:
        op["ttl"] = op.pop("ttl_ms") / 1000
    if op.get("if_position"):
        op["if"] = str(msgspec.convert(op.pop("if_position"), Position))
    if "ops" in op:
        op["ops"] = [_operation(part) for part in op["ops"]]
    return op

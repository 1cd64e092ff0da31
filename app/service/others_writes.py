"""The writes of a batch that another process has put into the log, to be carried out here, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from triode.app.log.log import LogRefused
from triode.app.runtime.decoding import AT_ONCE_BYTES, decode_in_turns
from triode.app.runtime.turns import turn
from triode.app.service.under_way import Write
from triode.limits.grant import FULL, Grant
from triode.limits.principal import Principal
from triode.store.entry import Entry, EntryError, batch_lines, decode_entry
from triode.store.json_type import JsonError

if TYPE_CHECKING:
    from triode.app.log.log import Batch

# As deep as a document may be, and what is around a value in an entry.
DEPTH: Final = 600
# Between two turns.
SLICE_BYTES: Final = 256 * 1024


async def writes_of(batch: Batch) -> list[Write]:
    """They belong to nobody here: nobody waits for their answer, and what they cost is charged
    where they were made. Raises `LogRefused` for what cannot be read.
    """
    writes: list[Write] = []
    size = 0
    try:
        for line in batch_lines(batch.data):
            entry = await _entry(line)
            grant = FULL if entry.grant is None else Grant.from_json(entry.grant)
            by = Principal("", entry.by, grant)
            writes.append(Write(entry.op, by, line, entry.time_ms, None, entry.key))
            size += len(line)
            if size > SLICE_BYTES:
                size = 0
                await turn()
    except (EntryError, JsonError, msgspec.ValidationError, ValueError) as error:
        raise LogRefused(f"entries {batch.first} to {batch.last}: {error}") from error
    if len(writes) != batch.last + 1 - batch.first:
        raise LogRefused(f"entries {batch.first} to {batch.last} are not all there")
    return writes


async def _entry(line: bytes) -> Entry:
    if len(line) <= AT_ONCE_BYTES:
        return decode_entry(line)
    return msgspec.convert(await decode_in_turns(line, max_depth=DEPTH), Entry)

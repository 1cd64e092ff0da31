"""Tokens that outlive the process: each is a record in the log, without its secret.

With a log a token holds from the moment its record is applied, here and wherever the same log is
applied, and no longer from the moment the record goes. Without one it ends with the process.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from triode.app.service.token_records import end_token, name_of, token_of
from triode.app.wire.refusal import Refusal
from triode.limits.principal import OWNER
from triode.store.records import Record

if TYPE_CHECKING:
    from triode.app.service.triode import Triode
    from triode.limits.grant import Grant
    from triode.limits.principal import Principal
    from triode.limits.token import Issued

SWEEP_S: Final = 60.0
# Names that are looked at in one step.
SLICE: Final = 2000


async def issue(
    triode: Triode, grant: Grant, *, ttl_s: float | None, label: str, by: Principal = OWNER
) -> Issued:
    """A new token, which holds. Raises `TokensFull`, ValueError, and `Refusal` as a write does."""
    now = triode.gate.clock.unix_s()
    if triode.journal is None:
        return triode.tokens.issue(grant, now=now, ttl_s=ttl_s, label=label)
    issued, row = triode.tokens.make(grant, now=now, ttl_s=ttl_s, label=label)
    await triode.journal.write(Record(name_of(issued.info.id), row), by)
    return issued


async def revoke(triode: Triode, token_id: str, *, by: Principal = OWNER) -> bool:
    """End a token and all that was opened with it; False when there is none of that id. Raises
    `Refusal` as a write does.
    """
    if triode.tokens.get(token_id, triode.gate.clock.unix_s()) is None:
        return False
    name = name_of(token_id)
    # A configured one is not in the log: the configuration brings it back.
    if triode.journal is not None and name in triode.store.records:
        await triode.journal.write(Record(name), by)
    else:
        end_token(triode.tokens, triode.hub, token_id)
    return True


def take_over(triode: Triode) -> None:
    """The log was read: what it says of tokens holds."""
    for name, text in triode.store.records.rows().items():
        triode.record_kept(name, msgspec.json.decode(text))


async def drop_ended(triode: Triode) -> None:
    """Take the tokens that have ended out of the log, now and then; until cancelled."""
    while True:
        await trio.sleep(SWEEP_S)
        now = triode.gate.clock.unix_s()
        triode.tokens.sweep(now)
        for number, name in enumerate(triode.store.records.rows(), 1):
            token_id = token_of(name)
            if token_id is not None and triode.tokens.get(token_id, now) is None:
                await _drop(triode, name)
            if number % SLICE == 0:
                await trio.lowlevel.checkpoint()


async def _drop(triode: Triode, name: str) -> None:
    journal = triode.journal
    assert journal is not None
    # Nobody waits for it: what is not kept is tried again.
    with suppress(Refusal):
        await journal.submit(Record(name), OWNER)

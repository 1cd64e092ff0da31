"""Why a connection ends: one table for close codes, `closing` reasons and metric labels
(docs/wire.md 5, docs/design.md 8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from triode.app.wire.frame import Kind

# "goodbye": what it is owed goes out, then the close frame or `closing`.
# "at once": what it is owed is thrown away, and its connection is reset.
# "silently": the connection is over already, or whoever serves it closes it.
How = Literal["goodbye", "at once", "silently"]


@dataclass(frozen=True, slots=True)
class End:
    """A reason for which a connection ends.

    `label` is the metric label and the SSE `closing` reason, `code` the WebSocket close code,
    `retry` whether a client may come back unchanged.
    """

    label: str
    code: int
    retry: bool


class Ended(NamedTuple):
    """An end that has come, for the log of ends. `at` is Trio's time."""

    at: float
    client: str
    kind: Kind
    reason: str
    ip: str


CLIENT_CLOSED = End("client_closed", 1000, retry=True)
CLIENT_LOST = End("client_lost", 1006, retry=True)
NORMAL = End("closed", 1000, retry=True)
GOING_AWAY = End("going_away", 1001, retry=True)
PROTOCOL = End("protocol_error", 1002, retry=True)
NOT_TEXT = End("invalid_utf8", 1007, retry=True)
SLOW = End("slow", 1008, retry=True)
ABUSE = End("too_many_errors", 1008, retry=True)
MEMORY = End("memory", 1013, retry=True)
TOO_BIG = End("message_too_big", 1009, retry=True)
FAULT = End("internal_error", 1011, retry=True)
BUSY = End("too_much_unfinished", 1013, retry=True)
RESTART = End("restart", 1012, retry=True)
IDLE = End("idle", 1001, retry=True)
LEASE = End("lease", 1001, retry=True)
WRITE_TIMEOUT = End("write_timeout", 1006, retry=True)
TOKEN_ENDED = End("token_ended", 4401, retry=False)
NOT_ALLOWED = End("not_allowed", 4403, retry=False)
RATE = End("rate", 4429, retry=False)

"""Why a connection ends: one table for close codes, `closing` reasons and metric labels. What each
means to a client stands in docs/wire.md, "How a connection ends"; a test holds the two together.
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

    `label` is the metric label and the SSE `closing` reason, `code` the WebSocket close code.
    Clients go by these two: after a code of 44xx they do not come back unchanged.
    """

    label: str
    code: int


class Ended(NamedTuple):
    """An end that has come, for the log of ends. `at` is Trio's time."""

    at: float
    client: str
    kind: Kind
    reason: str
    ip: str


CLIENT_CLOSED = End("client_closed", 1000)
CLIENT_LOST = End("client_lost", 1006)
NORMAL = End("closed", 1000)
PROTOCOL = End("protocol_error", 1002)
NOT_TEXT = End("invalid_utf8", 1007)
SLOW = End("slow", 1008)
ABUSE = End("too_many_errors", 1008)
MEMORY = End("memory", 1013)
TOO_BIG = End("message_too_big", 1009)
FAULT = End("internal_error", 1011)
BUSY = End("too_much_unfinished", 1013)
RESTART = End("restart", 1012)
IDLE = End("idle", 1001)
LEASE = End("lease", 1001)
WRITE_TIMEOUT = End("write_timeout", 1006)
TOKEN_ENDED = End("token_ended", 4401)
NOT_ALLOWED = End("not_allowed", 4403)
RATE = End("rate", 4429)

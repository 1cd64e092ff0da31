"""What can be set, with its default."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024
# What a server takes.
MAX_EVENT: Final = (1024, 1 << 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to connect, and how much to hold. Raises `ValueError` for what makes no sense.

    | option | what it is |
    |---|---|
    | `connect_s` | seconds for one attempt: TCP, TLS, the handshake and the server's first frame |
    | `attempts` | tries of the *first* connection, None: until it works; one that was made and |
    | | breaks is sought for ever |
    | `delay_s` | seconds before the second attempt; doubled by each failure, reset by a success |
    | `max_delay_s` | the most seconds between two attempts |
    | `jitter` | which share of a delay is random, 0 to 1 |
    | `queue` | commands that wait while there is no connection; the oldest are dropped first |
    | `idle_s` | seconds of silence after which the server is asked for a sign of life; after as |
    | | many again without one the connection is given up |
    | `max_message_bytes` | the largest event taken, a whole value being one event |
    | `max_event` | bytes of an event, 1024 or more, beyond which it tells of a value without |
    | | holding it: a `Fetch` stands in its place; None: every value is sent |
    | `ssl_context` | for `https:` and `wss:`; None: the system's certificates |
    """

    connect_s: float = 20.0
    attempts: int | None = 5
    delay_s: float = 1.0
    max_delay_s: float = 30.0
    jitter: float = 0.5
    queue: int = 1000
    idle_s: float = 15.0
    max_message_bytes: int = 64 * MIB
    max_event: int | None = None
    ssl_context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        for name in ("connect_s", "delay_s", "max_delay_s", "queue", "idle_s", "max_message_bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)!r}")
        if self.attempts is not None and self.attempts < 1:
            raise ValueError(f"attempts must be at least 1, or None, not {self.attempts!r}")
        if self.max_event is not None and not MAX_EVENT[0] <= self.max_event <= MAX_EVENT[1]:
            raise ValueError(
                f"max_event must be {MAX_EVENT[0]} to {MAX_EVENT[1]} bytes, or None,"
                f" not {self.max_event!r}"
            )
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be between 0 and 1, not {self.jitter!r}")

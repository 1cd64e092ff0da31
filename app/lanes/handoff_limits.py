"""How long a connection that Hypercorn serves may take for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HandoffLimits:
    """Deadlines of a handed-off connection, in seconds, and the size of a head, in bytes.

    `write_deadline_s` is for each 64 KiB: a slow reader of a large answer may take long, one that
    stands still not. `body_idle_s` is the longest silence inside a request body.
    """

    keep_alive_s: float = 15.0
    head_deadline_s: float = 10.0
    write_deadline_s: float = 10.0
    body_idle_s: float = 60.0
    linger_s: float = 2.0
    max_head_bytes: int = 16 * 1024

"""How long a member of a cluster waits, and for what. All in seconds."""

from __future__ import annotations

from typing import Final

# Bids are waited for so long by the server's clock, where not all are there sooner.
WINDOW_S: Final = 0.5
LEASE_S: Final = 10.0
# Attaching is the sign of life, and what finds a server that lost something without a word.
PROBE_S: Final = 1.0
# While the server recovers, or has no snapshot to begin with.
POLL_S: Final = 0.05
WAIT_S: Final = 0.5
# Without a reply for so long the connection is not trusted.
REPLY_S: Final = 2.0
# Without contact for so long the clients are told.
NOT_LIVE_S: Final = 3.0

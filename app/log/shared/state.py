"""How a member of a cluster stands with the server of its log."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """How it stands with the server."""

    AWAY = "away"
    ASKING = "asking"
    RECOVERING = "recovering"
    OPEN = "open"

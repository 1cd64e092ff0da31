"""What happens to an event for a subscriber whose queue is full (docs/wire.md, `GET /events`)."""

from __future__ import annotations

from enum import StrEnum


class Policy(StrEnum):
    """A subscriber's own choice; the value is its name on the wire."""

    DROP_NEWEST = "drop-newest"
    DROP_OLDEST = "drop-oldest"
    LATEST = "latest"
    DISCONNECT = "disconnect"


CHOICES = tuple(policy.value for policy in Policy)


def parse_policy(text: str) -> Policy:
    """The policy of that exact name; raises ValueError naming the choices."""
    try:
        return Policy(text)
    except ValueError:
        shown = repr(text if len(str(text)) <= 40 else str(text)[:40] + "…")
        raise ValueError(f"policy {shown} is not one of: {', '.join(CHOICES)}") from None

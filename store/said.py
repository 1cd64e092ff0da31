"""A message to rooms, as a shared log keeps it: so all who share the log hear it, in one order."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Say(Struct, frozen=True, tag_field="op", tag="say", omit_defaults=True):
    """It changes nothing of the document. `body` has the members of the event, but for `room`.
    `omitted` is the id of the client that sent it and does not hear it.
    """

    rooms: tuple[str, ...]
    body: dict[str, Any]
    omitted: str | None = None

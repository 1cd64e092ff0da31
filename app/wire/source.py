"""Sources: where the frames of a client come from. A filter's audience is one, a room is the
other.
"""

from __future__ import annotations

from typing import Any, Final


class Source:
    """Something groups of clients hear. What a group is, `app.delivery.group` knows."""

    __slots__ = ("groups",)

    def __init__(self) -> None:
        self.groups: dict[Any, None] = {}


# What a client is still owed of a source when it leaves it: nobody hears this one.
PAST: Final = Source()

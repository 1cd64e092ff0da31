"""What stands in place of a value that is longer than `Options.max_event`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final


@final
class Fetch:
    """There is a value at `path`, and it was too long to be sent: `get(path)` gives that of now.

    It is no JSON, so it is never written back by mistake.
    """

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fetch) and other.path == self.path

    def __hash__(self) -> int:
        return hash((Fetch, self.path))

    def __repr__(self) -> str:
        return f"Fetch({self.path!r})"


def value_in(told: Mapping[str, Any]) -> Any:
    """The value in an `update`, or in an item of a snapshot."""
    return told["value"] if "fetch" not in told else Fetch(told["path"])

"""The names of tags that a client gives itself: `client.NAME`.

They are apart from those of the server. So no client gets what is meant for a tag that the server
gave, and none overwrites one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

T = TypeVar("T", str, str | None)

_OWN: Final = "client."


def is_own(name: str) -> bool:
    """Whether a tag of this name is one that its client gave itself."""
    return name.startswith(_OWN)


def as_own(tags: Mapping[str, T]) -> dict[str, T]:
    """Tags that a client gives itself, by the names under which they are kept."""
    return {_OWN + name: value for name, value in tags.items()}


def own_of(tags: Mapping[str, str]) -> dict[str, str]:
    """The client's own among `tags`, by the names that it gave them."""
    return {name.removeprefix(_OWN): value for name, value in tags.items() if is_own(name)}


def given_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Those among `tags` that the server gave."""
    return {name: value for name, value in tags.items() if not is_own(name)}

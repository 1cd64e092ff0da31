"""Tags: names and values on connections, and the index that selects connections by them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

C = TypeVar("C", bound=Hashable)


class Tags(Generic[C]):
    """Which connections carry which tags. `C` is whatever stands for a connection.

    Kept both ways round, and nothing is left behind: a value nobody carries is not in the index.
    """

    def __init__(self) -> None:
        self._of: dict[C, dict[str, str]] = {}
        self._by: dict[str, dict[str, dict[C, None]]] = {}
        # Of all connections together.
        self.count = 0

    def __len__(self) -> int:
        return len(self._of)

    @property
    def index(self) -> dict[str, dict[str, list[C]]]:
        """A copy of the index: name → value → who carries it."""
        return {
            name: {value: list(who) for value, who in values.items()}
            for name, values in self._by.items()
        }

    def of(self, who: C) -> dict[str, str]:
        """The tags of one connection, a copy; empty for an unknown one."""
        return dict(self._of.get(who, {}))

    def merged(self, who: C, tags: Mapping[str, str | None]) -> dict[str, str]:
        """What a connection would carry after `update`."""
        return {name: value for name, value in {**self.of(who), **tags}.items() if value}

    def update(self, who: C, tags: Mapping[str, str | None]) -> None:
        """Set tags; an empty value or None takes the tag away. Unknown tags are taken away
        without complaint.

        A connection is known from its first update on, also when it has no tags.
        """
        mine = self._of.setdefault(who, {})
        for name, value in tags.items():
            old = mine.pop(name, None)
            if old is not None:
                self.count -= 1
                self._drop(name, old, who)
            if value:
                self.count += 1
                mine[name] = value
                self._by.setdefault(name, {}).setdefault(value, {})[who] = None

    def remove(self, who: C) -> None:
        """Forget a connection. Harmless when it is unknown."""
        for name, value in self._of.pop(who, {}).items():
            self.count -= 1
            self._drop(name, value, who)

    def select(self, tags: Mapping[str, str]) -> list[C]:
        """Who carries all of `tags`. No tags select nobody: a bare request must not reach
        everyone.
        """
        if not tags:
            return []
        groups = [self._by.get(name, {}).get(value, {}) for name, value in tags.items()]
        smallest, *others = sorted(groups, key=len)
        return [who for who in smallest if all(who in group for group in others)]

    def _drop(self, name: str, value: str, who: C) -> None:
        values = self._by[name]
        del values[value][who]
        if not values[value]:
            del values[value]
        if not values:
            del self._by[name]

"""One filter that the server is asked for, and who looks at what it selects.

A topic outlives connections: it keeps its state and the position up to which that is known, and
the next connection resumes from there. When what arrives does not fit the state, it asks for a
snapshot.

    asked ──ok──► taking ──► (gap) ──snapshot──► taking
      ▲                                            │
      └────────────── connection cut ◄─────────────┘
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, Protocol
from weakref import WeakSet

import anyio.lowlevel

from .assembly import MISSING, Assembly, Json
from .bell import Bell
from .errors import TriodeError
from .fetch import value_in
from .path import is_single
from .var import T

log = logging.getLogger("triode_client")

Kind = Literal["snapshot", "update", "delete"]
Frame = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One change of what a filter selects.

    `value` is the assembled state after it: for the filter of one place the value there, or
    `MISSING`; for any other a mapping from path to value. `items` is that mapping for every filter.
    Neither changes later, and neither must be changed. `path` is the place that changed, None for a
    snapshot. `position` is how far all has arrived, None where the server has not said it yet.
    `skipped` changes came before it that the program was too slow to be given.
    """

    kind: Kind
    path: str | None
    value: T
    items: Mapping[str, Json]
    position: str | None
    skipped: int = 0


class Listener(Protocol):
    """Who is told of every change."""

    def push(self, change: Change[Json]) -> None:
        """Take a change; must not wait."""

    def fail(self, failure: TriodeError) -> None:
        """There will be no more."""


class Topic:
    """One filter's state. Synchronous: the link calls it, tasks wait on `wait_changed`."""

    def __init__(self, filter: str, policy: str | None) -> None:
        self.filter: Final = filter
        self.policy: Final = policy
        self.is_single: Final = is_single(filter)
        self.position: str | None = None
        self.failure: TriodeError | None = None
        self.holders = 0
        # Weak: a watch that nobody holds any more is told nothing, and ends.
        self.listeners: WeakSet[Listener] = WeakSet()
        # Counts what a view can see: changes of the state and of `stale`.
        self.version = 0
        self.has_state = False
        self.stale = True
        self._assembly = Assembly(nested=".." in filter)
        self._draft: list[Mapping[str, Json]] = []
        # The present connection carries it: its `ok` has come.
        self._taking = False
        # Nothing counts before the next snapshot.
        self._gapped = False
        # What was missed is arriving, and may have arrived before: a part of it was cut off.
        self._redoing = False
        self._bell = Bell()

    @property
    def items(self) -> Mapping[str, Json]:
        """The state, path to value."""
        return self._assembly.hand_out()

    @property
    def value(self) -> Json:
        """What is at the one place, or `MISSING`; the mapping where there can be several."""
        return self._value_of(self.items)

    def _value_of(self, items: Mapping[str, Json]) -> Json:
        return sole(items) if self.is_single else items

    def command(self) -> dict[str, Any]:
        """What subscribes to it, from where it is known."""
        command = {"type": "subscribe", "filter": self.filter}
        if self.policy is not None:
            command["policy"] = self.policy
        if self.has_state and self.position is not None and not self._gapped:
            command["since"] = self.position
        return command

    # ── what the connection brings ──────────────────────────────────────────────────────────────

    def begin(self, *, resumed: bool) -> None:
        """Subscribed: what was missed follows, or else a snapshot."""
        self._taking = True
        self._draft = []
        self._redoing = resumed
        self._gapped = not resumed

    def cut(self) -> None:
        """The connection is gone. What it began to send counts for nothing."""
        self._taking = False
        self._draft = []
        self._set_stale(True)

    def fail(self, failure: TriodeError) -> None:
        """The server does not give it to us, or the client was closed."""
        self.cut()
        self.failure = failure
        for listener in list(self.listeners):
            listener.fail(failure)
        self._told()

    def caught_up(self) -> None:
        """All that was missed has arrived."""
        if self._taking and self._redoing:
            self._redoing = False
            if not self._gapped:
                self._set_stale(False)

    def reached(self, position: str) -> None:
        """All up to here has arrived, on this connection."""
        if self._taking and not self._gapped:
            self.position = position

    def take(self, frame: Frame) -> bool:
        """One event of this filter. False: it does not fit, and only a snapshot helps."""
        if not self._taking:
            return True  # for one before us, who unsubscribed
        kind = frame["type"]
        if kind == "snapshot":
            self._take_snapshot(frame)
        elif kind == "gap":
            self._gapped = True
            self._set_stale(True)
        elif not self._gapped:
            return self._take_event(frame)
        return True

    def _take_snapshot(self, frame: Frame) -> None:
        # Kept apart until it is whole: what is shown is old or new, never half of either.
        self._draft += frame["items"]
        if frame["more"]:
            return
        items, self._draft = self._draft, []
        self._assembly.replace(items)
        self.has_state = True
        self._gapped = self._redoing = False
        self.stale = False
        self.position = frame.get("id", self.position)
        self._changed("snapshot", None)

    def _take_event(self, frame: Frame) -> bool:
        kind, path = frame["type"], frame["path"]
        if kind == "update":
            fits = self._assembly.update(path, value_in(frame))
        else:
            fits = self._assembly.delete(path)
        # What a redone event does not fit any more, later ones that are redone too will settle.
        if not fits and not self._redoing:
            log.warning("%s: %s of %s does not fit; asking for a snapshot", self.filter, kind, path)
            self._gapped = True
            self._set_stale(True)
            return False
        self._changed(kind, path)
        return True

    # ── who looks ───────────────────────────────────────────────────────────────────────────────

    def present(self) -> Change[Json]:
        """The state as a change, for who comes later."""
        items = self.items
        return Change("snapshot", None, self._value_of(items), items, self.position)

    async def wait_changed(self, seen: int) -> int:
        """Wait until `version` is not `seen`; what it is then. Raises the failure, if it failed."""
        await anyio.lowlevel.checkpoint()
        while self.version == seen and self.failure is None:
            await self._bell.wait()
        if self.failure is not None:
            raise self.failure
        return self.version

    def _changed(self, kind: Kind, path: str | None) -> None:
        if self.listeners:
            items = self.items
            change = Change(kind, path, self._value_of(items), items, self.position)
            for listener in list(self.listeners):
                listener.push(change)
        self._told()

    def _set_stale(self, stale: bool) -> None:
        if self.stale != stale:
            self.stale = stale
            self._told()

    def _told(self) -> None:
        self.version += 1
        self._bell.ring()


def sole(items: Mapping[str, Json]) -> Json:
    """The value of the one place there is, or `MISSING`."""
    return next(iter(items.values()), MISSING)

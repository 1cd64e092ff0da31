"""What a program holds of a topic: `Watch`, an iterator over changes, and `View`, the state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic

import anyio.lowlevel

from .assembly import Json
from .bell import Bell
from .errors import TriodeError
from .soon import soon_caller
from .topic import Change, Topic
from .typed import Convert
from .var import T

if TYPE_CHECKING:
    from typing import Self


class Backlog:
    """The changes that wait for a program; see `Watch` about what happens when too many do."""

    def __init__(self, buffer: int) -> None:
        if buffer < 1:
            raise ValueError(f"buffer must be at least 1, not {buffer!r}")
        self._buffer = buffer
        self._changes: deque[Change[Json]] = deque()
        self._failure: TriodeError | None = None

    def push(self, change: Change[Json]) -> None:
        """A change has come."""
        if len(self._changes) >= self._buffer:
            skipped = sum(1 + waiting.skipped for waiting in self._changes)
            self._changes.clear()
            change = replace(change, skipped=skipped)
        self._changes.append(change)

    def fail(self, failure: TriodeError) -> None:
        """There will be no more changes than those that wait."""
        self._failure = failure

    def take(self) -> Change[Json] | None:
        """The oldest that waits, None if none does. Raises the failure behind the last."""
        if self._changes:
            return self._changes.popleft()
        if self._failure is not None:
            raise self._failure
        return None

    def attach(self, topic: Topic) -> None:
        """Begin with the state as it is, if it is known."""
        topic.listeners.add(self)
        if topic.has_state:
            self.push(topic.present())


class Watch(Backlog, Generic[T]):
    """Changes of what a filter selects, one after the other: `async for change in t.watch(".a")`.

    The first has kind `snapshot` and is the state as it is. Up to `buffer` changes wait for a
    program that is slow; when one more comes they all give way to it: the program goes on with the
    newest state, and its `skipped` says how many it was not given.

    The server is asked from the first step on, and no longer once the iterator is closed: by
    `close()`, by the end of a `with` block, or when nobody holds it any more, as after a `break`.
    """

    def __init__(
        self,
        open_topic: Callable[[], Topic],
        close: Callable[[Topic], None],
        buffer: int,
        convert: Convert,
    ) -> None:
        super().__init__(buffer)
        self._open_topic = open_topic
        self._close = close
        self._convert = convert
        self._topic: Topic | None = None
        self._closed = False
        self._bell = Bell()
        self._call_soon = soon_caller()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change[T]:
        """The next change. Raises `Refused` if the server does not give this filter, and
        `WrongType` for a value that is not of the type; the one after may be.

        Cancelled, no change is lost. Stops once the watch is closed.
        """
        if self._topic is None and not self._closed:
            self._begin()
        if self._changes or self._failure or self._closed:
            await anyio.lowlevel.checkpoint()
        while not self._closed:
            if (change := self.take()) is not None:
                return typed(change, self._convert)  # noqa: ASYNC910 # it has waited, above or below
            await self._bell.wait()
        raise StopAsyncIteration

    def push(self, change: Change[Json]) -> None:
        """A change has come."""
        super().push(change)
        self._bell.ring()

    def fail(self, failure: TriodeError) -> None:
        """There will be no more changes than those that wait."""
        super().fail(failure)
        self._bell.ring()

    def close(self) -> None:
        """Watch no longer. Synchronous; may be called twice."""
        self._closed = True
        self._bell.ring()
        topic, self._topic = self._topic, None
        if topic is not None:
            topic.listeners.discard(self)
            self._close(topic)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A garbage collector may run in any thread; the topic belongs to the event loop's.
        topic = self.__dict__.get("_topic")
        if topic is not None:
            try:
                self._call_soon(self._close, topic)
            except RuntimeError:
                pass  # the loop has ended

    def _begin(self) -> None:
        self._topic = self._open_topic()
        self.attach(self._topic)


def typed(change: Change[Json], convert: Convert) -> Change[Any]:
    """The change with a value of the program's type."""
    value = convert(change.value)
    return change if value is change.value else replace(change, value=value)


class View(Generic[T]):
    """What a filter selects, always as it is now; see `AsyncTriode.view`."""

    def __init__(self, topic: Topic, convert: Convert) -> None:
        self._topic = topic
        self._convert = convert
        self._seen = topic.version

    @property
    def filter(self) -> str:
        """What was asked for."""
        return self._topic.filter

    @property
    def value(self) -> T:
        """For the filter of one place the value there, `MISSING` if there is none; for any other a
        mapping from path to value. It does not change later, and must not be changed.

        Raises `WrongType` if it is not of the type that was asked for.
        """
        value: T = self._convert(self._topic.value)
        return value

    @property
    def items(self) -> Mapping[str, Any]:
        """The selected places, path to value as JSON, for every kind of filter."""
        return self._topic.items

    @property
    def stale(self) -> bool:
        """Whether the value may be out of date: while reconnecting, and in a gap."""
        return self._topic.stale

    @property
    def position(self) -> str | None:
        """How far all has arrived, None where the server has not said it yet."""
        return self._topic.position

    async def wait_changed(self) -> None:
        """Wait until the value or `stale` is not what it was after the last wait, or at the start.

        Several changes since then are one. Raises `Refused` if the server gives the filter no
        longer. Cancelled, nothing is missed: the next wait returns at once.
        """
        self._seen = await self._topic.wait_changed(self._seen)

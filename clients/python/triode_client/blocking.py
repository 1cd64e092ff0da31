"""What a program without `async` holds of a topic or a room. Each waits in the thread that asks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic

from .assembly import Json
from .errors import Closed, TriodeError
from .link import Link
from .room import Message
from .room import Room as AsyncRoom
from .thread import LinkThread
from .topic import Change, Topic
from .typed import Convert
from .var import T
from .watch import Backlog, typed
from .watch import View as AsyncView

if TYPE_CHECKING:
    from typing import Self


class Mailbox(Backlog):
    """A backlog that the client's thread fills and another empties."""

    def __init__(self, buffer: int) -> None:
        super().__init__(buffer)
        self.is_closed = False
        self._told = threading.Condition()

    def push(self, change: Change[Json]) -> None:
        """A change has come."""
        with self._told:
            super().push(change)
            self._told.notify()

    def fail(self, failure: TriodeError) -> None:
        """There will be no more changes than those that wait."""
        with self._told:
            super().fail(failure)
            self._told.notify_all()

    def close(self) -> None:
        """Nobody is to wait any longer."""
        with self._told:
            self.is_closed = True
            self._told.notify_all()

    def wait(self, wait_s: float | None) -> Change[Json] | None:
        """The oldest change; None once it is closed. Raises the failure, and `TimeoutError`."""
        with self._told:
            while not self.is_closed:
                if (change := self.take()) is not None:
                    return change
                if not self._told.wait(wait_s):
                    raise TimeoutError(f"no change in {wait_s} s")
        return None


class Watch(Generic[T]):
    """Changes of what a filter selects, one after the other: `for change in t.watch(".a")`.

    The first has kind `snapshot` and is the state as it is. Up to `buffer` changes wait for a
    program that is slow; when one more comes they all give way to it: the program goes on with the
    newest state, and its `skipped` says how many it was not given.

    The server is asked from the first step on, and no longer once the iterator is closed: by
    `close()`, also from another thread, by the end of a `with` block, or when nobody holds it any
    more, as after a `break`.
    """

    def __init__(
        self, get_thread: Callable[[], LinkThread], filter: str, policy: str | None, buffer: int,
        convert: Convert,
    ) -> None:  # fmt: skip
        self._get_thread = get_thread
        self._filter = filter
        self._policy = policy
        self._convert = convert
        self._mailbox = Mailbox(buffer)
        self._held: tuple[LinkThread, Topic] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change[T]:
        """The next change. Raises what ends the connection, `Refused` if the server does not give
        this filter, and `WrongType` for a value that is not of the type; the one after may be.
        """
        change = self.next()
        if change is None:
            raise StopIteration
        return change

    def next(self, wait_s: float | None = None) -> Change[T] | None:
        """The next change; None once the watch is closed. Raises as iterating does, and
        `TimeoutError` when none has come in `wait_s` seconds.
        """
        if self._held is None and not self._mailbox.is_closed:
            self._begin()
        try:
            change = self._mailbox.wait(wait_s)
        except Closed as closed:
            raise closed.__cause__ or closed from None
        return None if change is None else typed(change, self._convert)

    def close(self) -> None:
        """Watch no longer. May be called twice, and from any thread."""
        self._mailbox.close()
        held, self._held = self._held, None
        if held is not None:
            thread, topic = held
            # The thread keeps the mailbox till then: a weak set must not change under its loop.
            thread.call_soon(_release, thread.link, topic, self._mailbox)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if "_held" in self.__dict__:
            self.close()

    def _begin(self) -> None:
        thread = self._get_thread()

        async def hold() -> Topic:  # noqa: ASYNC910 # to be there is all it is for
            topic = thread.link.hold_topic(self._filter, self._policy)
            self._mailbox.attach(topic)
            return topic  # noqa: ASYNC910 # see above

        self._held = thread, thread.call(hold, wait_s=None)


def _release(link: Link, topic: Topic, mailbox: Mailbox) -> None:
    topic.listeners.discard(mailbox)
    link.release_topic(topic)


class View(Generic[T]):
    """What a filter selects, always as it is now; see `Triode.view`."""

    def __init__(self, thread: LinkThread, view: AsyncView[Json], convert: Convert) -> None:
        self._thread = thread
        self._view = view
        self._convert = convert

    @property
    def filter(self) -> str:
        """What was asked for."""
        return self._view.filter

    @property
    def value(self) -> T:
        """For the filter of one place the value there, `MISSING` if there is none; for any other a
        mapping from path to value. It does not change later, and must not be changed.

        Raises `WrongType` if it is not of the type that was asked for.
        """
        value: T = self._convert(self._thread.look(lambda: self._view.value))
        return value

    @property
    def items(self) -> Mapping[str, Any]:
        """The selected places, path to value as JSON, for every kind of filter."""
        return self._thread.look(lambda: self._view.items)

    @property
    def stale(self) -> bool:
        """Whether the value may be out of date: while reconnecting, and in a gap."""
        return self._view.stale

    @property
    def position(self) -> str | None:
        """How far all has arrived, None where the server has not said it yet."""
        return self._view.position

    def wait_changed(self, wait_s: float | None = None) -> None:
        """Wait until the value or `stale` is not what it was after the last wait, or at the start.

        Several changes since then are one. Raises `Refused` if the server gives the filter no
        longer, and `TimeoutError` after `wait_s` seconds.
        """
        self._thread.call(self._view.wait_changed, wait_s=wait_s)


class Room:
    """A room that we are in; see `Triode.room`. Iterate over it for its messages.

    Up to `buffer` messages wait for a program that is slow, then the oldest give way; the next one
    that it takes says in `missed` how many.
    """

    def __init__(self, thread: LinkThread, room: AsyncRoom, timeout_s: float) -> None:
        self._thread = thread
        self._room = room
        self._timeout_s = timeout_s

    @property
    def name(self) -> str | None:
        """The room's name; None for what is sent to this client alone."""
        return self._room.name

    @property
    def members(self) -> list[str]:
        """The client ids that were in the room when we entered it, or came back; at most 1000."""
        return self._room.members

    def publish(self, event: str, data: Json = None, *, echo: bool = False) -> int:
        """Say something to the others in the room, to oneself too with `echo`.

        How many it reached. Raises as `Triode.set` does.
        """

        async def publish() -> int:
            return await self._room.publish(event, data, echo=echo)

        return self._thread.call(publish, wait_s=self._timeout_s)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        """The next message. Raises `Refused` if we may not be in the room any longer."""
        return self.next()

    def next(self, wait_s: float | None = None) -> Message:
        """The next message. Raises as iterating does, and `TimeoutError` when none has come in
        `wait_s` seconds.
        """
        return self._thread.call(self._room.__anext__, wait_s=wait_s)

"""`connect`, and what a program on asyncio or Trio holds of it.

async with connect("http://127.0.0.1:8080") as t:
    async for change in t.watch(".host.load"):
        print(change.value)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import isawaitable
from typing import Any, TypeVar, overload

import anyio

from . import op
from .assembly import MISSING, Json, Missing
from .backoff import Backoff
from .errors import BatchRefused, Changed, refused
from .link import Link, State, Token
from .op import If, Op
from .options import Options
from .path import is_single
from .room import Room
from .target import read_target
from .task_group import bare_task_group
from .topic import Topic, sole
from .typed import converter
from .watch import View, Watch

T = TypeVar("T")

# Changes, and messages, that wait for a program that is slow.
CHANGES = 32
MESSAGES = 1000
# A transaction that finds its place changed as often as this is given up.
TRANSACTION_TRIES = 100


class AsyncTriode:
    """One server, on one connection that is made again whenever it breaks. `connect` gives it.

    All methods may be called from any number of tasks. Commands (`get`, `set`, …) that are given
    while there is no connection wait for one, in their order; `Options.queue` says how many.
    """

    def __init__(self, link: Link, *, is_patient: bool = False) -> None:
        self._link = link
        # A command that is refused for the rate is sent again.
        self._is_patient = is_patient

    @property
    def state(self) -> State:
        """`connecting`, `connected`, `reconnecting` or `closed`."""
        return self._link.state

    @property
    def client_id(self) -> str | None:
        """What the server calls this connection, `c_…`; another with each, None without one."""
        return self._link.client_id

    async def wait_state(self, *states: State) -> State:
        """Wait until the state is one of these; which."""
        return await self._link.wait_state(*states)

    # ── what is there ───────────────────────────────────────────────────────────────────────────

    @overload
    def watch(
        self, filter: str = ".", *, policy: str | None = None, buffer: int = CHANGES
    ) -> Watch[Any]: ...

    @overload
    def watch(
        self, filter: str, *, type: type[T], policy: str | None = None, buffer: int = CHANGES
    ) -> Watch[T | Missing]: ...

    def watch(
        self, filter: str = ".", *, type: Any = None, policy: str | None = None,
        buffer: int = CHANGES,
    ) -> Watch[Any]:  # fmt: skip
        """An iterator over the changes of what `filter` selects; the first is the state as it is.

        `type` is what each `value` is made into, by msgspec or pydantic: a class of the program's,
        `dict[str, Order]`; a place without a value stays `MISSING`. `buffer` changes wait for a
        program that is slow, see `Watch`; 1 is the newest only. `policy` is the server's for a full
        queue. Watches and views of one filter share one subscription.
        """

        def begin() -> Topic:
            return self._link.hold_topic(filter, policy)

        return Watch(begin, self._link.release_topic, buffer, converter(type))

    @overload
    def view(
        self, filter: str = ".", *, policy: str | None = None
    ) -> AbstractAsyncContextManager[View[Any]]: ...

    @overload
    def view(
        self, filter: str, *, type: type[T], policy: str | None = None
    ) -> AbstractAsyncContextManager[View[T | Missing]]: ...

    def view(
        self, filter: str = ".", *, type: Any = None, policy: str | None = None
    ) -> AbstractAsyncContextManager[View[Any]]:
        """What `filter` selects, kept up to date within the block, which begins with the state.

        `type` is as for `watch`. Raises `Refused` if the server does not give it.
        """
        return self._view(filter, type, policy)

    @asynccontextmanager
    async def _view(self, filter: str, type: Any, policy: str | None) -> AsyncGenerator[View[Any]]:
        convert = converter(type)
        topic = self._link.hold_topic(filter, policy)
        try:
            version = topic.version
            while not topic.has_state:
                version = await topic.wait_changed(version)
            yield View(topic, convert)
        finally:
            self._link.release_topic(topic)

    @overload
    async def get(self, filter: str = ".", *, at: str | None = None) -> Any: ...

    @overload
    async def get(self, filter: str, *, type: type[T], at: str | None = None) -> T | Missing: ...

    async def get(self, filter: str = ".", *, type: Any = None, at: str | None = None) -> Any:
        """What `filter` selects now: the value at the one place, `MISSING` if there is none; or a
        mapping from path to value. `type` is as for `watch`.

        `at`: not before this position, as a write returned it, here or elsewhere. Of several
        servers with one document one may be a moment behind: it waits. Raises as `set` does, but
        for `Lost`: it is asked again. `Refused` 412 if the server never comes to that position.
        """
        convert = converter(type)
        value, _ = await self.read(filter, at=at)
        return convert(value)

    async def read(self, filter: str, *, at: str | None = None) -> tuple[Json, str]:
        """What `get` gives, and the position at which it was so, for `if_`."""
        command = {"type": "get", "filter": filter} | ({} if at is None else {"at": at})
        answer = await self._ask(command, is_read=True)
        items = {item["path"]: item["value"] for item in answer["items"]}
        return (sole(items) if is_single(filter) else items), str(answer["id"])

    # ── writes ──────────────────────────────────────────────────────────────────────────────────

    async def set(
        self,
        path: str,
        value: Json,
        *,
        if_: If | None = None,
        create: bool = False,
        ttl: float | None = None,
    ) -> str:
        """The place has this value; with `create` missing parents are made. Returns the position.

        `if_` makes it conditional: the place must not have changed since that position, or has to
        be as `{"equals": v}`, `{"exists": bool}` or `{"less": v}` says; else `Changed`. When the
        connection breaks before the answer it is sent again, and the server does it once. Raises
        `Refused` and its kinds; `Unsent` and `Lost`, see there; `ValueError` or `TypeError` for
        what is no JSON. Cancelled before it was sent, it is not sent.
        """
        return await self._write(op.set(path, value, if_=if_, create=create, ttl=ttl))

    async def merge(
        self,
        path: str,
        patch: Json,
        *,
        if_: If | None = None,
        ttl: float | None = None,
    ) -> str:
        """Change members of an object, null removes one (RFC 7396). As `set`."""
        return await self._write(op.merge(path, patch, if_=if_, ttl=ttl))

    async def patch(
        self,
        path: str,
        patch: Sequence[Mapping[str, Any]],
        *,
        if_: If | None = None,
        ttl: float | None = None,
    ) -> str:
        """JSON Patch operations (RFC 6902), all or none. As `set`."""
        return await self._write(op.patch(path, patch, if_=if_, ttl=ttl))

    async def touch(self, path: str, ttl: float | None, *, if_: If | None = None) -> str:
        """Say anew when a place ends: in `ttl` seconds, or never (None). Returns the position."""
        return await self._write(op.touch(path, ttl, if_=if_))

    async def delete(self, path: str, *, if_: If | None = None) -> str:
        """Remove a place. As `set`."""
        return await self._write(op.delete(path, if_=if_))

    async def increment(
        self,
        path: str,
        by: float = 1,
        *,
        if_: If | None = None,
        ttl: float | None = None,
    ) -> str:
        """Add to the number there. As `set`."""
        return await self._write(op.increment(path, by, if_=if_, ttl=ttl))

    async def append(
        self,
        path: str,
        value: Json,
        *,
        if_: If | None = None,
        ttl: float | None = None,
    ) -> str:
        """Add an element to the array there. As `set`."""
        return await self._write(op.append(path, value, if_=if_, ttl=ttl))

    async def push(
        self,
        path: str,
        value: Json,
        *,
        if_: If | None = None,
        ttl: float | None = None,
    ) -> str:
        """Add a member to the object there, under a new name that sorts by time. Returns that name.
        As `set`.
        """
        answer = await self._ask(op.push(path, value, if_=if_, ttl=ttl), is_write=True)
        return str(answer["key"])

    async def batch(self, ops: Sequence[Op], *, atomic: bool = False) -> list[str]:
        """Several writes of `op` in one message; the position of each.

        `atomic`: all or none, one change. Otherwise each stands for itself; if any is refused
        `BatchRefused` says which, and the others are applied. Else as `set`.
        """
        command = {"type": "batch", "ops": list(ops), "atomic": atomic}
        answer = await self._ask(command, is_write=True)
        errors = {each["index"]: refused(each) for each in answer.get("errors", ())}
        if errors:
            raise BatchRefused(answer["positions"], errors)
        return list(answer["positions"])

    async def transaction(
        self, path: str, change: Callable[[Any], Any | Awaitable[Any]], *, type: Any = None
    ) -> Any:
        """Read a place, write what `change` makes of it, and begin again if another was faster.

        `change`, async or not, is called with the value there, `MISSING` if there is none; what it
        returns is the new value, `MISSING` to remove the place. It may be called several times, so
        it should do nothing else. `type` is as for `watch`. Returns the value that was written.

        Raises as `set` does; `Changed` after a hundred tries; and what `change` raises, to give up.
        """
        convert = converter(type)
        pause = Backoff(0.002, 0.2, 1.0)
        for tries_left in reversed(range(TRANSACTION_TRIES)):
            value, position = await self.read(path)
            changed = change(convert(value))
            if isawaitable(changed):
                changed = await changed
            try:
                await self.write_if(path, changed, position, was_there=value is not MISSING)
                return changed
            except Changed:
                if not tries_left:
                    raise
            await anyio.sleep(pause.next_s())
        raise AssertionError("the last try returns or raises")

    async def write_if(  # noqa: ASYNC910 # nothing to remove is no reason to wait
        self, path: str, value: Any, position: str, *, was_there: bool
    ) -> None:
        """Write, or remove for `MISSING`, if the place is as it was at a position."""
        if value is not MISSING:
            await self.set(path, value, if_=position, create=True)
        elif was_there:
            await self.delete(path, if_=position)

    async def _write(self, command: Op) -> str:
        answer = await self._ask(command, is_write=True)
        return str(answer["id"])

    async def _ask(
        self, command: Op, *, is_read: bool = False, is_write: bool = False
    ) -> Mapping[str, Any]:
        return await self._link.ask(
            command, is_read=is_read, is_write=is_write, is_patient=self._is_patient
        )

    # ── messages ────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def room(self, name: str, *, buffer: int = MESSAGES) -> AsyncGenerator[Room]:
        """Be in a room within the block, over reconnects, too; iterate over it for its messages.

        Begins when the server has let us in. Raises `Refused` if it does not.
        """
        async with self._messages(name, buffer) as room:
            yield room

    @asynccontextmanager
    async def inbox(self, *, buffer: int = MESSAGES) -> AsyncGenerator[Room]:
        """The messages to this client alone, by its id or its tags. Not to publish in."""
        async with self._messages(None, buffer) as room:
            yield room

    async def publish(
        self,
        event: str,
        data: Json = None,
        *,
        room: str | Sequence[str] | None = None,
        to: str | None = None,
        tags: Mapping[str, str] | None = None,
        echo: bool = False,
    ) -> int:
        """Send a message to a room or several, to a client, or (admins) to those with all tags.

        Tags that clients gave themselves are named `client.NAME`.

        How many it reached; oneself only with `echo`. Raises as `set` does.
        """
        whom = {"room": room, "to": to, "tags": tags}
        given = {name: value for name, value in whom.items() if value is not None}
        command = {"type": "publish", "event": event, "data": data, **given}
        answer = await self._ask(command | ({"echo": True} if echo else {}))
        return int(answer["reached"])

    @asynccontextmanager
    async def _messages(self, name: str | None, buffer: int) -> AsyncGenerator[Room]:
        async def publish(event: str, data: Json, echo: bool) -> int:
            if name is None:
                raise TypeError("an inbox is no room; publish to a room or a client")
            return await self.publish(event, data, room=name, echo=echo)

        hall = self._link.hold_hall(name)
        room = Room(hall, publish, buffer)
        hall.rooms.add(room)
        try:
            while not hall.is_joined:
                await hall.wait()
            yield room
        finally:
            hall.rooms.discard(room)
            self._link.release_hall(hall)


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: Token | None = None,
    tags: Mapping[str, str] | None = None,
    options: Options | None = None,
) -> AsyncGenerator[AsyncTriode]:
    """Connect to a server; the block begins with the first connection, and ends the last.

    `url` is the server's (`http:` or `https:`), with the path below which it is mounted, if any;
    `/ws` may stand at its end. Or it is a WebSocket's own (`ws:` or `wss:`), also of another route.
    `token` is a token, or a function, async or not, that gives one: it is called for the first,
    when the server says that it ends soon, and once more when it is refused. What that function
    raises comes out of the block. `tags` are the connection's: admins select its tag `kind` as
    `client.kind`.

    Raises `CannotConnect` after `Options.attempts` failures at first, and `Refused` for an answer
    that no retry would change. Later a connection that breaks is made again for as long as the
    block lasts; only an end that the server calls final is raised: it cancels the block, and
    `Ended` or `Refused` comes out of it.

    All tasks live within the block. Left in peace, it says goodbye to the server for 2 s at most;
    cancelled or failed, it closes the connection at once.
    """
    options = options or Options()
    link = Link(read_target(url, tags, options.max_event), token, options)
    async with run_link(link):
        await link.wait_state("connected")
        yield AsyncTriode(link)


@asynccontextmanager
async def run_link(link: Link) -> AsyncGenerator[None]:
    """Keep a link connected within the block, and end it with the block."""
    async with bare_task_group() as tasks:
        tasks.start_soon(link.run)  # noqa: ASYNC113 # whoever needs a connection waits for it
        try:
            yield
            await link.say_goodbye()
        finally:
            link.close()
            tasks.cancel_scope.cancel()

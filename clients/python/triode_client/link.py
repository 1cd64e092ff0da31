"""The link: what makes one lasting thing of many connections.

It dials, asks for all that the program watches and for all rooms that it is in, hands on what
comes, sends what the outbox holds, and when the connection ends it does so again. `run` is its one
task; what the program calls is synchronous, or waits for a command's answer.

    connecting ──► connected ──► reconnecting ──► connected …        closed: the program has left

Each topic is subscribed from where it is known. When the server resumes it, a `ping` goes behind:
all that was missed has come before the `pong`.

A frame with an `id` says that all up to there has arrived, of each topic that this connection
takes: the server tells a position with the last of the events that belong to it, and none between
a gap and its resync. So one position serves all topics, but for those whose state is not whole.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from inspect import isawaitable
from typing import Any, Literal, NoReturn

import anyio
import anyio.lowlevel

from .bell import Bell
from .connection import Connection, Hangup, open_connection, read_retry_s
from .errors import CannotConnect, Closed, Refused, refused
from .options import Options
from .outbox import Call, Outbox
from .plan import Plan
from .room import Hall
from .target import Target
from .task_group import bare_task_group
from .topic import Topic

log = logging.getLogger("triode_client")

State = Literal["connecting", "connected", "reconnecting", "closed"]
Token = str | Callable[[], str | Awaitable[str]]


class Link:
    """The lasting side of one client; `connect` runs it."""

    def __init__(self, target: Target, token: Token | None, options: Options) -> None:
        self.state: State = "connecting"
        self.client_id: str | None = None
        # What the connection before this one was called.
        self._was_client_id: str | None = None
        self._target = target
        self._options = options
        self._token_source = token
        self._token: str | None = None
        self._plan = Plan(options, can_renew=callable(token))
        # Why there is nothing more to try.
        self._failure: Exception | None = None
        self._outbox = Outbox(options.queue)
        self._topics: dict[str, Topic] = {}
        self._halls: dict[str | None, Hall] = {}
        # Resumed, and not known to have caught up; a `ping` is on its way for others.
        self._behind: list[Topic] = []
        self._is_checking = False
        self._connection: Connection | None = None
        self._expiring = anyio.Event()
        self._bell = Bell()

    # ── the task ────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> NoReturn:
        """Be connected until cancelled.

        Raises `Ended`, `Refused` or `CannotConnect` when there is nothing more to try, and whatever
        the token's callback raises.
        """
        try:
            await self._run()
        except Exception as exc:
            self._failure = exc
            raise

    async def _run(self) -> NoReturn:
        while True:
            try:
                await self._converse()
            except (Hangup, CannotConnect, Refused) as end:
                wants_token = self._plan.wants_token(end)
                self._cut(str(end), same_token=not wants_token)
                if wants_token:
                    self._token = None
                delay_s = self._plan.delay_s(end, has_token=not wants_token)
                log.warning("%s; connecting again in %.1f s", end, delay_s)
            await anyio.sleep(delay_s)

    async def _converse(self) -> NoReturn:
        """One connection, from dialing to the exception that is its end."""
        if self._token is None:
            self._token = await self._ask_token()
        async with open_connection(self._target, self._token, self._options) as connection:
            # What sends and what renews the token live here, for this connection.
            async with bare_task_group() as tasks:
                self._open(connection)
                tasks.start_soon(self._send, connection)
                tasks.start_soon(self._renew)
                while True:
                    self.take(await self._receive(connection))

    async def _receive(self, connection: Connection) -> Mapping[str, Any]:
        try:
            return await connection.receive()
        except Hangup:
            if self.state != "closed":
                raise
        # Who says goodbye cancels us when it is done; till then the connection must stay.
        await anyio.sleep_forever()
        raise AssertionError("sleeping for ever has ended")

    async def _send(self, connection: Connection) -> NoReturn:
        while True:
            call = await self._outbox.next()
            await connection.send(call.text)

    async def _renew(self) -> NoReturn:
        while True:
            await self._expiring.wait()
            self._expiring = anyio.Event()
            if not callable(self._token_source):
                log.warning("the token ends soon; connect with a callback to have it renewed")
                continue
            self._token = await self._ask_token()
            command = {"type": "auth", "token": self._token}
            self._outbox.put_control(Call(command, is_renewal=True, then=self._renewed))

    async def _ask_token(self) -> str | None:
        await anyio.lowlevel.checkpoint()
        source = self._token_source
        if not callable(source):
            return source
        token = source()
        return await token if isawaitable(token) else token

    # ── what the connection brings ──────────────────────────────────────────────────────────────

    def _open(self, connection: Connection) -> None:
        self._connection = connection
        self.client_id = connection.client_id
        self._plan.connected()
        self._outbox.open()
        for topic in self._topics.values():
            self._subscribe(topic)
        self._join(list(self._halls.values()))
        self._set_state("connected")

    def _cut(self, reason: str, *, same_token: bool) -> None:
        self._was_client_id = self.client_id or self._was_client_id
        self._connection = self.client_id = None
        self._expiring = anyio.Event()
        self._behind, self._is_checking = [], False
        for topic in self._topics.values():
            topic.cut()
        for hall in self._halls.values():
            hall.cut()
        self._outbox.cut(reason, same_token=same_token)
        if self._plan.was_connected and self.state != "closed":
            self._set_state("reconnecting")

    def take(self, frame: Mapping[str, Any]) -> None:
        """One frame of the server's; a type that is not known is none of ours."""
        kind = frame["type"]
        if kind in ("ok", "error", "pong"):
            self._outbox.settle(frame)
        elif frame.get("filter") is not None:
            self._take_event(frame)
        elif kind in ("message", "gap"):
            hall = self._halls.get(frame.get("room"))
            if hall is not None:
                hall.take(frame)
        elif kind == "expiring":
            self._expiring.set()
        elif kind == "closing":
            self._plan.told_s = read_retry_s(frame.get("retry_ms"))

    def _take_event(self, frame: Mapping[str, Any]) -> None:
        position = frame.get("id")
        if position is not None:
            for topic in self._topics.values():
                topic.reached(position)
        of_filter = self._topics.get(frame["filter"])
        if of_filter is not None and not of_filter.take(frame):
            self._subscribe(of_filter)

    def _subscribe(self, topic: Topic) -> None:
        self._outbox.put_control(Call(topic.command(), then=partial(self._subscribed, topic)))

    def _subscribed(self, topic: Topic, call: Call) -> None:
        if self._topics.get(topic.filter) is not topic:
            return  # released meanwhile
        if call.error is not None:
            del self._topics[topic.filter]
            topic.fail(call.error)
            return
        resumed = bool(call.answer["resumed"])
        topic.begin(resumed=resumed)
        if resumed:
            self._behind.append(topic)
            self._check()

    def _check(self) -> None:
        """Ask for a `pong` behind what the topics that are behind have been sent."""
        if self._behind and not self._is_checking:
            topics, self._behind, self._is_checking = self._behind, [], True
            self._outbox.put_control(Call({"type": "ping"}, then=partial(self._checked, topics)))

    def _checked(self, topics: list[Topic], _: Call) -> None:
        for topic in topics:
            topic.caught_up()
        self._is_checking = False
        self._check()

    def _join(self, halls: Sequence[Hall]) -> None:
        """Enter rooms, from where we were in them. All at once: then a message that went to several
        comes once.
        """
        rooms = {hall.name: hall for hall in halls if hall.name is not None}
        for hall in halls:
            if hall.name is None:
                hall.begin()
        if rooms:
            since = {name: hall.position for name, hall in rooms.items() if hall.position}
            again = {"since": since, "was": self._was_client_id} if since else {}
            command = {"type": "join", "room": list(rooms), **again}
            self._outbox.put_control(Call(command, then=partial(self._joined, rooms)))

    def _joined(self, rooms: Mapping[str, Hall], call: Call) -> None:
        here = {name: hall for name, hall in rooms.items() if self._halls.get(name) is hall}
        if call.error is None:
            positions, resumed = call.answer.get("positions", {}), call.answer.get("resumed", {})
            for name, hall in here.items():
                members = call.answer["members"][name]
                hall.begin(members, position=positions.get(name), resumed=resumed.get(name, False))
        elif len(rooms) > 1:
            for hall in here.values():  # one of them was refused, and all with it
                self._join([hall])
        else:
            for name, hall in here.items():
                del self._halls[name]
                hall.fail(call.error)

    def _renewed(self, call: Call) -> None:
        if call.error is not None:
            log.warning("the new token was refused: %s", call.error)
            self._token = None
            return
        for filter in call.answer.get("ended", ()):
            topic = self._topics.pop(filter, None)
            if topic is not None:
                detail = f"the new token may not read {filter}"
                topic.fail(refused({"title": "Not allowed", "status": 403, "detail": detail}))

    # ── what the program asks ───────────────────────────────────────────────────────────────────

    async def ask(
        self,
        members: Mapping[str, Any],
        *,
        is_read: bool = False,
        is_write: bool = False,
        is_patient: bool = False,
    ) -> Mapping[str, Any]:
        """Send a command and wait for its `ok`; it waits for a connection, too, and a patient one
        until the server's rate lets it through.

        Raises `Refused`, `Unsent` and `Lost`. Cancelled, a command that was not sent is not sent;
        one that was may have been applied or not.
        """
        self.check_open()
        call = Call(members, is_read=is_read, is_write=is_write, is_patient=is_patient)
        self._outbox.put(call)
        try:
            await call.settled.wait()
        finally:
            self._outbox.forget(call)
        if call.error is not None:
            raise call.error
        return call.answer

    def hold_topic(self, filter: str, policy: str | None) -> Topic:
        """The topic of a filter, subscribed as long as somebody holds it."""
        self.check_open()
        topic = self._topics.get(filter)
        if topic is None:
            topic = self._topics[filter] = Topic(filter, policy)
            if self._connection is not None:
                self._subscribe(topic)
        elif policy is not None and policy != topic.policy:
            raise ValueError(f"{filter} is watched already, with the policy {topic.policy}")
        topic.holders += 1
        return topic

    def release_topic(self, topic: Topic) -> None:
        """Held once less."""
        topic.holders -= 1
        if topic.holders == 0 and self._topics.get(topic.filter) is topic:
            del self._topics[topic.filter]
            topic.fail(Closed(f"{topic.filter} is not watched any longer"))
            self._tell({"type": "unsubscribe", "filter": topic.filter})

    def hold_hall(self, name: str | None) -> Hall:
        """A room, joined as long as somebody holds it."""
        self.check_open()
        hall = self._halls.get(name)
        if hall is None:
            hall = self._halls[name] = Hall(name)
            if self._connection is not None:
                self._join([hall])
        hall.holders += 1
        return hall

    def release_hall(self, hall: Hall) -> None:
        """Held once less."""
        hall.holders -= 1
        if hall.holders == 0 and self._halls.get(hall.name) is hall:
            del self._halls[hall.name]
            hall.fail(Closed("the room has been left"))
            if hall.name is not None:
                self._tell({"type": "leave", "room": hall.name})

    def _tell(self, command: Mapping[str, Any]) -> None:
        """Without a connection there is nothing to take back."""
        if self._connection is not None:
            self._outbox.put_control(Call(command, then=_ignore))

    # ── states and the end ──────────────────────────────────────────────────────────────────────

    def why_closed(self) -> Exception:
        """What ended it, `Closed` if nobody but the program did."""
        return self._failure or self._closed()

    def check_open(self) -> None:
        """Raises `Closed` once the program has left."""
        if self.state == "closed":
            raise self._closed()

    def _closed(self) -> Closed:
        closed = Closed("the connection was closed: its `with` block has been left")
        closed.__cause__ = self._failure
        return closed

    async def wait_state(self, *states: State) -> State:
        """Wait until the state is one of these; which. Raises `Closed` if it never will be."""
        await anyio.lowlevel.checkpoint()
        while self.state not in states:
            self.check_open()
            await self._bell.wait()
        return self.state

    def _set_state(self, state: State) -> None:
        self.state = state
        self._bell.ring()

    async def say_goodbye(self) -> None:
        """Close the connection in peace, in a bounded time."""
        self._set_state("closed")
        await anyio.lowlevel.checkpoint()
        if self._connection is not None:
            await self._connection.close()

    def close(self) -> None:
        """Everything that is still held of it ends with `Closed`."""
        self._set_state("closed")
        self._connection = self.client_id = None
        closed = self._closed()
        for topic in self._topics.values():
            topic.fail(closed)
        for hall in self._halls.values():
            hall.fail(closed)
        self._topics.clear()
        self._halls.clear()
        self._outbox.end(closed)


def _ignore(_: Call) -> None:
    pass

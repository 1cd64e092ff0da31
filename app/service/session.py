"""A session: what one WebSocket client says, and the answers (docs/wire.md, `GET /ws`). Both lanes
feed it whole messages.

Answers are pushed through the hub like everything else, so a client sees its `ok` in the right
place among its events: after what it was owed when it asked, before what its command brought
about for itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from triode.app.delivery.snapshot import lazy_selection, selection
from triode.app.runtime.decoding import AT_ONCE_BYTES, decode_in_turns
from triode.app.runtime.turns import allowance
from triode.app.service import renewal, stream_start
from triode.app.service.execute import (
    WRITES,
    begin_write,
    carry_out,
    filter_of,
    name_of,
    ref_of,
    write_answer,
)
from triode.app.service.filter_parsing import readable
from triode.app.service.holdings import (
    require_client_room,
    require_filter_room,
    require_pin_room,
)
from triode.app.service.position_wait import reach, reach_if_any
from triode.app.service.reading import affordable
from triode.app.service.under_way import UnderWay
from triode.app.service.write_refusals import refusal_for
from triode.app.wire import end_reasons
from triode.app.wire.frame import Frame, control
from triode.app.wire.known_names import check_command
from triode.app.wire.max_event import check_max_event
from triode.app.wire.refusal import Refusal, bad_request, forbidden
from triode.app.wire.stream_request import (
    StreamRequest,
    check_filter_text,
    check_policy,
    check_position,
    check_room,
    check_snapshot,
    check_tag_count,
    check_tags,
    texts,
)
from triode.limits.meter import TURN_STEPS
from triode.limits.own_tag import as_own, own_of
from triode.store.change import parse_position
from triode.store.value import JsonError, decode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from triode.app.delivery.subscriber import Client
    from triode.app.service.triode import Triode
    from triode.app.service.under_way import Write

# So many refused messages in a row end the connection: whoever sends them does not read the
# answers. Those over the rate are counted apart, and each message within it takes back only one:
# in a flood some are within the rate by chance.
MAX_ERRORS: Final = 100
MEMBERS_SHOWN: Final = 1000


class Session:
    """The commands of one WebSocket client."""

    __slots__ = ("_client", "_errors", "_over_rate", "_triode", "_under_way")

    def __init__(self, triode: Triode, client: Client) -> None:
        self._triode = triode
        self._client = client
        self._errors = 0
        self._over_rate = 0
        # Writes that the log has not answered yet.
        self._under_way: UnderWay | None = None

    async def receive(self, message: bytes | bytearray | memoryview | str) -> None:
        """Carry out one message and push its answer. Ends the connection after too many bad ones
        in a row. Before, it waits until the client has room for one more answer.

        Cancelled, a command has either been carried out or not been begun.
        """
        triode, client = self._triode, self._client
        if client.outbox is not None or triode.hub.flusher.full:
            await self.keep_pace()
        if client.end is not None:
            return
        triode.metrics.messages_in += 1
        ref: dict[str, Any] = {}
        try:
            malformed: Refusal | None = None
            try:
                depth = triode.settings.max_depth
                if len(message) <= AT_ONCE_BYTES:
                    command = decode(message, max_depth=depth)
                else:
                    command = await decode_in_turns(message, max_depth=depth)
                    if client.has_ended():
                        return
                ref = ref_of(command)
                name = name_of(command)
            except JsonError as error:
                malformed = _malformed(error)
            except Refusal as refusal:
                malformed = refusal
            # Only now, so that this refusal too can give back the `ref`.
            triode.gate.check_command(client)
            if malformed is not None:
                raise malformed
            if triode.journal is None or not await self._begin_write(name, command, ref):
                await self._carry_out(name, command, ref)
        except Refusal as refusal:
            await self._answered()
            self._refuse(refusal, ref)

    async def keep_pace(self) -> None:
        """Wait while more is to be written than should be, to this client or to all: whoever does
        not read the answers is not asked for more questions. Who has ended is not waited for.
        """
        client, flusher = self._client, self._triode.hub.flusher
        while True:
            await flusher.room()
            outbox = client.outbox
            if client.end is not None or outbox is None or not outbox.is_behind:
                return
            await outbox.progress()
            client.active_at = trio.current_time()

    async def _begin_write(self, name: str, command: Any, ref: dict[str, Any]) -> bool:
        """Where a log is kept, a write is answered when it is in it; meanwhile the next ones are
        begun. Anything else waits until those before it are answered: False, it is to be done.
        """
        if name not in WRITES:
            await self._answered()
            return False
        if self._under_way is None:
            self._under_way = UnderWay(self._triode.settings.log_pipeline)
        await self._under_way.room()
        told = partial(self._told, ref)
        self._triode.metrics.commands_total += 1
        await begin_write(self._triode, name, command, self._client.principal, told)
        self._under_way.count += 1
        return True

    async def _answered(self) -> None:
        """Wait until all writes that were begun are answered."""
        if self._under_way is not None:
            await self._under_way.none_left()

    def _told(self, ref: dict[str, Any], write: Write) -> None:
        """The log has answered; in the order in which the writes were begun."""
        assert self._under_way is not None
        self._under_way.done()
        if self._client.end is not None:
            return
        if write.error is None:
            assert write.position is not None
            self._ok(ref, write_answer(self._triode.store, write.op, write.position))
            self._succeeded()
        else:
            self._refuse(refusal_for(self._triode.metrics, write.error), ref)

    def _succeeded(self) -> None:
        self._errors = 0
        if self._over_rate:
            self._over_rate -= 1

    def _refuse(self, refusal: Refusal, ref: dict[str, Any]) -> None:
        self._triode.metrics.refused[refusal.status] += 1
        is_over_rate = refusal.status == 429
        if is_over_rate:
            self._over_rate += 1
        else:
            self._errors += 1
            self._over_rate = max(0, self._over_rate - 1)
        body = refusal.body()
        del body["type"]  # about:blank, RFC 9457's own default: the frame's type is "error"
        self._triode.hub.tell(self._client, "error", ref | body)
        if max(self._errors, self._over_rate) >= MAX_ERRORS:
            end = end_reasons.RATE if is_over_rate else end_reasons.ABUSE
            self._triode.hub.end(self._client, end)

    async def _carry_out(self, name: str, command: Any, ref: dict[str, Any]) -> None:
        own, waiting = _OWN.get(name), _WAITING.get(name)
        if own is not None or waiting is not None:
            check_command(name, command)
            self._triode.metrics.commands_total += 1
            if own is not None:
                own(self, command, ref)
            if waiting is not None:
                await waiting(self, command, ref)
            self._succeeded()
            return
        principal = self._client.principal
        answer = await carry_out(self._triode, name, command, principal, self._client)
        self._succeeded()
        self._ok(ref, answer)

    def _ok(self, ref: dict[str, Any], members: dict[str, Any] | None = None) -> None:
        self._triode.hub.tell(self._client, "ok", ref | members if members else ref)

    async def _get(self, command: dict[str, Any], ref: dict[str, Any]) -> None:
        triode, client = self._triode, self._client
        filter = await filter_of(triode, client.principal, command)
        frame = selection(triode.store, filter, ref, allowance(TURN_STEPS))
        if frame is None:
            with triode.store.document.pin() as root:
                await affordable(triode, client.principal, [filter], root)
            require_pin_room(triode.ledger)
            # Of the document as it is by now: the client may have been sent what has changed
            # meanwhile. So it may have grown, too.
            frame = lazy_selection(triode.store, filter, ref, 2 * triode.settings.max_work)
        triode.hub.push(client, frame)

    async def _subscribe(self, command: dict[str, Any], ref: dict[str, Any]) -> None:
        triode, client = self._triode, self._client
        text = check_filter_text(command.get("filter"))
        policy = check_policy(command.get("policy"))
        since = command.get("since")
        if since is not None and type(since) is not str:
            raise bad_request('"since" must be a position, a string EPOCH:SEQ', member="since")
        request = StreamRequest(
            snapshot=check_snapshot(command.get("snapshot")),
            since=None if since is None else parse_position(since),
            resume=since is not None,
            max_event=check_max_event(command.get("max_event")),
        )
        at = check_position(command.get("at"), "at")
        [filter] = await readable(triode.gate, client.principal, [text])
        await reach(triode, at)
        await reach_if_any(triode, request.since)
        if client.end is not None:
            return
        most = triode.settings.max_filters
        if text not in client.subscriptions and len(client.subscriptions) >= most:
            raise bad_request(f"too many filters; {most} are allowed", limit=most)
        require_filter_room(triode.ledger, triode.store, [filter])
        stream_start.add(triode.hub, client, filter, policy, request, ref)

    async def _unsubscribe(self, command: dict[str, Any], ref: dict[str, Any]) -> None:
        text = check_filter_text(command.get("filter"))
        if not self._triode.hub.unsubscribe(self._client, text):
            # What is malformed is told so, as everywhere.
            await readable(self._triode.gate, self._client.principal, [text])
            raise Refusal(404, f"this connection has no subscription to {text}")
        self._ok(ref)

    async def _join(self, command: dict[str, Any], ref: dict[str, Any]) -> None:
        triode, client = self._triode, self._client
        most = triode.settings.max_rooms
        names = _names(command, most)
        for name in names:
            triode.gate.require_room(client.principal, name)
        if len(client.rooms.keys() | set(names)) > most:
            raise bad_request(f"too many rooms; {most} are allowed", limit=most)
        require_client_room(triode.ledger)
        sinces = _sinces(command, names)
        was = command.get("was")
        if was is not None and type(was) is not str:
            raise bad_request('"was" must be the id that this client had before', member="was")
        asked = {name: parse_position(text) for name, text in sinces.items()}
        hub = triode.hub
        if hub.rooms.are_shared:
            newest = max(filter(None, asked.values()), key=lambda since: since.seq, default=None)
            await reach_if_any(triode, newest)
        if client.end is not None:
            return
        rooms = [hub.join(client, name) for name in names]
        wanted = {r: asked[r.name] for r in rooms if r.name in asked}
        missed = hub.rooms.missed("ws", wanted, was=was)
        # What was missed follows this answer: until then the client is where it was.
        behind = missed if any(missed.values()) else {}
        reached = {r.name: str(wanted[r] if r in behind else hub.rooms.position(r)) for r in rooms}
        members = self._members(command["room"]) | {"positions": reached}
        if sinces:
            resumed = {room.name: room in missed for room in wanted}
            members["resumed"] = resumed if type(command["room"]) is list else resumed[names[0]]
        self._ok(ref, members)
        hub.metrics.resumes_total += len(missed)
        hub.metrics.resumes_refused += len(wanted) - len(missed)
        for frames in missed.values():
            for frame in frames:
                hub.push(client, frame)

    def _leave(self, command: dict[str, Any], ref: dict[str, Any]) -> None:
        for name in _names(command, self._triode.settings.max_rooms):
            self._triode.hub.leave(self._client, name)
        self._ok(ref, self._members(command["room"]))

    def _members(self, room: str | list[str]) -> dict[str, Any]:
        """Who is in the room: a list of client ids; for a list of rooms an object of such lists."""
        if isinstance(room, str):
            return {"members": self._members_of(room)}
        return {"members": {name: self._members_of(name) for name in dict.fromkeys(room)}}

    def _members_of(self, name: str) -> list[str]:
        room = self._triode.hub.rooms.get(name)
        if room is None:
            return []
        return [member.id for member, _ in zip(room.members, range(MEMBERS_SHOWN), strict=False)]

    def _tag(self, command: dict[str, Any], ref: dict[str, Any]) -> None:
        if not self._triode.settings.client_tags:
            raise forbidden("this server does not let clients tag themselves")
        tags = command.get("tags")
        if type(tags) is not dict:
            raise bad_request('"tags" must be an object of strings, null to take one away')
        tags = as_own(check_tags(tags, removable=True))
        known = self._triode.hub.tags
        check_tag_count(own_of(known.merged(self._client, tags)))
        require_client_room(self._triode.ledger)
        known.update(self._client, tags)
        self._ok(ref, {"tags": own_of(known.of(self._client))})

    def _auth(self, command: dict[str, Any], ref: dict[str, Any]) -> None:
        token = command.get("token")
        if type(token) is not str:
            raise bad_request('"token" must be a string', member="token")
        before = [*self._client.subscriptions]
        principal = renewal.authenticate(self._triode, self._client, token)
        ended = [text for text in before if text not in self._client.subscriptions]
        members: dict[str, Any] = {"expires_at": principal.expires_at}
        self._ok(ref, members | {"ended": ended} if ended else members)

    def _ping(self, command: dict[str, Any], ref: dict[str, Any]) -> None:
        body = ref | {"time": self._triode.clock.unix_ms()}
        self._triode.hub.push(self._client, Frame(control("ws", "pong", body)))


def _names(command: dict[str, Any], most: int) -> list[str]:
    """The rooms that a command is about, each once. Raises `Refusal` 400."""
    listed = command.get("room")
    # Before any of them is looked at: a message of a megabyte may name a quarter of a million.
    if type(listed) is list and len(listed) > most:
        raise bad_request(f"too many rooms; {most} are allowed", limit=most)
    names = [check_room(name) for name in texts(command, "room")]
    if not names:
        raise bad_request('"room" must be a name or a list of names', member="room")
    return list(dict.fromkeys(names))


def _sinces(command: dict[str, Any], names: list[str]) -> dict[str, str]:
    """From where to resume in each room: `since` is a position for the only room, or an object of
    them by room. Raises `Refusal` 400.
    """
    since = command.get("since")
    if since is None:
        return {}
    if isinstance(since, str) and len(names) == 1:
        return {names[0]: since}
    known = isinstance(since, dict) and all(name in names for name in since)
    if not known or not all(isinstance(position, str) for position in since.values()):
        raise bad_request(
            '"since" must be a position for one room, or an object of positions by room',
            member="since",
        )
    positions: dict[str, str] = since
    return positions


def _malformed(error: JsonError) -> Refusal:
    extra: dict[str, Any] = {} if error.offset is None else {"offset": error.offset}
    return bad_request(f"not JSON: {error.detail}", **extra)


# They may wait: for a filter that takes long to read, for a position that is not here yet.
_WAITING: Final[dict[str, Callable[[Session, dict[str, Any], dict[str, Any]], Awaitable[None]]]] = {
    "get": Session._get,
    "subscribe": Session._subscribe,
    "unsubscribe": Session._unsubscribe,
    "join": Session._join,
}
_OWN: Final[dict[str, Callable[[Session, dict[str, Any], dict[str, Any]], None]]] = {
    "leave": Session._leave,
    "tag": Session._tag,
    "auth": Session._auth,
    "ping": Session._ping,
}

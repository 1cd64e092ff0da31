"""Messages, which are not state: to rooms, to one client, to those that carry certain tags.

A room belongs to all Triodes that share a log. So what is said in it goes through the log, and each
tells its own members when it comes out of it: all hear the same, in one order, with the numbers of
the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from triode.app.delivery.rooms import require_few
from triode.app.service.peers import NO_COMPANY, Direct
from triode.app.wire.frame import Frame, control
from triode.app.wire.refusal import bad_request, forbidden
from triode.app.wire.stream_request import check_event, check_room
from triode.store.json_type import JsonError
from triode.store.said import Say
from triode.store.value import encode

if TYPE_CHECKING:
    from triode.app.delivery.subscriber import Client
    from triode.app.service.applier import Applier
    from triode.app.service.journal import Journal
    from triode.app.service.peers import Peers
    from triode.limits.principal import Principal
    from triode.store.value import Json


class Published(NamedTuple):
    """What became of a message: how many clients it `reached`, and for how many it was `dropped`
    because too much waits for them.
    """

    reached: int
    dropped: int = 0


class Saying:
    """A message, and who sends it. Raises `Refusal` 400 for a name that no message may have."""

    __slots__ = ("_data", "_event", "echo", "principal", "sender")

    def __init__(
        self, principal: Principal, sender: Client | None, event: str, data: Json, *, echo: bool
    ) -> None:
        self.principal = principal
        self.sender = sender
        self.echo = echo
        self._event = check_event(event)
        self._data = data

    @property
    def omit(self) -> Client | None:
        """Who does not hear it."""
        return None if self.echo else self.sender

    def body(self, time_ms: int) -> dict[str, Any]:
        """The members of the event, but for `room`."""
        return {
            "event": self._event,
            "data": self._data,
            "from": self.sender.id if self.sender is not None else self.principal.name,
            "time": time_ms,
        }


def publish(
    triode: Applier,
    said: Saying,
    *,
    rooms: list[str] | None,
    to: str | None,
    tags: dict[str, str] | None,
) -> Published:
    """See `Triode.publish`."""
    hub, omit, principal = triode.hub, said.omit, said.principal
    body = said.body(triode.clock.unix_ms())
    for name in rooms or ():
        triode.gate.require_room(principal, name)
    client = None if to is None else hub.clients.get(to)
    if client is not None:
        _require_company(said, client)
    if rooms:
        if hub.rooms.are_shared:
            raise RuntimeError("with a shared log (--log) every message waits for it: use `say`")
        reached = hub.rooms.send(rooms, body, omit=omit)
        triode.metrics.messages_published += 1
        return Published(reached)
    triode.metrics.messages_published += 1
    body = {"room": None} | body
    if to is None:
        who = [client for client in hub.tags.select(tags or {}) if client is not omit]
        return Published(hub.send(who, lambda kind: Frame(control(kind, "message", body))))
    if client is None or client is omit:
        return Published(0)
    told = hub.direct(client, control(client.kind, "message", body), principal.key)
    return Published(int(told), int(not told))


def _require_company(said: Saying, client: Client) -> None:
    """Raises `Refusal` 403 unless a client may be written to: by admins, by itself, and by those
    in a room with it.
    """
    sender = said.sender
    if said.principal.grant.admin or sender is client:
        return
    if sender is None or not sender.rooms.keys() & client.rooms.keys():
        raise forbidden(NO_COMPANY)


async def say(
    triode: Applier, journal: Journal | None, said: Saying, rooms: list[str]
) -> Published:
    """See `Triode.say`."""
    if not triode.hub.rooms.are_shared:
        await trio.lowlevel.checkpoint()
        return publish(triode, said, rooms=rooms, to=None, tags=None)
    for name in rooms:
        triode.gate.require_room(said.principal, name)
    assert journal is not None
    body = said.body(triode.clock.unix_ms())
    names = tuple(dict.fromkeys(rooms))
    if len(names) > 1:
        try:
            require_few(len(names), len(encode(body)))
        except JsonError as error:
            raise bad_request(f"not JSON: {error.detail}") from error
    omitted = None if said.omit is None else said.omit.id
    write = await journal.submit(Say(names, body, omitted), said.principal)
    await write.answer()
    triode.metrics.messages_published += 1
    return Published(write.reached)


async def carry_out(
    triode: Applier,
    journal: Journal | None,
    principal: Principal,
    command: dict[str, Any],
    sender: Client | None,
    peers: Peers | None = None,
) -> dict[str, Any]:
    """The command `publish`; the members of its `ok`. Raises `Refusal`; then nothing was said."""
    event = check_event(command.get("event", "message"))
    given = [name for name in ("room", "to", "tags") if command.get(name) is not None]
    if len(given) != 1:
        raise bad_request('say to whom: exactly one of "room", "to" (a client id) or "tags"')
    room, to, tags = command.get("room"), command.get("to"), command.get("tags")
    rooms: list[str] = []
    if room is not None:
        listed = room if type(room) is list else [room]
        most = triode.settings.max_rooms
        if len(listed) > most:
            raise bad_request(f"too many rooms; {most} are allowed", limit=most)
        rooms = [check_room(name) for name in listed]
    if to is not None and type(to) is not str:
        raise bad_request('"to" must be a client id', member="to")
    if tags is not None:
        if type(tags) is not dict or not all(type(v) is str for v in tags.values()):
            raise bad_request('"tags" must be an object of strings', member="tags")
        triode.gate.require_admin(principal)
    echo = command.get("echo") is True
    said = Saying(principal, sender, event, command.get("data"), echo=echo)
    if to is not None and peers is not None and peers.is_elsewhere(to):
        return await peers.direct(_to_elsewhere(triode, said, to))
    if rooms and triode.hub.rooms.are_shared:
        published = await say(triode, journal, said, rooms)
    else:
        published = publish(triode, said, rooms=rooms, to=to, tags=tags)
    told: dict[str, Any] = {"reached": published.reached}
    if published.dropped:
        told["dropped"] = published.dropped
    if tags and peers is not None:
        body = {"room": None} | said.body(triode.clock.unix_ms())
        await peers.to_tags(tags, body, told)
    return told


def _to_elsewhere(triode: Applier, said: Saying, to: str) -> Direct:
    """Raises `Refusal` 403 for whom nobody is in a room with."""
    principal, sender = said.principal, said.sender
    is_admin = principal.grant.admin
    if not is_admin and (sender is None or not sender.rooms):
        raise forbidden(NO_COMPANY)
    triode.metrics.messages_published += 1
    rooms = None if is_admin or sender is None else list(sender.rooms)
    body = encode({"room": None} | said.body(triode.clock.unix_ms()))
    return Direct(to, body, principal.key, rooms)

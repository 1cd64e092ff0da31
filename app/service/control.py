"""What is done to clients from outside: list them, send to them, tag them, close them. A request
selects them, here or at another Triode that shares the log.
"""

from __future__ import annotations

import base64
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from triode.app.service.client_queries import paced, portraits, select
from triode.app.service.return_times import ReturnTimes
from triode.app.service.snapshot_reading import DOCUMENT_DEPTH
from triode.app.wire import end_reasons
from triode.app.wire.frame import BINARY, TEXT, Frame, VerbatimFrame, control, ws_frame
from triode.app.wire.stream_request import check_tag_count
from triode.limits.own_tag import given_of
from triode.store.decode import decode

if TYPE_CHECKING:
    from triode.app.service.applier import Applier
    from triode.app.wire.frame import Kind
    from triode.store.value import Json

KINDS: Final[tuple[Kind, ...]] = ("sse", "ws")


class Message(msgspec.Struct, frozen=True):
    """What is sent to clients: `payload` is JSON, text or bytes."""

    form: Literal["json", "text", "bytes"]
    payload: bytes
    sender: str
    time_ms: int

    def frame(self, kind: Kind) -> Frame:
        """A WebSocket gets just the payload: it is the application's own protocol, as with other
        gateways. An event stream, which is text in lines, gets a `message`.
        """
        if kind == "ws":
            return VerbatimFrame(ws_frame(BINARY if self.form == "bytes" else TEXT, self.payload))
        body: dict[str, Any] = {"room": None, "event": "message", "data": self._data()}
        if self.form == "bytes":
            body["encoding"] = "base64"
        return Frame(control("sse", "message", body | {"from": self.sender, "time": self.time_ms}))

    def _data(self) -> Json:
        if self.form == "json":
            return decode(self.payload, max_depth=DOCUMENT_DEPTH)
        is_text = self.form == "text"
        return (self.payload if is_text else base64.b64encode(self.payload)).decode()


class Order(msgspec.Struct, frozen=True):
    """What is to be done, and to whom: those that have one of `ids`, if any, and carry all `tags`.
    A list without either is of all.
    """

    what: Literal["list", "send", "tag", "close"]
    ids: list[str]
    tags: dict[str, str]
    limit: int = 0
    message: Message | None = None
    new_tags: dict[str, str | None] = {}


async def carry_out(triode: Applier, order: Order) -> dict[str, Any]:
    """Do it to the clients of this Triode; the members of the answer. Raises `Refusal`."""
    match order.what:
        case "list":
            return await _list(triode, order)
        case "send":
            return await _send(triode, order)
        case "tag":
            return await _tag(triode, order)
        case "close":
            return await _close(triode, order)


async def _list(triode: Applier, order: Order) -> dict[str, Any]:
    hub = triode.hub
    is_of_all = not order.ids and not order.tags
    found = list(hub.clients.values()) if is_of_all else select(hub, order.ids, order.tags)
    return {"connections": await portraits(hub, found[: order.limit]), "total": len(found)}


async def _send(triode: Applier, order: Order) -> dict[str, Any]:
    assert order.message is not None
    await triode.hub.flusher.room()
    triode.metrics.messages_published += 1
    chosen = select(triode.hub, order.ids, order.tags)
    return {"reached": triode.hub.send(chosen, order.message.frame)}


async def _tag(triode: Applier, order: Order) -> dict[str, Any]:
    hub = triode.hub
    async with aclosing(paced(select(hub, order.ids, order.tags))) as clients:
        async for client in clients:
            check_tag_count(given_of(hub.tags.merged(client, order.new_tags)))
    reached = 0
    async for client in paced(select(hub, order.ids, order.tags)):
        hub.tags.update(client, order.new_tags)
        reached += 1
    return {"reached": reached}


async def _close(triode: Applier, order: Order) -> dict[str, Any]:
    hub, last = triode.hub, order.message
    frames = {} if last is None else {kind: last.frame(kind) for kind in KINDS}
    chosen = [client async for client in paced(select(hub, order.ids, order.tags))]
    times = ReturnTimes(triode.settings, chosen)
    reached = 0
    async for client in paced(chosen):
        if last is not None:
            hub.push(client, frames[client.kind])
        hub.end(client, end_reasons.NORMAL, retry_ms=times.next_ms(client))
        reached += 1
    return {"reached": reached}

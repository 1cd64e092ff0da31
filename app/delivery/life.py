"""The life of a subscriber. Its state changes here and nowhere else.

    state          event                                       becomes
    new            begin, its socket can be written to         flowing
    new            begin, only its lane writes (ASGI, TLS)     slow
    flowing        stall: the socket did not take all          slow
    slow           lose: its queue was full                    healing
    healing        settle: gaps and snapshots are queued       slow
    slow           drained: nothing waits any more             flowing, unless only its lane writes
    any of these   end, goodbye: all was taken at once         gone
    any of these   end, goodbye: some of it waits              finishing
    finishing      drained: the goodbye is out                 gone
    any            end, at once or silently                    gone

`flowing`, `slow` and `healing` are told apart by what a client has: no outbox, an outbox, losses.
One that is `finishing` or `gone` has an `end`, is in no registry, and is sent nothing new. It keeps
its place among those that are admitted until it is gone: it still costs what they cost.

`end` is the only way to end a client, for whatever reason. Whoever waits for the client (its lane,
its session) is woken by it and looks at `Client.end`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from triode.app.delivery.direct_message import SENDERS
from triode.app.delivery.losses import Losses
from triode.app.delivery.outbox import Outbox
from triode.app.wire import end_reasons
from triode.app.wire.chunks import LAST
from triode.app.wire.compression import on_wire
from triode.app.wire.end_reasons import Ended
from triode.app.wire.frame import Frame, control, ws_close

if TYPE_CHECKING:
    from triode.app.delivery.ports import HubPort
    from triode.app.delivery.subscriber import Client
    from triode.app.wire.end_reasons import End, How


def begin(hub: HubPort, client: Client) -> None:
    """A new client: it is in the registry, and in a group that hears nothing yet."""
    hub.clients[client.id] = client
    # Over ASGI a send is awaited, so all it is owed goes by the queue from the first frame on.
    if client.send_now is None:
        client.outbox = _outbox(hub)
    hub.place(client)


def stall(hub: HubPort, client: Client) -> None:
    """A flowing client's socket did not take all: what it is owed waits from now on."""
    client.outbox = _outbox(hub)
    # One that is ending is in no group any more, but its goodbye may have to wait as well.
    if client.group is not None:
        client.group.stall(client)


def lose(client: Client) -> Losses:
    """A client has lost something, or is about to: what it is owed beyond its queue."""
    if client.losses is None:
        client.losses = Losses()
    return client.losses


def settle(client: Client) -> None:
    """Its losses may have been told and repaired: if none is left, it is whole again."""
    # Back to None, which the hot path compares with: an empty one would be asked each time.
    if not client.losses:
        client.losses = None


def drained(client: Client) -> None:
    """Nothing waits for it any more. It flows again, unless it has to wait for a resync."""
    if client.send_now is None:
        return  # only its lane knows when the last is out; that says it with `end`
    if client.end is not None:
        _go(client)
    elif client.group is not None and not client.losses:
        # The empty outbox goes too: many have been slow once, and need not keep one each.
        client.outbox = client.losses = None
        client.group.flow(client)


def end(
    hub: HubPort,
    client: Client,
    reason: End,
    how: How = "goodbye",
    *,
    retry_ms: int = 1000,
    goodbye: bytes | None = None,
) -> None:
    """End a client. Of several ends the first gives the reason; a later one can only be quicker.

    With "goodbye" it is gone when all is written or a write has passed its deadline. `goodbye`
    replaces what is said (the echo of a peer's close frame).
    """
    due: list[Frame] = []
    # `client.end` is set before anything is sent: sending may fail, and so come back here.
    if client.end is None:
        due = _leave_all(hub, client, reason)
    elif client.is_gone or how == "goodbye":
        return
    if how == "goodbye":
        said = _goodbye(client, reason, retry_ms) if goodbye is None else goodbye
        if not _is_taken(hub, client, [*due, Frame(said)]):
            return
    _go(client)
    # After `_go`: the abort may wake the lane's task, which must find the client gone.
    if how == "at once":
        client.lane.abort()


def _is_taken(hub: HubPort, client: Client, due: list[Frame]) -> bool:
    """Send the last that a client is owed. False: some of it waits; whoever writes goes on."""
    if client.outbox is not None:
        # Its session may wait until the client has taken more. It must not: it has to end.
        client.outbox.wake()
        hub.writers.enqueue(client, due)
        return False
    assert client.send_now is not None
    sent = 0
    # A lazy frame is made piece by piece, and only a writer does that.
    if not any(frame.is_lazy for frame in due):
        data = b"".join([on_wire(frame, client.deflate_from) for frame in due])
        if client.chunks is not None:
            data = client.chunks.framed(data)
        try:
            sent = client.send_now(data if client.chunks is None else data + LAST)
        except BlockingIOError:
            pass
        except OSError:
            return True  # nobody is there to take it
        if sent >= len(data):
            return True
    hub.writers.stall(client, due, sent)
    return False


def _go(client: Client) -> None:
    # First of all: whoever is woken below looks at it.
    client.is_gone = True
    if client.outbox is not None:
        client.outbox.close()
        client.outbox = None
    # Not before it is gone: until then it costs what any other client costs.
    if client.ticket is not None:
        client.ticket.release()
    client.lane.wake()


def _leave_all(hub: HubPort, client: Client, reason: End) -> list[Frame]:
    """Take a client out of everything. What it is still owed."""
    client.end = reason
    due = hub.forget(client)
    hub.metrics.ends[reason.label] += 1
    hub.ended.append(Ended(trio.current_time(), client.id, client.kind, reason.label, client.ip))
    return due


def _goodbye(client: Client, reason: End, retry_ms: int) -> bytes:
    if client.kind == "sse":
        closing = control("sse", "closing", {"reason": reason.label, "retry_ms": retry_ms})
        return b"retry: %d\n" % retry_ms + closing  # what an EventSource goes by
    # Clients know these texts: a reason is one word, and only a restart says when to come back.
    is_restart = reason.code == end_reasons.RESTART.code
    return ws_close(reason.code, f'{{"retry_ms":{retry_ms}}}' if is_restart else reason.label)


def _outbox(hub: HubPort) -> Outbox:
    settings = hub.settings
    # Of what others send to it alone a part is each sender's, see `overflow.takes_direct`.
    directs = SENDERS * settings.direct_items
    return Outbox(settings.queue_items, settings.queue_bytes, directs, hub.backlog)

"""An HTTP/2 connection on which nothing is asked has an end, whatever was asked before."""

from __future__ import annotations

import h2.connection
import hypercorn.protocol
import hypercorn.protocol.h2
import pytest
import trio

from tests.app.serving import Client, running
from triode.app.lanes import http2
from triode.app.lanes.handoff_limits import HandoffLimits

# Hypercorn's timer is a second longer than these together.
QUICK = HandoffLimits(keep_alive_s=0.1, head_deadline_s=0.1, linger_s=0.1)


@pytest.fixture(autouse=True)
def our_http2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypercorn with our HTTP/2, and its own again afterwards."""
    for module, name in (
        (hypercorn.protocol, "H2Protocol"),
        (hypercorn.protocol.h2, "StreamBuffer"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    http2.install()


def ask(peer: h2.connection.H2Connection, path: str) -> None:
    fields = [(":method", "GET"), (":path", path), (":authority", "x"), (":scheme", "http")]
    peer.send_headers(1, fields, end_stream=True)


async def wait_for_end(client: Client) -> None:
    with trio.fail_after(30):
        while await client.stream.receive_some():
            pass


async def test_a_preface_without_a_request_is_ended() -> None:
    async with running(handoff=QUICK) as server:
        client = await server.connect()
        peer = h2.connection.H2Connection()
        peer.initiate_connection()
        await client.send(peer.data_to_send())
        await wait_for_end(client)
        await client.close()


async def test_a_connection_whose_only_request_was_reset_is_ended() -> None:
    async with running(handoff=QUICK) as server:
        client = await server.connect()
        peer = h2.connection.H2Connection()
        peer.initiate_connection()
        ask(peer, "/never")
        peer.reset_stream(1)
        await client.send(peer.data_to_send())
        await wait_for_end(client)
        await client.close()


async def test_a_connection_with_a_request_under_way_is_not_idle() -> None:
    async with running(handoff=QUICK) as server:
        client = await server.connect()
        peer = h2.connection.H2Connection()
        peer.initiate_connection()
        ask(peer, "/never")
        await client.send(peer.data_to_send())
        # Longer than Hypercorn's timer, by the clock: it is what must not end the connection.
        with trio.move_on_after(2) as patience:
            while await client.stream.receive_some():
                pass
        assert patience.cancelled_caught
        await client.close()

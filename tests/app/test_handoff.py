"""Hypercorn behind our stream: sequences of both lanes on one connection, bodies, deadlines,
ends."""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.lowlevel
from hypercorn.typing import ASGIFramework
from quart import request
from quart_trio import QuartTrio

from tests.app.serving import BIG, Client, application, running
from triode.app.lanes.handoff_limits import HandoffLimits
from triode.app.lanes.hypercorn import LifespanEnded, make_config, run_lifespan

EVENTS = "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"
PLAIN = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
QUICK = HandoffLimits(
    keep_alive_s=0.2, head_deadline_s=0.3, write_deadline_s=0.3, body_idle_s=0.2, linger_s=0.2
)


async def test_plain_requests_on_one_connection() -> None:
    async with running() as server:
        client = await server.connect()
        for _ in range(3):
            assert await client.get("/a?b") == (200, b"GET /a  http 127.0.0.1")
        await client.close()
        await server.settled()
        assert server.counts.handed_off == 1
        assert server.counts.failed == server.counts.broken == 0


async def test_native_after_handed_off_requests() -> None:
    async with running() as server:
        client = await server.connect()
        assert (await client.get("/a"))[0] == 200
        assert (await client.get("/b"))[0] == 200
        await client.send(EVENTS)
        assert await client.event() == "data: native /events 127.0.0.1 False"
        assert (server.counts.given_back, server.counts.native) == (1, 1)
        await client.close()
        await server.settled()


async def test_native_at_once() -> None:
    async with running() as server:
        client = await server.connect()
        await client.send(EVENTS)
        assert await client.event() == "data: native /events 127.0.0.1 False"
        assert server.counts.handed_off == 0
        await client.close()
        await server.settled()


async def test_pipelined_native_waits_for_the_earlier_answers() -> None:
    async with running() as server:
        client = await server.connect()
        slow = "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
        await client.send(slow + PLAIN + EVENTS + "rest")
        assert (await client.answer())[1].startswith(b"GET /slow")
        assert (await client.answer())[1].startswith(b"GET /a")
        assert await client.event() == "data: native /events 127.0.0.1 False rest"
        await client.close()
        await server.settled()


async def test_pipelined_byte_by_byte() -> None:
    async with running() as server:
        client = await server.connect()
        chunks = "POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks += "2\r\nab\r\n1;x\r\nc\r\n0\r\nA: b\r\n\r\n"
        length = "POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nxyz\r\n"
        for byte in chunks + length + PLAIN + EVENTS:
            await client.send(byte)
            await trio.lowlevel.checkpoint()
        assert (await client.answer())[1].startswith(b"POST /b abc ")
        assert (await client.answer())[1].startswith(b"POST /c xyz ")
        assert (await client.answer())[1].startswith(b"GET /a")
        assert (await client.event()).startswith("data: native")
        await client.close()
        await server.settled()


async def test_a_native_head_inside_a_body_is_only_a_body() -> None:
    async with running() as server:
        client = await server.connect()
        await client.send(f"POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: {len(EVENTS)}\r\n\r\n")
        await client.send(EVENTS)
        assert (await client.answer())[1].startswith(b"POST /c GET /events")
        assert server.counts.native == 0
        await client.close()


@pytest.mark.parametrize("chunked", [False, True])
async def test_20_mib_pass(chunked: bool) -> None:
    async with running() as server:
        client = await server.connect()
        head = "POST /digest HTTP/1.1\r\nHost: x\r\n"
        if chunked:
            await client.send(head + "Transfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(BIG), 100_000):
                piece = BIG[at : at + 100_000]
                await client.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
            await client.send("0\r\n\r\n")
        else:
            await client.send(head + f"Content-Length: {len(BIG)}\r\n\r\n")
            await client.send(BIG)
        assert (await client.answer())[1].decode() == hashlib.sha256(BIG).hexdigest()
        assert (await client.get("/big")) == (200, BIG)
        await client.send(EVENTS)
        assert (await client.event()).startswith("data: native")
        await client.close()
        await server.settled()


async def test_100_continue() -> None:
    async with running() as server:
        client = await server.connect()
        head = "POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        await client.send(head)
        assert (await client.answer())[0] == 100
        await client.send("xyz" + EVENTS)
        assert (await client.answer())[1].startswith(b"POST /c xyz")
        assert (await client.event()).startswith("data: native")
        await client.close()


async def test_an_early_answer_arrives_although_the_body_is_not_read() -> None:
    async with running() as server:
        client = await server.connect()
        await client.send("POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n")
        await client.send(b"x" * 300_000)
        assert await client.answer() == (413, b"too big")
        # In order: a reset, which unread bytes cause at a plain close, could overtake the answer.
        assert await client.stream.receive_some() == b""
        await client.close()
        await server.settled()


async def test_absolute_form_reaches_the_route() -> None:
    async with running() as server:
        client = await server.connect()
        assert (await client.get("http://x/a?b"))[1].startswith(b"GET /a ")
        await client.send("GET http://x/events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.event()).startswith("data: native /events")
        await client.close()


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ("GET / HTTP/1.1\nHost: x\n\n", 400),
        ("GET / HTTP/3.0\r\n", 505),
    ],
)
async def test_later_heads_are_checked_as_strictly(bad: str, status: int) -> None:
    async with running() as server:
        client = await server.connect()
        await client.send(PLAIN + bad + EVENTS)
        assert (await client.answer())[0] == 200
        found, body = await client.answer()
        assert found == status
        assert b'"status":%d' % status in body
        assert await client.ended() == b""
        await client.close()
        await server.settled()


async def test_malformed_chunk_is_refused() -> None:
    async with running() as server:
        client = await server.connect()
        await client.send("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.send("1\nx\n0\n\n")
        assert (await client.answer())[0] == 400
        assert await client.ended() == b""
        await client.close()
        await server.settled()


async def test_an_application_that_fails_answers_500_and_the_server_lives() -> None:
    async with running() as server:
        client = await server.connect()
        assert (await client.get("/fail"))[0] == 500
        await client.ended()
        await client.close()
        client = await server.connect()
        assert (await client.get("/a"))[0] == 200
        await client.close()
        await server.settled()


async def test_a_client_that_leaves_is_noticed_while_its_answer_is_made() -> None:
    async with running() as server:
        client = await server.connect()
        await client.send("GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
        await trio.sleep(0.05)
        await client.close()
        with trio.fail_after(1):
            await server.state["left"].wait()
        await server.settled()


async def test_a_client_that_resets_while_more_of_its_bytes_are_held_back() -> None:
    async with running() as server:
        client = await server.connect()
        assert isinstance(client.stream, trio.SocketStream)
        await client.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + PLAIN)
        await client.stream.send_eof()
        await trio.sleep(0.05)
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.close()
        await server.settled()


async def test_an_idle_connection_is_closed_and_leaves_quickly() -> None:
    async with running(handoff=QUICK) as server:
        client = await server.connect()
        assert (await client.get("/a"))[0] == 200
        began = trio.current_time()
        assert await client.ended() == b""
        assert 0.15 < trio.current_time() - began < 1
        await client.close()
        await server.settled()


async def test_no_task_stays_behind_a_client_that_left() -> None:
    async with running() as server:
        client = await server.connect()
        assert (await client.get("/a"))[0] == 200
        await client.close()
        with trio.fail_after(0.1):
            await server.settled()


async def test_a_later_head_that_trickles_is_cut() -> None:
    async with running(handoff=QUICK) as server:
        client = await server.connect()
        assert (await client.get("/a"))[0] == 200
        await trio.sleep(0.1)
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await client.trickle("GET /a HTTP/1.1\r\nHost: x\r\nA: " + "a" * 1000)
        assert 0.25 < trio.current_time() - began < 1.5
        await client.close()
        await server.settled()


async def test_a_body_that_stops_coming_is_cut() -> None:
    async with running(handoff=QUICK) as server:
        client = await server.connect()
        await client.send("POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nx")
        assert (await client.answer())[0] == 408
        await client.ended()
        await client.close()
        await server.settled()


async def test_a_frozen_reader_is_aborted_at_the_write_deadline() -> None:
    async with running(handoff=QUICK) as server:
        client = await server.connect()
        await client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        began = trio.current_time()
        await server.settled()
        assert 0.25 < trio.current_time() - began < 2
        await client.close()


async def test_cancelled_while_the_shield_holds_a_frozen_reader() -> None:
    limits = HandoffLimits(write_deadline_s=60)
    with trio.fail_after(3):
        async with running(handoff=limits) as server:
            client = await server.connect()
            await client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            await trio.sleep(0.1)
            server.nursery.cancel_scope.cancel()
        assert server.counts.open == 0
    await client.close()


async def test_drain_finishes_answers_and_closes_idle_connections() -> None:
    async with running() as server:
        busy, idle = await server.connect(), await server.connect()
        assert (await idle.get("/a"))[0] == 200
        await busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await trio.sleep(0.05)
        await server.hypercorn.drain()
        assert (await busy.answer())[0] == 200
        assert await busy.ended() == b""
        assert await idle.ended() == b""
        late = await server.connect()
        assert (await late.get("/a"))[0] == 503
        for client in (busy, idle, late):
            await client.close()
        await server.settled()


def quart_application() -> ASGIFramework:
    app = QuartTrio(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 12 * 1024 * 1024

    @app.get("/a")
    async def greet() -> str:
        return "hello"

    @app.post("/count")
    async def count() -> str:
        return str(len(await request.get_data()))

    return cast(ASGIFramework, app)


async def test_quart_trio_which_cancels_its_task_when_its_answer_is_out() -> None:
    async with running(app=quart_application()) as server:
        client, idle = await server.connect(), await server.connect()
        assert await client.get("/a") == (200, b"hello")
        await client.send("POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
        await client.send(BIG[:10_000_000])
        assert await client.answer() == (200, b"10000000")
        await client.send(PLAIN + EVENTS)
        assert await client.answer() == (200, b"hello")
        assert (await client.event()).startswith("data: native")
        assert await idle.get("/a") == (200, b"hello")
        await server.hypercorn.drain()
        assert await idle.ended() == b""
        await client.close()
        await idle.close()
        await server.settled()


async def test_quart_trio_refuses_a_big_body() -> None:
    async with running(app=quart_application()) as server:
        client = await server.connect()
        await client.send("POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n")
        await client.send(BIG[:300_000])
        assert (await client.answer())[0] == 413
        await server.settled()
        await client.close()


@pytest.mark.parametrize("quart", [False, True])
@pytest.mark.parametrize("request_", ["GET /a HTTP/1.1\r\nConnection: close", "GET /a HTTP/1.0"])
async def test_a_client_that_never_closes_its_side(quart: bool, request_: str) -> None:
    async with running(app=quart_application() if quart else None) as server:
        client = await server.connect()
        await client.send(request_ + "\r\nHost: x\r\n\r\n" + EVENTS)
        assert (await client.answer())[0] == 200
        with trio.fail_after(1):
            await server.settled()
        await client.close()


async def test_websocket_elsewhere_is_opaque() -> None:
    async with running() as server:
        client = await server.connect()
        await client.send(
            "GET /other HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await client.until(b"\r\n\r\n")
        await client.send(EVENTS)
        await client.ended()
        assert server.counts.native == 0
        await client.close()
        await server.settled()


async def test_lifespan() -> None:
    stop = trio.Event()
    config = make_config(HandoffLimits())
    async with trio.open_nursery() as nursery:
        state = await nursery.start(
            lambda task_status: run_lifespan(
                application, config, stop=stop, task_status=task_status
            )
        )
        assert state["started"]
        assert "stopped" not in state
        stop.set()
    assert state["stopped"]


async def test_a_lifespan_that_fails_while_it_serves_is_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fail = trio.Event()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await fail.wait()
        raise RuntimeError("a service failed")

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda task_status: run_lifespan(
                    cast("ASGIFramework", app),
                    make_config(HandoffLimits()),
                    stop=trio.Event(),
                    task_status=task_status,
                )
            )
            fail.set()

    with trio.fail_after(5), pytest.raises(ExceptionGroup) as caught:
        await serve()
    assert caught.group_contains(LifespanEnded)
    assert "a service failed" in caplog.text


async def test_http2_with_prior_knowledge() -> None:
    h2_connection = pytest.importorskip("h2.connection")
    async with running() as server:
        client = await server.connect()
        h2 = h2_connection.H2Connection()
        h2.initiate_connection()
        path = [(":method", "GET"), (":path", "/a"), (":authority", "x"), (":scheme", "http")]
        h2.send_headers(1, path, end_stream=True)
        await client.send(h2.data_to_send())
        assert await h2_answer(client, h2) == b"GET /a  http 127.0.0.1"
        await client.close()
        await server.settled()


async def h2_answer(client: Client, h2: object) -> bytes:
    body = b""
    with trio.fail_after(5):
        while True:
            events = h2.receive_data(await client.stream.receive_some())  # type: ignore[attr-defined]
            for event in events:
                body += getattr(event, "data", None) or b"" if hasattr(event, "stream_id") else b""
                if type(event).__name__ == "StreamEnded":
                    return body
            await client.send(h2.data_to_send())  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server with a certificate of its own for 127.0.0.1, and of a client that trusts
    it."""
    from tests.app.certificate import make_certificate

    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    make_certificate(path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    server.set_alpn_protocols(["h2", "http/1.1"])
    client = ssl.create_default_context(cafile=str(path))
    return server, client


async def tls_client(port: int, context: ssl.SSLContext) -> Client:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    tls = trio.SSLStream(stream, context, server_hostname="127.0.0.1", https_compatible=True)
    await tls.do_handshake()
    return Client(tls)


async def test_both_lanes_over_tls(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with running(ssl_context=contexts[0]) as server:
        client = await tls_client(server.port, contexts[1])
        assert await client.get("/a") == (200, b"GET /a  https 127.0.0.1")
        assert (await client.get("/big")) == (200, BIG)
        await client.send(EVENTS)
        assert await client.event() == "data: native /events 127.0.0.1 True"
        await client.close()
        await server.settled()


async def test_http2_by_alpn(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    h2_connection = pytest.importorskip("h2.connection")
    context = contexts[1]
    context.set_alpn_protocols(["h2"])
    try:
        async with running(ssl_context=contexts[0]) as server:
            client = await tls_client(server.port, context)
            h2 = h2_connection.H2Connection()
            h2.initiate_connection()
            path = [(":method", "GET"), (":path", "/a"), (":authority", "x"), (":scheme", "https")]
            h2.send_headers(1, path, end_stream=True)
            await client.send(h2.data_to_send())
            assert await h2_answer(client, h2) == b"GET /a  https 127.0.0.1"
            await client.close()
            await server.settled()
    finally:
        context.set_alpn_protocols(["http/1.1"])


async def test_a_frozen_reader_over_tls(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with running(handoff=QUICK, ssl_context=contexts[0]) as server:
        client = await tls_client(server.port, contexts[1])
        await client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        began = trio.current_time()
        await server.settled()
        assert trio.current_time() - began < 2
        await client.close()


async def test_somebody_who_speaks_no_tls(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async with running(ssl_context=contexts[0]) as server:
        client = await server.connect()
        await client.send(PLAIN)
        await client.ended()
        await client.close()
        await server.settled()
        assert server.counts.failed == 0

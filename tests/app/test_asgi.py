"""Between an ASGI server and Quart-Trio: what is said at a start that fails, what is left when a
WebSocket has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
import trio

from tests.app.test_blueprints_body import over_tcp
from tests.app.web import serving
from triode.app import Application
from triode.app.lanes import asgi_adapter
from triode.app.wire import end_reasons

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
# A masked text frame, `{}`, with a key of zeros: a command that is refused.
REFUSED = b"\x81\x82\0\0\0\0{}"
# Longer than the test may take: a task of Hypercorn's that hangs is not to be cancelled meanwhile.
GRACEFUL_S = 60.0


async def test_hypercorn_is_not_left_with_a_full_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer goes on for longer than its answer to our close frame is waited for."""
    monkeypatch.setattr(asgi_adapter, "CLOSED_S", 0.0)
    with trio.fail_after(20):
        async with (
            serving({}, ws_rate=None) as web,
            over_tcp(web, graceful_s=GRACEFUL_S) as port,
            await trio.open_tcp_stream("127.0.0.1", port) as stream,
        ):
            await stream.send_all(UPGRADE)
            assert b" 101 " in await stream.receive_some()
            await stream.send_all(REFUSED * 5000)
            with contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some():
                    pass
            assert web.triode.hub.ended[-1].reason == end_reasons.ABUSE.label


async def started(app: Application) -> dict[str, Any]:
    """What the application answers to the start of its lifespan, if it fails."""
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    await app({"type": "lifespan"}, receive, send)
    return told[0]


def test_under_asyncio_it_says_how_to_serve_it() -> None:
    """`hypercorn triode:app` without `-k trio`, uvicorn: else each request is a traceback."""
    answer = asyncio.run(started(Application()))
    assert answer["type"] == "lifespan.startup.failed"
    assert "hypercorn -k trio triode:app" in answer["message"]
    with pytest.raises(RuntimeError, match="hypercorn -k trio"):
        asyncio.run(Application()({"type": "http"}, None, None))


async def test_a_wrong_configuration_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIODE_MAX_CLIENTS", "x")
    answer = await started(Application())
    assert answer["type"] == "lifespan.startup.failed"
    assert "TRIODE_MAX_CLIENTS must be a whole number" in answer["message"]

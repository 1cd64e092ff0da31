# mypy: ignore-errors
# (It runs in the peers' environment, whose packages are not here.)
"""Quart-Trio on Hypercorn as one would write it first: a memory channel and a task per client."""

import sys
from collections.abc import AsyncIterator

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import Response, websocket
from quart_trio import QuartTrio

app = QuartTrio(__name__)
channels: set[trio.MemorySendChannel[str]] = set()


@app.get("/events")
async def events() -> Response:
    async def stream() -> AsyncIterator[bytes]:
        send, receive = trio.open_memory_channel[str](10_000)
        channels.add(send)
        try:
            yield b"data: hello\n\n"
            async for text in receive:
                yield f"data: {text}\n\n".encode()
        finally:
            channels.discard(send)

    response = Response(stream(), content_type="text/event-stream")
    response.timeout = None
    return response


@app.websocket("/pub")
async def publish() -> None:
    while True:
        text = await websocket.receive()
        for channel in list(channels):
            try:
                channel.send_nowait(str(text))
            except trio.WouldBlock:
                pass
        await trio.lowlevel.checkpoint()


@app.get("/plain")
async def plain() -> str:
    return "ok"


config = Config()
config.bind = [f"127.0.0.1:{sys.argv[1]}"]
config.backlog = 4096
config.accesslog = None
trio.run(serve, app, config)

# mypy: ignore-errors
# (It runs in the peers' environment, whose packages are not here.)
"""Starlette with sse-starlette on uvicorn (uvloop, httptools): a queue and a task per client."""

import asyncio
import sys
from collections.abc import AsyncIterator

import uvicorn
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

queues: set[asyncio.Queue[str]] = set()


async def events(request: Request) -> EventSourceResponse:
    async def stream() -> AsyncIterator[dict[str, str]]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        queues.add(queue)
        try:
            yield {"data": "hello"}
            while True:
                yield {"data": await queue.get()}
        finally:
            queues.discard(queue)

    return EventSourceResponse(stream())


async def publish(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            text = await socket.receive_text()
            for queue in queues:
                queue.put_nowait(text)
    except WebSocketDisconnect:
        pass


app = Starlette(routes=[Route("/events", events), WebSocketRoute("/pub", publish)])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", backlog=4096)

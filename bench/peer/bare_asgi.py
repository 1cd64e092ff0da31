# mypy: ignore-errors
# (It runs in the peers' environment, whose packages are not here.)
"""A bare ASGI application on Hypercorn: reads the body, decodes it, answers. The bar for PATCH."""

import json
import sys
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

count = 0


async def app(scope: Any, receive: Any, send: Any) -> None:
    global count
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    json.loads(body)
    count += 1
    answer = b'{"id":"abcdef:%d"}' % count
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(answer)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


config = Config()
config.bind = [f"127.0.0.1:{sys.argv[1]}"]
trio.run(serve, app, config)

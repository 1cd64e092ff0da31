# mypy: ignore-errors
# (It runs in the peers' environment, whose packages are not here.)
"""picows (Cython) on uvloop: a loop of sends."""

import asyncio
import sys

import uvloop
from picows import WSListener, WSMsgType, ws_create_server

listeners: dict[object, None] = {}


class Peer(WSListener):
    def on_ws_connected(self, transport):
        self.transport = transport
        listeners[transport] = None

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.TEXT:
            payload = frame.get_payload_as_bytes()
            for other in listeners:
                if other is not transport:
                    other.send(WSMsgType.TEXT, payload)

    def on_ws_disconnected(self, transport):
        listeners.pop(transport, None)


async def main() -> None:
    server = await ws_create_server(lambda r: Peer(), "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


uvloop.install()
asyncio.run(main())

# mypy: ignore-errors
# (It runs in the peers' environment, whose packages are not here.)
"""websockets (asyncio, uvloop): its own `broadcast`."""

import asyncio
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

connections: set[ServerConnection] = set()


async def handler(connection: ServerConnection) -> None:
    if connection.request is not None and connection.request.path.startswith("/pub"):
        async for message in connection:
            broadcast(connections, message)
        return
    connections.add(connection)
    try:
        await connection.wait_closed()
    finally:
        connections.discard(connection)


async def main() -> None:
    port = int(sys.argv[1])
    async with serve(handler, "127.0.0.1", port, compression=None, ping_interval=None) as server:
        await server.serve_forever()


uvloop.install()
asyncio.run(main())

"""A chat with rooms and presence.

What is said is a message in a room, and passes. Who is there is state: this program reads it off
the rooms themselves and keeps it in `.rooms.NAME`, client id → name, so it is true also when
somebody's network is cut.

Run `python -m examples.chat`, and open http://127.0.0.1:8000/ in two windows.
"""

import trio

from examples.site import main, make_site, run_with
from triode import execute
from triode.app.service.triode import Triode
from triode.store.path import format_path

LOOK_S = 0.25

app, triode = make_site("chat.html", {"rooms": {}})


def present(server: Triode) -> dict[str, dict[str, str]]:
    """Who is in each room, under the name that the client has tagged itself with."""
    tags = server.hub.tags
    return {
        name: {client.id: tags.of(client).get("client.name", "somebody") for client in room.members}
        for name, room in server.hub.rooms.items()
    }


async def keep_presence() -> None:
    """Write what has changed, and only that."""
    known: dict[str, dict[str, str]] = {}
    while True:
        now = present(triode)
        for name in known.keys() - now.keys():
            await execute(triode, {"type": "delete", "path": format_path(("rooms", name))})
        for name, people in now.items():
            if people != known.get(name):
                await triode.set(format_path(("rooms", name)), dict(people))
        known = now
        await trio.sleep(LOOK_S)


run_with(app, keep_presence)

if __name__ == "__main__":
    main(app, __doc__)

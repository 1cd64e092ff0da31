"""Whichever worker is asked for its numbers asks the others for theirs: each answers at a Unix
socket that only this user can reach. One that does not answer in time is left out, and named.
"""

from __future__ import annotations

import logging
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from triode.app.service.worker_sums import added

if TYPE_CHECKING:
    from triode.app.runtime.worker import Worker
    from triode.app.service.stats import Stats

log = logging.getLogger("triode")

# A worker that is busy answers later than that, and is left out.
ANSWER_S: Final = 1.0
RECEIVE_BYTES: Final = 64 * 1024
MOST_BYTES: Final = 64 * 1024 * 1024
_ASK_BYTES: Final = 4096


async def answer_others(worker: Worker, stats: Stats) -> None:
    """Answer each who asks with what `/stats` has of this process, until cancelled."""
    path = worker.socket()
    path.unlink(missing_ok=True)  # of the one that died
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))
        sock.listen(64)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        await trio.serve_listeners(partial(_answer, stats), [listener])


async def _answer(stats: Stats, stream: trio.SocketStream) -> None:
    with trio.move_on_after(ANSWER_S):
        try:
            clients, limit = msgspec.json.decode(await stream.receive_some(_ASK_BYTES))
            await stream.send_all(msgspec.json.encode(await stats.own(clients, limit)))
        except (trio.BrokenResourceError, msgspec.DecodeError):
            pass  # it has waited long enough
    await trio.aclose_forcefully(stream)


async def of_all(
    worker: Worker, stats: Stats, clients: str | None = None, limit: int = 0
) -> dict[str, Any]:
    """As `Stats.own`, of all workers. Waits `ANSWER_S` at most for the others."""
    bodies: dict[int, dict[str, Any]] = {}

    async def ask(number: int) -> None:
        text = await _ask(worker, number, msgspec.json.encode((clients, limit)))
        try:
            bodies[number] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            log.debug("worker #%d does not answer", number)

    async with trio.open_nursery() as nursery:
        for number in range(1, worker.count + 1):
            if number != worker.number:
                nursery.start_soon(ask, number)
        bodies[worker.number] = await stats.own(clients, limit)
    return added(worker.number, bodies, worker.count, worker.deaths, limit)


async def _ask(worker: Worker, number: int, question: bytes) -> bytes:
    """All it says in time; empty, or cut short, if it did not."""
    text = bytearray()
    with trio.move_on_after(ANSWER_S):
        try:
            async with await trio.open_unix_socket(str(worker.socket(number))) as stream:
                await stream.send_all(question)
                while data := await stream.receive_some(RECEIVE_BYTES):
                    text += data
                    if len(text) > MOST_BYTES:
                        break
        except (OSError, trio.BrokenResourceError):
            pass
    return bytes(text)

"""`python -m bench.hops`: through how many files one write goes, and how often it changes file.
`--files` lists the files, `--trace` each call.

A measure of how the code is housed, not of speed: what a reader has to follow. The server runs in
this process; a profile function notes each call of a function of ours while one write is carried
out, from the first byte that is sent to the last byte of the answer.

A coroutine that goes on after a wait is a call to the profiler, and each coroutine that awaits it
one more. A reader follows none of them; they are counted apart.
"""

from __future__ import annotations

import dis
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from types import FrameType
from typing import Any

import trio
import trio.testing
from trio_websocket import open_websocket_url

from triode.app.config.settings import Settings
from triode.app.serve import serve

ROOT = Path(__file__).resolve().parents[1]
# The services that have nothing to do with a write, by the ends of their tasks' names.
IDLE = ("heartbeat", "watch_loop", "dispose", "Collector.run", "expire_in_time")
OURS = tuple(f"{ROOT}{os.sep}{name}{os.sep}" for name in ("app", "store", "limits"))


class Hops:
    """The files of ours that were called, in order; `begun` without those that only went on."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.begun: list[str] = []
        self.calls: list[tuple[str, str]] = []

    def note(self, frame: FrameType, event: str, _: object) -> None:
        """A profile function: notes a call when it is one of ours."""
        name = os.path.realpath(frame.f_code.co_filename)
        if event == "call" and name.startswith(OURS) and not is_idle_work():
            file = str(Path(name).relative_to(ROOT))
            self.files.append(file)
            on = goes_on(frame)
            if not on:
                self.begun.append(file)
            self.calls.append((file, f"{frame.f_code.co_qualname}{' goes on' if on else ''}"))

    def report(self, what: str, *, names: bool, trace: bool) -> None:
        """Print the figures; the files in the order of their first call; and each call."""
        print(
            f"{what}: {len(set(self.files))} files, {changes(self.files)} changes of file; "
            f"of calls alone {len(set(self.begun))} files, {changes(self.begun)} changes"
        )
        if names:
            for name in dict.fromkeys(self.files):
                print(f"    {name}  ({self.files.count(name)} calls)")
        if trace:
            for file, calls in groupby(self.calls, key=itemgetter(0)):
                print(f"    {file}: {', '.join([call for _, call in calls])}")


def changes(files: list[str]) -> int:
    """How often the file is another one than before."""
    return sum(a != b for a, b in pairwise(files))


def is_idle_work() -> bool:
    """Whether this would happen without a write: a service's task, or an instrument of Trio's."""
    try:
        task = trio.lowlevel.current_task()
    except RuntimeError:
        return True
    return task.name.endswith(IDLE)


def goes_on(frame: FrameType) -> bool:
    """Whether it is a coroutine or a generator that has been running before."""
    code = frame.f_code.co_code
    # The argument of `RESUME` says where it stands: 0 is the beginning of the function.
    return dis.opname[code[frame.f_lasti]] == "RESUME" and code[frame.f_lasti + 1] & 3 != 0


async def followed(act: Callable[[], Awaitable[Any]]) -> Hops:
    """What one act goes through, the server's idle work aside."""
    hops = Hops()
    await trio.testing.wait_all_tasks_blocked(0.05)
    sys.setprofile(hops.note)
    try:
        await act()
        await trio.testing.wait_all_tasks_blocked(0.02)
    finally:
        sys.setprofile(None)
    return hops


async def patch(port: int) -> None:
    """A `PATCH` on a connection of its own."""
    body = b'{"a":2}'
    head = (
        "PATCH /store?path=. HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/merge-patch+json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(head.encode() + body)
        answer = b"".join([data async for data in stream])
    assert answer.startswith(b"HTTP/1.1 200"), answer


async def main(*, names: bool, trace: bool) -> None:
    """Start a server, write over both ways, and print what they went through."""
    logging.disable(logging.CRITICAL)
    settings = Settings(port=0, http_rate=None, ws_rate=None)
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve, settings))
        port = bound[0][1]
        async with open_websocket_url(f"ws://127.0.0.1:{port}/ws") as socket:
            await socket.get_message()

            async def command() -> None:
                await socket.send_message(
                    json.dumps({"type": "set", "ref": 1, "path": ".a", "value": 1})
                )
                answer = json.loads(await socket.get_message())
                assert answer["type"] == "ok", answer

            await command()
            (await followed(command)).report(
                "a write on an open WebSocket", names=names, trace=trace
            )
        await patch(port)
        hops = await followed(partial(patch, port))
        hops.report("a PATCH on a new connection", names=names, trace=trace)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(partial(main, names="--files" in sys.argv, trace="--trace" in sys.argv))

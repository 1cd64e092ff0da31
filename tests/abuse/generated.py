"""Generated inputs (`maker`) against a server, each held to what every answer must be.

    python -m tests.abuse generated [--minutes N] [--seed N]

- It is answered: with what is asked for, or with a refusal that says what to do, and for a budget
  with `limit` and `cost`. Never with a fault of ours (500), nor with silence.
- No step of the server takes longer than `STEP_MS` of processor time.
- When those who sent it have gone, the ledger holds nothing for them.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import trio

from tests.abuse.holds import WatchedServer
from tests.abuse.maker import Input, Maker
from tests.behaviour.server import OPEN, Server, Settings
from tests.behaviour.websocket import RawWs, open_raw_ws, open_socket

# Of processor time, with the recorder's own; a machine whose caches are shared takes some more.
STEP_MS: Final = 20.0
PATIENCE_S: Final = 30.0
# So many inputs, then all that was held for them has to be gone.
ROUND: Final = 50
GONE_S: Final = 5.0
# The ledger is read once a second.
LOOK_S: Final = 0.25
# What is held for those who are there. All else is the document, and what is kept for others.
THEIRS: Final = ("queues", "clients", "filters", "remembered", "pins", "bodies", "messages")
DOCUMENT: Final = {
    "a": {"a": {"a": [1, 2, 3]}},
    "b": [[]] * 200,
    "items": [{"x": n, "s": "ab" * 20, "items": [n]} for n in range(300)],
    "k1": "x" * 2000,
}
SETTINGS: Final[Settings] = {**OPEN, "max_document_bytes": 4_000_000}
BEHIND: Final = b'{"type":"ping","ref":"behind"}'
DETAIL_CHARS: Final = 8


@dataclass
class Fault(Exception):
    """An input was not answered as it must be. `number` and the seed say which."""

    number: int
    what: str
    input: Input

    def __str__(self) -> str:
        data = self.input.data
        return f"{self.number}: {self.what}\n    {self.input.about} {data[:300]!r} ({len(data)})"


class Player:
    """Sends inputs to one server and judges what comes."""

    def __init__(self, server: Server, seed: int, step_ms: float = STEP_MS) -> None:
        self.server = server
        self.seed = seed
        self.step_ms = step_ms
        self.answers: Counter[str] = Counter()
        self.longest_ms = 0.0

    async def play(self, number: int) -> None:
        """One input. Raises `Fault`."""
        one = Maker(f"{self.seed}:{number}").input()
        doors = {"http": self._http, "message": self._message, "frames": self._frames}
        try:
            with trio.fail_after(PATIENCE_S):
                await doors[one.door](one)
        except AssertionError as fault:
            raise Fault(number, str(fault), one) from fault
        except trio.TooSlowError:
            raise Fault(number, f"no answer in {PATIENCE_S:g} s", one) from None
        if isinstance(self.server, WatchedServer):
            held = self.server.longest()
            self.longest_ms = max(self.longest_ms, held.step_ms)
            if held.step_ms > self.step_ms:
                where = " < ".join(reversed(held.step_in[-6:]))
                raise Fault(number, f"a step of {held.step_ms:.1f} ms in {where}", one)

    async def _http(self, one: Input) -> None:
        answer = b""
        async with open_socket(self.server) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(send, stream, one.data)
            with contextlib.suppress(trio.BrokenResourceError):
                while not is_stream(answer) and (data := await stream.receive_some(1 << 20)):
                    answer += data
            nursery.cancel_scope.cancel()
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head and b"\r\n\r\n" not in one.data:
            self.answers["nothing"] += 1
            return
        assert head.startswith(b"HTTP/1.1 "), f"not HTTP: {answer[:100]!r}"
        status = int(head[9:12])
        self.answers[str(status)] += 1
        # 501: of an encoding that nobody must know.
        assert status < 500 or status in (501, 503, 505, 507), answer[:500].decode(errors="replace")
        if status >= 400 and b"problem+json" in head and not one.data.startswith(b"HEAD "):
            try:
                problem = json.loads(whole(head, body))
            except ValueError:
                raise AssertionError(f"no problem object: {answer[-500:]!r}") from None
            check_problem(problem)

    async def _message(self, one: Input) -> None:
        async with open_raw_ws(self.server) as ws, trio.open_nursery() as nursery:
            nursery.start_soon(ws.send, RawWs.frame(1, one.data) + RawWs.frame(1, BEHIND))
            frames: list[dict[str, Any]] = []
            # Pings of the protocol have pongs before that on Hypercorn's lane.
            while not frames or frames[-1].get("ref") != "behind":
                got = await ws.receive()
                if got is None or got[0] == 0x8:
                    break
                if got[0] == 1:
                    frames.append(json.loads(got[1]))
            nursery.cancel_scope.cancel()
        for frame in frames:
            if frame["type"] == "error":
                check_problem(frame)
            self.answers[f"{frame['type']} {frame.get('status', '')}".strip()] += 1

    async def _frames(self, one: Input) -> None:
        async with open_raw_ws(self.server) as ws, trio.open_nursery() as nursery:
            nursery.start_soon(ws.send, one.data + RawWs.frame(8, b"\x03\xe8"))
            code = await ws.close_code()
            self.answers[f"closed {code}"] += 1
            nursery.cancel_scope.cancel()

    async def begin(self) -> None:
        """The document as it was."""
        async with self._client() as http:
            answer = await http.put("/store", params={"path": "."}, json=DOCUMENT)
            assert answer.status_code == 200, answer.text

    async def gone(self, number: int) -> None:
        """Nothing is held for those who were there. Raises `Fault`."""
        held: dict[str, int] = {}
        async with self._client() as http:
            until = trio.current_time() + GONE_S
            while trio.current_time() < until:
                accounts = (await http.get("/stats")).json()["memory"]["accounts"]
                held = {name: size for name in THEIRS if (size := accounts[name]["held"])}
                if not held:
                    return
                await trio.sleep(LOOK_S)
        raise Fault(number, f"held for those who have gone: {held}", Input("", "", b""))

    def _client(self) -> httpx.AsyncClient:
        url = f"http://127.0.0.1:{self.server.port}"
        return httpx.AsyncClient(base_url=url, timeout=PATIENCE_S)


async def send(stream: trio.SocketStream, data: bytes) -> None:
    """All of it; and if that is no whole head, then no more."""
    with contextlib.suppress(trio.BrokenResourceError, OSError):
        await stream.send_all(data)
        if b"\r\n\r\n" not in data:
            await stream.send_eof()


def is_stream(answer: bytes) -> bool:
    """It is one that has begun, and does not end by itself."""
    return b"text/event-stream" in answer.partition(b"\r\n\r\n")[0] and b"connected" in answer


def whole(head: bytes, body: bytes) -> bytes:
    """A body without the framing of chunks."""
    if b"chunked" not in head.lower():
        return body
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        out += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return out


def check_problem(problem: dict[str, Any]) -> None:
    """A refusal says what to do, and of a budget how much there is."""
    detail = problem["detail"]
    assert isinstance(detail, str), problem
    assert len(detail) > DETAIL_CHARS, problem
    if "more work" in detail:
        assert 0 < problem["limit"] < problem["cost"], problem


async def long(seed: int, minutes: float, first: int = 0) -> bool:
    """Inputs for so long; prints each fault, and goes on. Whether there was one."""
    faults, number = 0, first
    until = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as home:
        server = WatchedServer(SETTINGS, Path(home))
        server.start()
        player = Player(server, seed)
        try:
            while time.monotonic() < until:
                await player.begin()
                server.longest()
                for _ in range(ROUND):
                    try:
                        await player.play(number)
                    except Fault as fault:
                        faults += 1
                        print(fault, flush=True)
                        if not server.is_answering():
                            print("the server has gone:", server.log()[-2000:], flush=True)
                            return True
                    number += 1
                try:
                    await player.gone(number)
                except Fault as fault:
                    faults += 1
                    print(fault, flush=True)
            _, found, after = server.log().partition("Traceback (most recent call last)")
            if found:
                faults += 1
                print("in the server's log:", found + after[:3000])
        finally:
            server.kill()
    said = ", ".join(f"{count} x {what}" for what, count in player.answers.most_common())
    print(f"seed {seed}: {number - first} inputs, {faults} faults; the longest step was")
    print(f"{player.longest_ms:.1f} ms of processor time; answers: {said}")
    return bool(faults)

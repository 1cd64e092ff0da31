"""Letters between the nodes that share a log: questions, and their answers. The server carries
them, in a box for each node.

A question is asked once. What becomes of it when a connection ends is not known, and nothing is
sent again: whoever asked hears `NodeSilent` at the end of its time. A node that was frozen does not
carry out what it was asked before: the time of a letter is looked at, by the server's clock.

    run ─┬─ send        letters that wait, in order
         └─ receive ─── one task for each question
"""

from __future__ import annotations

import logging
import math
import secrets
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from triode.app.log.log import LogAway, LogError, NodeGone, NodeSilent
from triode.app.log.shared.link import run_script
from triode.app.log.shared.resp import Lost, ServerError
from triode.app.log.shared.sentinel import connect_primary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from triode.app.config.log_address import LogAddress
    from triode.app.log.shared.link import Keys
    from triode.app.log.shared.resp import Connection

    Answer = Callable[[bytes], Awaitable[bytes]]

log = logging.getLogger("triode")

AGAIN_S: Final = 0.3
# For the first letter of a box the server is asked so long at once.
WAIT_S: Final = 1
# Letters of one read, and questions that are carried out at once.
TAKEN: Final = 20
# Of a node: what waits to be sent.
MOST_WAITING: Final = 1000
MOST_BYTES: Final = 16 * 1024 * 1024


class _Asked:
    """A question, and what came of it."""

    __slots__ = ("answer", "is_over", "is_sent")

    def __init__(self) -> None:
        self.is_over = trio.Event()
        self.is_sent = False
        self.answer: bytes | LogError = b""

    def end(self, answer: bytes | LogError) -> None:
        self.answer = answer
        self.is_over.set()


class _Letter(NamedTuple):
    node: str
    text: bytes
    until: float
    asked: _Asked | None

    def end(self, error: LogError) -> None:
        """It will not arrive."""
        if self.asked is not None:
            self.asked.end(error)


class Post:
    """The letters of one node. `waiting_bytes` are of those that wait to be sent."""

    def __init__(self, address: LogAddress, keys: Keys, node: str) -> None:
        self._address = address
        self._keys = keys
        self._node = node
        self._out: deque[_Letter] = deque()
        self._asked: dict[str, _Asked] = {}
        self._wake = trio.lowlevel.ParkingLot()
        self._is_running = False
        self.waiting_bytes = 0

    async def ask(self, node: str, question: bytes, within_s: float) -> bytes:
        """See `Letters.ask`."""
        if not self._is_running:
            raise LogAway("nothing is sent to others yet, or any more")
        name, asked = secrets.token_hex(8), _Asked()
        head = f"q {name} {self._node} ".encode()
        if not self._put(_Letter(node, head + question, trio.current_time() + within_s, asked)):
            raise LogAway("too much waits to be sent to others")
        self._asked[name] = asked
        try:
            with trio.move_on_after(within_s):
                await asked.is_over.wait()
        finally:
            del self._asked[name]
        if not asked.is_over.is_set():
            if not asked.is_sent:
                raise LogAway(f"{self._address} is not in reach")
            raise NodeSilent(f"{node} has not answered for {within_s:g} s")
        if isinstance(asked.answer, LogError):
            raise asked.answer
        return asked.answer

    def _put(self, letter: _Letter) -> bool:
        size = len(letter.text)
        if len(self._out) >= MOST_WAITING or self.waiting_bytes + size > MOST_BYTES:
            return False
        self.waiting_bytes += size
        self._out.append(letter)
        self._wake.unpark_all()
        return True

    async def run(self, answer: Answer) -> None:
        """Send and receive, until cancelled."""
        self._is_running = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_up, self._send)
                nursery.start_soon(self._keep_up, self._receiving(answer, nursery))
        finally:
            self._is_running = False
            self._fail()

    async def _keep_up(self, work: Callable[[Connection], Awaitable[None]]) -> None:
        while True:
            try:
                connection = await connect_primary(self._address)
                try:
                    await work(connection)
                finally:
                    await connection.aclose()  # noqa: ASYNC102 # closes first, and only then looks
            except (Lost, ServerError):
                pass  # `Attendance` has the same server, and says why
            if work == self._send:
                self._fail()
            await trio.sleep(AGAIN_S)

    def _fail(self) -> None:
        """Nothing of what waits was sent."""
        while self._out:
            self._taken().end(LogAway(f"{self._address} is not in reach"))

    def _taken(self) -> _Letter:
        letter = self._out.popleft()
        self.waiting_bytes -= len(letter.text)
        return letter

    async def _send(self, connection: Connection) -> None:
        while True:
            while not self._out:
                await self._wake.park()
            letter = self._taken()
            left_ms = math.ceil((letter.until - trio.current_time()) * 1000)
            if left_ms <= 0:
                continue  # whoever asked has gone
            if letter.asked is not None:
                letter.asked.is_sent = True
            try:
                status = await run_script(
                    connection,
                    self._keys,
                    "letter",
                    (letter.node, left_ms, letter.text),
                    (self._keys.box(letter.node),),
                )
            except Lost as error:
                if not error.is_sent:
                    letter.end(LogAway(str(error)))
                raise
            except ServerError as error:
                letter.end(LogAway(str(error)))
                raise
            if status == b"gone":
                letter.end(NodeGone(f"no node {letter.node} shares the log"))
            elif status == b"full":
                letter.end(LogAway(f"{letter.node} is behind with what it was asked"))

    def _receiving(
        self, answer: Answer, nursery: trio.Nursery
    ) -> Callable[[Connection], Awaitable[None]]:
        room = trio.Semaphore(TAKEN)

        async def carry_out(name: str, sender: str, question: bytes, left_ms: int) -> None:
            try:
                with trio.move_on_after(left_ms / 1000):
                    try:
                        said = await answer(question)
                    except Exception:
                        # As for a request over HTTP: one that fails does not end the server.
                        log.exception("a question of another node failed")
                        return
                    text = f"a {name} ".encode() + said
                    until = trio.current_time() + left_ms / 1000
                    self._put(_Letter(sender, text, until, None))
            finally:
                room.release()

        async def receive(connection: Connection) -> None:
            box = self._keys.box(self._node)
            while True:
                found = await connection.call("BLMPOP", WAIT_S, 1, box, "LEFT", "COUNT", TAKEN)
                # Answers first: whoever waits for one shall not wait for room, too.
                letters = sorted(found[1] if found else (), key=_is_question)
                for letter in letters:
                    end_ms, kind, name, rest = letter.split(b" ", 3)
                    if kind == b"a":
                        asked = self._asked.get(name.decode())
                        if asked is not None:
                            asked.end(rest)
                        continue
                    sender, _, question = rest.partition(b" ")
                    await room.acquire()
                    try:
                        seconds, micros = await connection.call("TIME")
                    except BaseException:
                        room.release()
                        raise
                    now_ms = int(seconds) * 1000 + int(micros) // 1000
                    left_ms = int(end_ms) - now_ms
                    if left_ms <= 0:
                        room.release()
                        continue
                    nursery.start_soon(carry_out, name.decode(), sender.decode(), question, left_ms)

        return receive


def _is_question(letter: bytes) -> bool:
    return letter.split(b" ", 2)[1] != b"a"

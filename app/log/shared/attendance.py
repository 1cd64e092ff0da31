"""The connections of a node to the server of its log, kept up: what its member asks for goes there,
and what comes is handed in.

    run ─┬─ clock                the member is asked when it wants to be
         └─ connect ─┬─ calls    its scripts, one after the other
                     └─ tail     entries, as they are appended
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import trio

from triode.app.log.log import LogRefused
from triode.app.log.shared.calls import UnknownFormat, read_attached
from triode.app.log.shared.link import linked, require_fit
from triode.app.log.shared.resp import Lost, ServerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from triode.app.config.log_address import LogAddress
    from triode.app.log.shared.calls import Action, Attached, Call
    from triode.app.log.shared.link import Keys, Link
    from triode.app.log.shared.member import Member

log = logging.getLogger("triode")

# What is not taken yet; beyond it nothing more is read.
UNTAKEN_BYTES: Final = 16 * 1024 * 1024
# Between two tries to connect. Who is slower than Member's window does not give back what is lost.
AGAIN_S: Final = (0.05, 0.3)


def now() -> float:
    """A clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Told(Protocol):
    """Who is told what comes: `ValkeyLog`."""

    untaken: int

    def do(self, actions: Sequence[Action]) -> None:
        """What the member says is to be done."""

    def attached(self, server: Attached) -> None:
        """The server has said where it stands."""

    def wake(self) -> None:
        """Something may be there that somebody waits for."""


class Attendance:
    """See above. `why` is what went wrong last; `refused`, that this server is not fit."""

    def __init__(self, address: LogAddress, keys: Keys, member: Member, log: Told) -> None:
        self._address = address
        self._keys = keys
        self._member = member
        self._log = log
        self._calls: deque[Call] = deque()
        # Where to read on, and a number that changes when that is set anew.
        self._after: tuple[int, str] | None = None
        self._link: trio.CancelScope | None = None
        self.changed = trio.lowlevel.ParkingLot()
        self.refused: LogRefused | None = None
        self.why = ""

    def ask(self, call: Call) -> None:
        """Run this script, behind those that were asked for before."""
        self._calls.append(call)

    def read(self, after: str) -> None:
        """Read from behind this entry from now on."""
        self._after = self._after[0] + 1 if self._after else 0, after

    def reconnect(self) -> None:
        """Drop both connections, and look for the server anew."""
        if self._link is not None:
            self._link.cancel()

    async def run(self) -> None:
        """Keep in touch with the server, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._clock)
            nursery.start_soon(self._connect)

    async def _connect(self) -> None:
        wait_s = AGAIN_S[0]
        while True:
            try:
                async with linked(self._address, self._keys) as link:
                    await require_fit(link, self._address)
                    wait_s = AGAIN_S[0]
                    await self._attend(link)
            except (Lost, ServerError) as error:
                self._failed(error)
            except LogRefused as error:
                # At the start it ends the server; later it may be set right meanwhile.
                self._failed(error)
                self.refused = error
            self._log.wake()
            await trio.sleep(wait_s)
            wait_s = min(wait_s * 2, AGAIN_S[1])

    def _failed(self, error: Exception) -> None:
        if str(error) != self.why:
            log.warning("the log cannot be used now: %s", error)
        self.why = str(error)

    async def _attend(self, link: Link) -> None:
        failure: Exception | None = None

        async def attempt(work: Callable[[Link], Awaitable[None]]) -> None:
            nonlocal failure
            try:
                await work(link)
            except (Lost, ServerError, LogRefused) as error:
                failure = failure or error
                nursery.cancel_scope.cancel()

        self._calls.clear()
        self._after = None
        self.refused = None
        try:
            async with trio.open_nursery() as nursery:
                self._link = nursery.cancel_scope
                self._log.do(self._member.connected(now()))
                nursery.start_soon(attempt, self._answer)
                nursery.start_soon(attempt, self._tail)
        finally:
            self._link = None
            self._log.do(self._member.lost(now()))
        if failure is not None:
            raise failure

    async def _answer(self, link: Link) -> None:
        """Member's calls, one after the other."""
        while True:
            while not self._calls:
                await self.changed.park()
            call = self._calls.popleft()
            try:
                reply = await link.run(call.script, call.args, self._keys.pieces(call.snapshot))
            except ServerError as error:
                if error.code != "OOM" or call.script != "append":
                    raise
                self._log.do(self._member.refused(now()))
                continue
            match call.script:
                case "attach":
                    self._attached(reply)
                case "append":
                    status, seq, time_ms = reply
                    self._log.do(self._member.appended(status.decode(), seq, time_ms, now()))
                case "salvage":
                    self._log.do(self._member.salvaged(reply[0].decode(), now()))

    def _attached(self, reply: Sequence[object]) -> None:
        try:
            attached = read_attached(reply)
        except UnknownFormat as error:
            raise LogRefused(
                f"{self._address} has a log of format {error}: it was written by a newer Triode"
            ) from error
        self.why = ""
        self._log.do(self._member.attached(attached, now()))
        self._log.attached(attached)

    async def _tail(self, link: Link) -> None:
        while True:
            while self._after is None or self._log.untaken > UNTAKEN_BYTES:
                await self.changed.park()
            number, after = self._after
            found = await link.read(after)
            if found and self._after[0] == number:  # else it is to be read from elsewhere
                self._after = number, found[-1][0]
                self._log.do(self._member.tailed([entry for _, entry in found], now()))

    async def _clock(self) -> None:
        """Also while there is no connection: that is what the member says then."""
        while True:
            with trio.move_on_after(max(0.0, self._member.next_at - now())):
                await self.changed.park()
                continue
            self._log.do(self._member.tick(now()))

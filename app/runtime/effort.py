"""Whose turn it is, among connections that bring work.

Trio runs all tasks that are ready, then looks for what has come, and so on: nobody hears anything
new before each of them has had its step. A hundred peers with cheap requests would make everybody
wait for a hundred steps, and a request more of each for a hundred more. So what peers bring is
worked off in turns: in each round of the loop for `ROUND_S`, and the others wait. Who has had least
is next (start-time fair queueing): a turn's *tag* is what its connection has had before, but not
less than the tag of the turn before; so nobody saves up by being quiet. Who says little is always
next, however many flood the server.

Time is the processor's: what another process takes from us is nobody's effort here.
"""

from __future__ import annotations

import heapq
import time
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import outcome
import trio

from triode.app.runtime.per_run import per_run

if TYPE_CHECKING:
    from triode.app.net.dispatcher import Beginning

# For all connections together in a round of the loop. What comes in is read in one, carried out in
# the next and flushed in a third.
ROUND_S: Final = 0.0007
# Where a round takes long, as with much to be sent, so much of it: nobody is kept out.
ROUND_SHARE: Final = 0.5
# So much of each turn counts for a part only: a message now and then costs that, and who says more
# at once is behind.
FREE_S: Final = 0.0001
FREE_PART: Final = 0.25
# No turn counts for more: what took longer was long work, which has turns of its own, or ours.
MOST_S: Final = 0.002
# What one can save up by saying little: so a crowd of new ones does not come before those who are
# there, and a step that took long by chance is forgiven.
SAVED_S: Final = 0.0005
# What a request of Quart's takes, in steps of other tasks; and one that is answered without it.
APP_S: Final = 0.002
DIRECT_S: Final = 0.00008
# And taking a first read of a connection.
READ_S: Final = 0.00003
# And the beginning of a connection, by what it is to be.
BEGIN_S: Final[dict[Beginning, float]] = {"tls": 0.001, "stream": 0.00015, "other": 0.0004}

_clock = time.thread_time


class _Waiter:
    """A task that waits for its turn, and what that takes if it is as the one before."""

    __slots__ = ("task", "usual_s")

    def __init__(self, usual_s: float) -> None:
        self.task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self.usual_s = usual_s

    def give_up(self, _raise_cancel: Any) -> trio.lowlevel.Abort:
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED


class _Line(trio.abc.Instrument):
    """Who waits. `left_s` is what of this round is left to peers, `virtual_s` the tag of the last
    turn. `over_s`: so much more was taken in this round than those who did had been called for.
    """

    def __init__(self) -> None:
        self.left_s = ROUND_S
        self.over_s = 0.0
        self.virtual_s = 0.0
        self._waiting: list[tuple[float, int, _Waiter]] = []
        # Those who are next in this round, and have not run yet.
        self._called = 0
        self._number = count()
        self._usher: trio.lowlevel.Task | None = None
        self._begun_at = trio.current_time()
        self.is_new = True

    def after_io_wait(self, timeout: float) -> None:
        """A round begins. After one that waited for something nothing is owed."""
        now = trio.current_time()
        more_s = min(MOST_S, max(ROUND_S, ROUND_SHARE * (now - self._begun_at)))
        self.left_s = ROUND_S if timeout else min(more_s, self.left_s + more_s)
        self._begun_at, self.is_new = now, True
        self.over_s = 0.0
        # Here and not in a task: it would run before or behind those it has woken, by chance.
        while self._waiting and self.left_s > 0:
            _tag, _number, waiter = heapq.heappop(self._waiting)
            if waiter.task is not None:
                trio.lowlevel.reschedule(waiter.task, outcome.Value(None))
                self._called += 1
                self.left_s -= waiter.usual_s

    @property
    def is_open(self) -> bool:
        """Whether somebody who comes now need not wait."""
        return self.left_s > 0 and not self._waiting and not self._called

    async def wait(self, tag: float, usual_s: float) -> None:
        """Wait for a turn. Then `usual_s` of the round have been taken for it. Cancelled, there
        was none.
        """
        number = next(self._number)
        while True:
            waiter = _Waiter(usual_s)
            heapq.heappush(self._waiting, (tag, number, waiter))
            if self._usher is not None:
                trio.lowlevel.reschedule(self._usher)
                self._usher = None
            await trio.lowlevel.wait_task_rescheduled(waiter.give_up)
            self._called -= 1
            # Those before may have taken far longer than they do as a rule.
            if self.over_s < ROUND_S:
                return
            self.left_s += usual_s

    async def usher(self) -> None:
        """There are rounds as long as somebody waits."""
        while True:
            if self._waiting:
                await trio.lowlevel.checkpoint()
                continue
            self._usher = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._leave)

    def _leave(self, _raise_cancel: Any) -> trio.lowlevel.Abort:
        self._usher = None
        return trio.lowlevel.Abort.SUCCEEDED


def _new_line() -> _Line:
    line = _Line()
    trio.lowlevel.add_instrument(line)
    trio.lowlevel.spawn_system_task(line.usher)
    return line


_the_line: Final = per_run("peers", _new_line)


class Effort:
    """What one connection has taken, and its next turn."""

    __slots__ = ("_begun_s", "_had_s", "_line", "_promised_s", "_usual_s")

    def __init__(self) -> None:
        self._line = _the_line()
        self._had_s = self._line.virtual_s
        self._usual_s = FREE_S
        self._begun_s = 0.0
        # What of the round was taken for this turn before it began.
        self._promised_s = 0.0

    async def turn(self) -> bool:
        """Wait for its turn, which lasts until `done`; whether nobody else has had one in this
        round. At once, if there is time and nobody waits. Cancelled, there is no turn.
        """
        line = self._line
        begin_s = max(line.virtual_s - SAVED_S, self._had_s)
        is_first = line.is_new
        self._promised_s = 0.0
        if not line.is_open:
            is_first = False
            await line.wait(begin_s, self._usual_s)
            self._promised_s = self._usual_s
        line.is_new = False
        line.virtual_s = max(line.virtual_s, begin_s)
        self._had_s = begin_s
        self._begun_s = _clock()
        return is_first

    def done(self) -> None:
        """The turn is over."""
        taken_s = min(MOST_S, _clock() - self._begun_s)
        self._usual_s = taken_s
        self._had_s += max(FREE_PART * taken_s, taken_s - FREE_S)
        over_s = taken_s - self._promised_s
        self._line.left_s -= over_s
        if self._promised_s:
            self._line.over_s += over_s

    async def step(self, seconds: float) -> None:
        """As `turn`, for what takes about so long and has no end that could be told: others do it,
        or it may wait.
        """
        line = self._line
        begin_s = max(line.virtual_s - SAVED_S, self._had_s)
        if line.is_open:
            line.left_s -= seconds
        else:
            await line.wait(begin_s + seconds, seconds)
        line.is_new = False
        line.virtual_s = max(line.virtual_s, begin_s)
        self._had_s = begin_s + seconds

    def charge(self, seconds: float) -> None:
        """It has caused so much that others will do."""
        self._had_s += seconds
        self._line.left_s -= seconds


async def admit(what: Beginning) -> None:
    """Wait until there is time for the beginning of one more connection."""
    await Effort().step(BEGIN_S[what])


async def read() -> None:
    """Wait until there is time for reading what one has sent who is rarely heard of."""
    await Effort().step(READ_S)

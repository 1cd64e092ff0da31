"""Whose turn it is, among connections that bring work.

Trio runs all tasks that are ready, then looks for what has come, and so on: nobody hears anything
new before each of them has had its step. A hundred peers with cheap requests would make everybody
wait for a hundred steps, and a request more of each for a hundred more. So what peers bring is
worked off in turns: in each round of the loop for `ROUND_S`, and the others wait. Who has had least
is next (fair queueing): a turn's *tag* is what its connection has had before, but not less than
those had who came before it; so nobody saves up by being quiet. And what a turn of its takes as a
rule: who is known to say little is next, however many flood the server or have just come.

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
# Where others take long in a round, as with much to be sent, so much of that: nobody is kept out,
# and more is sent together.
ROUND_SHARE: Final = 0.5
ROUND_MOST_S: Final = 0.004
# So much of each turn counts for a part only: a message now and then costs that, and who says more
# at once is behind.
FREE_S: Final = 0.0002
FREE_PART: Final = 0.1
# What a first turn is taken to need. But who is known to take little comes before those of whom
# nothing is known yet, and who may be a crowd: as if they took so much.
FIRST_S: Final = 0.0001
UNKNOWN_S: Final = 0.0005
# No turn counts for more: what took longer was long work, which has turns of its own, or ours.
MOST_S: Final = 0.002
# What one can save up by saying little: so a crowd of new ones does not come before those who are
# there, and a step that took long by chance is forgiven.
SAVED_S: Final = 0.0005
# What a request of Quart's takes, in steps of other tasks; and one that is answered without it,
# which is read and parsed in the same step.
APP_S: Final = 0.002
DIRECT_S: Final = 0.0001
# And the beginning of a connection: its handshake; its head, with all that follows for a stream;
# and for any other what follows in later steps.
BEGIN_S: Final[dict[Beginning, float]] = {"tls": 0.001, "head": 0.00015, "other": 0.0003}

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

    Those who are called run one after the other, as Trio has it: so what one took is known when
    the next one begins, also of those who do not say when they are done.
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
        # What this round is for, and what peers have taken in it.
        self._more_s = ROUND_S
        self._taken_s = 0.0
        self._begun_at = trio.current_time()
        self.is_new = True
        # Whose turn it is since when, and what it was called for.
        self._runner: Effort | None = None
        self._since_s: float | None = None
        self._promised_s = 0.0
        self._has_waited = False

    def after_io_wait(self, timeout: float) -> None:
        """A round begins. After one that waited for something nothing is owed."""
        now = trio.current_time()
        others_s = now - self._begun_at - self._taken_s
        self._more_s = more_s = min(ROUND_MOST_S, max(ROUND_S, ROUND_SHARE * others_s))
        self._taken_s = 0.0
        self.left_s = ROUND_S if timeout else min(more_s, self.left_s + more_s)
        self._begun_at, self.is_new = now, True
        self._runner = self._since_s = None
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

    def begins(
        self, runner: Effort | None, promised_s: float, *, has_waited: bool = False
    ) -> float:
        """A turn begins, now: when that is. `promised_s` of the round have been taken for it."""
        now = _clock()
        # Between those who did not wait others may have worked.
        if self._has_waited:
            self._settle(now)
        self._has_waited = has_waited
        self._runner, self._since_s, self._promised_s = runner, now, promised_s
        return now

    def ends(self, runner: Effort) -> float:
        """It ends, now: when that is."""
        now = _clock()
        if self._runner is runner:
            self._settle(now, is_done=True)
        return now

    def is_running(self, runner: Effort) -> bool:
        """Whether nobody else, and no round, has begun since its turn did."""
        return self._runner is runner

    def _settle(self, now: float, *, is_done: bool = False) -> None:
        if self._since_s is not None:
            taken_s = min(MOST_S, now - self._since_s)
            self._taken_s += taken_s
            over_s = taken_s - self._promised_s
            # Who does not say when it is done has its price at least: others may do the rest.
            over_s = over_s if is_done else max(0.0, over_s)
            self.left_s -= over_s
            self.over_s += over_s
        self._runner = self._since_s = None

    async def wait(self, runner: Effort, tag: float, usual_s: float) -> float:
        """Wait for a turn: when it begins. Then `usual_s` of the round have been taken for it.
        Cancelled, there was none.
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
            now = self.begins(runner, usual_s, has_waited=True)
            # Those before may have taken far longer than they do as a rule.
            if self.over_s < self._more_s:
                return now
            self._runner = self._since_s = None
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

    __slots__ = ("_begun_s", "_early", "_had_s", "_is_known", "_line", "_usual_s")

    def __init__(self) -> None:
        self._line = _the_line()
        self._had_s = self._line.virtual_s
        self._usual_s = FIRST_S
        self._is_known = False
        self._begun_s = 0.0
        # What `turn` is to say of a turn that was taken before it was asked for.
        self._early: bool | None = None

    async def early(self) -> None:
        """Take the next turn now, before it is known what it is for: to read what has come."""
        self._early = None
        self._early = await self.turn()

    async def turn(self) -> bool:
        """Wait for its turn, which lasts until `done`; whether nobody else has had one in this
        round. At once, if there is time and nobody waits. Cancelled, there is no turn.
        """
        if self._early is not None:
            is_first, self._early = self._early, None
            return is_first
        line = self._line
        begin_s = max(line.virtual_s - SAVED_S, self._had_s)
        is_first = line.is_new
        if line.is_open:
            line.left_s -= self._usual_s
            self._begun_s = line.begins(self, self._usual_s)
        else:
            is_first = False
            begin_s = begin_s if self._is_known else line.virtual_s
            tag = begin_s + (self._usual_s if self._is_known else UNKNOWN_S)
            self._begun_s = await line.wait(self, tag, self._usual_s)
        line.is_new = False
        line.virtual_s = max(line.virtual_s, begin_s)
        self._had_s = begin_s
        return is_first

    def done(self) -> None:
        """The turn is over."""
        self._early = None
        # Else others have worked since it began, and how much of that was its own is not known.
        is_known = self._line.is_running(self)
        taken_s = min(MOST_S, self._line.ends(self) - self._begun_s)
        if is_known:
            self._usual_s, self._is_known = taken_s, True
        self._had_s += max(FREE_PART * taken_s, taken_s - FREE_S)

    async def step(self, seconds: float) -> None:
        """As `turn`, for what takes about so long and has no end that could be told: others do it,
        or it may wait.
        """
        line = self._line
        begin_s = max(line.virtual_s - SAVED_S, self._had_s)
        if line.is_open:
            line.left_s -= seconds
        else:
            await line.wait(self, begin_s + seconds, seconds)
        line.is_new = False
        line.virtual_s = max(line.virtual_s, begin_s)
        self._had_s = begin_s + seconds

    def charge(self, seconds: float) -> None:
        """It has caused so much that others will do."""
        self._had_s += seconds
        self._line.left_s -= seconds


class _Newcomers(Effort):
    """All who begin, as if they were one: each alone would come before whoever is there and has
    had something, so he would wait for a whole crowd. And what one has taken counts for a part
    only, as a message now and then does: it begins once.
    """

    __slots__ = ()

    async def step(self, seconds: float) -> None:
        """As any other; it counts when it is asked for, as many may wait at once."""
        line = self._line
        self._had_s = max(line.virtual_s, self._had_s) + FREE_PART * seconds
        begin_s = self._had_s
        if line.is_open:
            line.left_s -= seconds
        else:
            await line.wait(self, begin_s, seconds)
        line.is_new = False
        line.virtual_s = max(line.virtual_s, begin_s)


_newcomers: Final = per_run("newcomers", _Newcomers)


async def admit(what: Beginning) -> None:
    """Wait until there is time for the beginning of one more connection."""
    await _newcomers().step(BEGIN_S[what])

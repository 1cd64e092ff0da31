"""Long work in turns: a synchronous function that gives way to others while it runs.

The function runs in a greenlet. Whenever its meter says that its turn is over, the greenlet hands
the thread back, Trio runs everybody else once, and the function goes on where it was. So pure code
stays plain: no generator is threaded through every loop, and what is cheap pays one comparison.

Not a thread: a thread takes the interpreter's lock from the loop at every system call, and the
flusher makes thousands of them.

All who work in turns stand in one line (`turn`), and after each turn a few rounds of the loop are
for everybody else. So a hundred at once make one another wait, and nobody else longer than a turn.

Work that comes back with each write, whoever wrote, has *spare* turns: short ones, and after the
first quarter of a second only a small part of the time. So it cannot be seen in what others wait.

What the function looks at may change between its turns. Give it a pinned document, or hold the
writers' lock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from typing import Final, TypeVar, cast

import greenlet
import trio

from triode.app.runtime.per_run import per_run
from triode.limits.meter import TURN_STEPS, Meter

T = TypeVar("T")

# What comes in is read in one round of the loop, carried out in the next and flushed in a third. A
# turn in each would make somebody wait for three turns.
ROUNDS: Final = 3
# What all may do at once in one round of the loop, in steps; and each, however many they are.
ROUND_STEPS: Final = 4_000
LEAST_STEPS: Final = 30
# A spare turn, in steps, and what it takes with all that is around it.
SPARE_STEPS: Final = 200
SPARE_TURN_S: Final = 0.0004
# What all spare turns together may take of the time, and how much at once.
SPARE_SHARE: Final = 0.15
SPARE_BURST_S: Final = 0.25
# For work of many small pieces, which have a meter each, or none.
TURN_S: Final = 0.002


class _Line(trio.abc.Instrument):
    """Who waits for a turn, and what may still be done at once in this round."""

    def __init__(self) -> None:
        self.lock = trio.StrictFIFOLock()
        self.left = ROUND_STEPS
        self.last: Meter | None = None
        self.spare_lock = trio.StrictFIFOLock()
        # The time at which all spare turns that were taken are paid off.
        self.spare_until = -math.inf

    def after_io_wait(self, timeout: float) -> None:
        """A round begins."""
        self.left = ROUND_STEPS
        self.last = None


def _new_line() -> _Line:
    line = _Line()
    trio.lowlevel.add_instrument(line)
    return line


_the_line: Final = per_run("line", _new_line)


async def turn() -> None:
    """Wait for the next turn, behind all who have asked before: some checkpoints."""
    async with _the_line().lock:
        await rounds()


def allowance(most: int) -> Meter:
    """The budget of something that is tried without waiting, and else done in turns: `most` steps,
    or less when much has been done in this round. It is to be spent before anybody waits.
    """
    line = _the_line()
    # What the one before has spent is known only now: it was handed out as a whole. A refused
    # charge was not done, so it counts up to the limit.
    if line.last is not None:
        line.left -= min(line.last.spent, line.last.limit)
    line.last = Meter(min(most, max(LEAST_STEPS, line.left)))
    return line.last


class TimedTurn:
    """A turn of so much time, from now on: for work of many small pieces. Who has it looks between
    two pieces whether it `is_over`, gives way in its own manner, and lets it `begin` again.
    """

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """It begins now."""
        self._until = trio.current_time() + TURN_S

    @property
    def is_over(self) -> bool:
        """Whether it is time to give way."""
        return trio.current_time() > self._until


async def rounds() -> None:
    """Let all others have what a turn has kept them from."""
    for _ in range(ROUNDS):
        await trio.lowlevel.checkpoint()


class SparePause(bytes):
    """A pause after which the next piece of work has a spare turn."""


SPARE: Final = SparePause()


async def spare_turn() -> None:
    """Wait for the next spare turn, behind all who have asked before."""
    line = _the_line()
    async with line.spare_lock:
        now = trio.current_time()
        # As the mark of a rate: each turn is paid off by a pause that makes it `SPARE_SHARE` of the
        # time. Who was idle has a burst to spend, and no more.
        line.spare_until = max(line.spare_until, now) + SPARE_TURN_S / SPARE_SHARE
        await trio.sleep(max(0.0, line.spare_until - SPARE_BURST_S / SPARE_SHARE - now))
        await turn()


async def between(piece: bytes) -> None:
    """Between two pieces of work, after this one: a checkpoint, or a turn if it was a pause."""
    if piece:
        await trio.lowlevel.checkpoint()
    elif type(piece) is SparePause:
        await spare_turn()
    else:
        await turn()


async def in_turns(limit: int, function: Callable[[Meter], T], *, alone: bool = False) -> T:
    """Call `function` with a meter of `limit` steps; others run between its turns.

    `alone`: it stands in no line. For what is done one at a time and others wait for.

    Raises `TooCostly`, and what the function raises. When cancelled, the function is ended at the
    place where it paused (`GreenletExit`), so its `finally` clauses run.
    """
    loop = greenlet.getcurrent()

    def pause() -> None:
        loop.switch(False)

    def run() -> bool:
        result.append(function(Meter(limit, pause=pause)))
        return True

    result: list[T] = []
    worker = greenlet.greenlet(run)
    # A greenlet has a context of its own unless it is given one; ours belongs to the caller's task.
    worker.gr_context = loop.gr_context
    try:
        while True:
            if alone:
                await rounds()
            else:
                await turn()
            if cast("bool", worker.switch()):
                return result[0]
    finally:
        # Left alone, it would be ended by the garbage collector, in the middle of something else.
        if not worker.dead:
            worker.throw()


async def exhaust(steps: Generator[object, None, T]) -> T:
    """Run a generator to its end, a step in each turn; what it returns. Raises what it raises.

    Cancelled, the generator is closed.
    """
    try:
        while True:
            await turn()
            try:
                next(steps)
            except StopIteration as done:
                return cast("T", done.value)
    finally:
        steps.close()


def steps(
    limit: int, make: Callable[[Meter], Iterator[T]], pause: T, *, turn: int = TURN_STEPS
) -> Iterator[T]:
    """What the iterator `make(meter)` gives, and `pause` before each of its turns, the first too:
    whoever asks for the next one waits for the `turn` before. Raises what it raises, `TooCostly`
    too.
    """
    yield pause
    caller = greenlet.getcurrent()

    def give_way() -> None:
        caller.switch(pause)

    def run() -> None:
        for each in make(Meter(limit, pause=give_way, turn=turn)):
            caller.switch(each)

    worker = greenlet.greenlet(run)
    try:
        while True:
            # It may be asked from another greenlet each time.
            caller = worker.parent = greenlet.getcurrent()
            given = cast("T", worker.switch())
            if worker.dead:
                return
            yield given
    finally:
        # It ends where its parent is: the one that closes us, not the one that asked last.
        if not worker.dead:
            worker.parent = greenlet.getcurrent()
            worker.throw()

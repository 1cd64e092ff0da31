"""Long work gives way to others, and ends cleanly."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from tests.app.rounds import counted_rounds
from triode.app.runtime.turns import ROUND_STEPS, ROUNDS, TURN_S, TimedTurn, allowance, in_turns
from triode.limits.meter import TURN_STEPS, Meter
from triode.store.work import TooCostly


def spin(meter: Meter, turns: int) -> str:
    for _ in range(turns * (TURN_STEPS + 1)):
        meter.charge(1)
    return "done"


async def test_others_run_between_turns() -> None:
    async with counted_rounds() as rounds:
        assert await in_turns(10**9, lambda meter: spin(meter, 20)) == "done"
    assert rounds.seen >= 20


@pytest.mark.parametrize("alone", [True, False])
async def test_after_each_turn_some_rounds_are_for_the_others(alone: bool) -> None:
    """What is read in one round and flushed in a third would else wait for three turns."""
    rounds_at: list[int] = []

    def work(meter: Meter) -> None:
        for _ in range(5):
            rounds_at.append(rounds.seen)
            meter.charge(TURN_STEPS + 1)

    async with counted_rounds() as rounds, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(partial(in_turns, 10**9, work, alone=alone))
        while len(rounds_at) < 15:  # noqa: ASYNC110 # it is rounds that are counted
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    if not alone:
        between = [later - sooner for sooner, later in pairwise(rounds_at)]
        assert min(between) >= ROUNDS, "two of the line had their turns in neighbouring rounds"
    assert rounds_at[-1] - rounds_at[0] >= 4 * ROUNDS


async def test_refused_beyond_its_limit() -> None:
    with pytest.raises(TooCostly):
        await in_turns(5_000, lambda meter: spin(meter, 10))


async def test_a_cancelled_function_runs_its_finally() -> None:
    ended: list[str] = []

    def work(meter: Meter) -> None:
        try:
            scope.cancel()
            spin(meter, 10**6)
        finally:
            ended.append("yes")

    with trio.CancelScope() as scope:
        await in_turns(10**12, work)
    assert scope.cancelled_caught
    assert ended == ["yes"]


async def test_what_it_raises_reaches_the_caller() -> None:
    def fail(meter: Meter) -> None:
        meter.charge(3 * TURN_STEPS)
        raise KeyError("x")

    with pytest.raises(KeyError):
        await in_turns(10**6, fail)


async def test_what_is_done_at_once_is_bounded_for_all_in_one_round() -> None:
    await trio.lowlevel.checkpoint()
    spent = 0
    for _ in range(100):
        meter = allowance(TURN_STEPS)
        with suppress(TooCostly):
            meter.charge(TURN_STEPS - 1)
            spent += meter.spent
        allowance(TURN_STEPS).charge(1)  # what is cheap is done nevertheless
    assert spent <= ROUND_STEPS + TURN_STEPS
    await trio.lowlevel.checkpoint()
    allowance(TURN_STEPS).charge(TURN_STEPS - 1)


async def test_a_timed_turn_is_over_after_its_time_and_begins_again(
    autojump_clock: MockClock,
) -> None:
    timed = TimedTurn()
    seen = [timed.is_over]
    await trio.sleep(1.5 * TURN_S)
    seen.append(timed.is_over)
    timed.begin()
    assert [*seen, timed.is_over] == [False, True, False]

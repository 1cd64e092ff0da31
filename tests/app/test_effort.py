"""Who floods the server waits for its turn; who says little does not wait for those."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from triode.app.net.dispatcher import Beginning
from triode.app.runtime import effort as module
from triode.app.runtime.effort import APP_S, BEGIN_S, DIRECT_S, ROUND_S, Effort, admit

PING = b"\x89\x80" + bytes(4)


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Costs:
    made = Costs()
    monkeypatch.setattr(module, "_clock", lambda: made.now_s)
    monkeypatch.setattr(module, "ROUND_SHARE", 0.0)  # rounds last as long as the machine is busy
    return made


class Costs:
    """A processor's clock that goes on when somebody is said to have worked."""

    now_s = 0.0


async def work(costs: Costs, effort: Effort, seconds: float, said: list[str], name: str) -> None:
    """Turns without end, each of which takes so long."""
    while True:
        await effort.turn()
        said.append(name)
        costs.now_s += seconds
        effort.done()


async def test_a_round_is_for_a_few_and_the_others_wait(
    costs: Costs, nursery: trio.Nursery
) -> None:
    said: list[str] = []
    for number in range(20):
        nursery.start_soon(work, costs, Effort(), 0.0003, said, str(number))
    for _ in range(100):
        await trio.lowlevel.checkpoint()
    rounds, before = 50, len(said)
    for _ in range(rounds):
        await trio.lowlevel.checkpoint()
    taken_s = (len(said) - before) * 0.0003
    assert 0.7 * rounds * ROUND_S <= taken_s <= 1.2 * rounds * ROUND_S + 0.0006
    counts = [said.count(str(number)) for number in range(20)]
    # Some became known before others had their first.
    assert max(counts) - min(counts) <= 5, "all have as much"
    nursery.cancel_scope.cancel()


class Rounds(trio.abc.Instrument):
    """What was taken in each round."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._before_s = 0.0
        self.longest_s = 0.0

    def before_io_wait(self, timeout: float) -> None:
        self.longest_s = max(self.longest_s, self._costs.now_s - self._before_s)
        self._before_s = self._costs.now_s


async def test_a_round_is_no_longer_when_turns_take_longer_than_before(
    costs: Costs, nursery: trio.Nursery
) -> None:
    rounds = Rounds(costs)
    trio.lowlevel.add_instrument(rounds)

    async def live() -> None:
        effort = Effort()
        while True:
            for seconds in (0.00001, 0.0005):
                await effort.turn()
                costs.now_s += seconds
                effort.done()

    for _ in range(50):
        nursery.start_soon(live)
    for _ in range(300):
        await trio.lowlevel.checkpoint()
    trio.lowlevel.remove_instrument(rounds)
    assert rounds.longest_s < 2 * ROUND_S + 2 * 0.0005
    nursery.cancel_scope.cancel()


async def test_a_round_is_no_longer_when_steps_take_longer_than_their_price(
    costs: Costs, nursery: trio.Nursery
) -> None:
    """Requests took three times what they were said to: twenty-five of them in each round."""
    rounds = Rounds(costs)
    trio.lowlevel.add_instrument(rounds)

    async def live() -> None:
        effort = Effort()
        while True:
            await effort.step(DIRECT_S)
            costs.now_s += 4 * DIRECT_S

    for _ in range(50):
        nursery.start_soon(live)
    # In the first round nobody waits yet, and nobody is measured.
    for _ in range(10):
        await trio.lowlevel.checkpoint()
    rounds.longest_s = 0.0
    for _ in range(300):
        await trio.lowlevel.checkpoint()
    trio.lowlevel.remove_instrument(rounds)
    assert rounds.longest_s < 2 * ROUND_S + 2 * 4 * DIRECT_S
    nursery.cancel_scope.cancel()


async def test_who_says_little_is_next(costs: Costs, nursery: trio.Nursery) -> None:
    said: list[str] = []
    quiet = Effort()
    await quiet.turn()
    costs.now_s += 0.00005
    quiet.done()
    for number in range(100):
        nursery.start_soon(work, costs, Effort(), (0.0003, 0.002)[number % 2], said, "flood")
    for _ in range(500):
        await trio.lowlevel.checkpoint()
    for _ in range(100):
        before = len(said)
        await quiet.turn()
        assert len(said) - before <= 12  # a hundred wait
        costs.now_s += 0.00005
        quiet.done()
        for _ in range(20):
            await trio.lowlevel.checkpoint()
    nursery.cancel_scope.cancel()


async def test_who_is_known_to_say_little_comes_before_those_who_are_not_known(
    costs: Costs, nursery: trio.Nursery
) -> None:
    """A hundred connections were quiet, then all began at once: their first turns came before."""
    said: list[str] = []
    others, quiet = [Effort() for _ in range(100)], Effort()
    for _ in range(50):
        await quiet.turn()
        costs.now_s += 0.00015
        quiet.done()
        await trio.lowlevel.checkpoint()
    for other in others:
        nursery.start_soon(work, costs, other, 0.0006, said, "flood")
    while not said:  # noqa: ASYNC110 # it is rounds that are counted
        await trio.lowlevel.checkpoint()
    for _ in range(10):
        before = len(said)
        await quiet.turn()
        assert len(said) - before <= 8
        costs.now_s += 0.00015
        quiet.done()
        await trio.lowlevel.checkpoint()
    nursery.cancel_scope.cancel()


async def test_a_crowd_of_new_ones_comes_after_those_who_are_there(
    costs: Costs, nursery: trio.Nursery
) -> None:
    there = Effort()
    served = 0

    async def new() -> None:
        nonlocal served
        await Effort().step(APP_S)
        served += 1

    for _ in range(100):
        nursery.start_soon(new)
    for _ in range(30):
        before = served
        await there.turn()
        assert served - before <= 3
        costs.now_s += 0.00005
        there.done()
        for _ in range(3):
            await trio.lowlevel.checkpoint()
    while served < 100:  # noqa: ASYNC110 # it is rounds that are counted
        await trio.lowlevel.checkpoint()


async def test_who_has_had_something_does_not_wait_for_a_crowd_of_new_ones(
    costs: Costs, nursery: trio.Nursery
) -> None:
    there, served = Effort(), 0

    async def new() -> None:
        nonlocal served
        await admit("head")
        served += 1
        costs.now_s += BEGIN_S["head"]

    for _ in range(400):
        nursery.start_soon(new)
    for _ in range(20):
        before = served
        await there.turn()
        assert served - before <= 12
        costs.now_s += 0.00015
        there.done()
        await trio.lowlevel.checkpoint()
    assert served < 400
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("what", ["head", "other", "tls"])
async def test_of_those_who_begin_a_few_do_in_each_round(
    costs: Costs, nursery: trio.Nursery, what: Beginning
) -> None:
    begun = rounds = 0

    async def begin() -> None:
        nonlocal begun
        await admit(what)
        begun += 1

    for _ in range(100):
        nursery.start_soon(begin)
    while begun < 100:
        await trio.lowlevel.checkpoint()
        rounds += 1
    assert rounds == pytest.approx(100 * BEGIN_S[what] / ROUND_S, rel=0.2)


async def test_alone_one_never_waits_long(costs: Costs) -> None:
    effort = Effort()
    assert await effort.turn()
    assert not await effort.turn(), "somebody has had one in this round"
    costs.now_s += 1.0
    effort.done()
    with trio.fail_after(5):
        assert not await effort.turn()


async def test_who_is_cancelled_leaves_the_line(costs: Costs, nursery: trio.Nursery) -> None:
    first, second = Effort(), Effort()
    await first.step(0.1)
    with trio.move_on_after(0) as scope:
        await second.turn()
    assert scope.cancelled_caught
    assert not await second.turn(), "behind nobody"

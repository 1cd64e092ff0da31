"""What happens to subscribers. A scenario is a function of a stage and a transport; it raises
`Violation` when a promise was not kept, and `Skipped` when it needs what the kit was not given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from .model import Write
from .stage import Skipped, Stage, Subscriber
from .violation import SHOWN, Frame, Violation
from .wire import PATIENCE_S, TRANSPORTS

Play = Callable[[Stage, str], Awaitable[None]]

FILTERS: Final = (".rows.*", ".rows.*.n", ".rows.*[on=true]", ".rows", ".rows.k1")
POLICIES: Final = ("drop-newest", "drop-oldest", "latest", "disconnect")


@dataclass(frozen=True)
class Scenario:
    """A scenario by its name, and the transports it is for."""

    name: str
    play: Play
    transports: tuple[str, ...]


SCENARIOS: Final[list[Scenario]] = []


def scenario(name: str, transports: tuple[str, ...] = TRANSPORTS) -> Callable[[Play], Play]:
    """Enter a function in the list."""

    def enter(play: Play) -> Play:
        SCENARIOS.append(Scenario(name, play, transports))
        return play

    return enter


def require(holds: bool, rule: str, detail: str, frames: list[Frame] | None = None) -> None:
    """A promise that the ledger cannot know of."""
    if not holds:
        raise Violation(rule, detail, frames)


# ── everybody reads ─────────────────────────────────────────────────────────────────────────────


@scenario("steady")
async def steady(stage: Stage, transport: str) -> None:
    """Readers of several filters at once see every change, once, in order."""
    async with (
        stage.subscribe(transport, *FILTERS) as several,
        stage.subscribe(transport, ".rows.*") as one,
    ):
        async with stage.reading(several, one):
            await stage.write(80)
            # From above: all that is selected below is new.
            rows = {f"k{i}": stage.value(on=bool(i % 2)) for i in range(6)}
            await stage.writer.write(Write(stage.place("rows"), rows))
            await stage.write(40)
        await stage.settle(several, one)
    await check_again(stage, transport)


async def check_again(stage: Stage, transport: str) -> None:
    """Whoever comes now gets the state, and it is that of the model."""
    async with stage.subscribe(transport, *FILTERS) as late:
        await stage.settle(late)


@scenario("burst")
async def burst(stage: Stage, transport: str) -> None:
    """Hundreds of changes at one moment, to those who read and to one who does not yet."""
    async with (
        stage.subscribe(transport, ".rows.*") as reads,
        stage.subscribe(transport, ".rows.*", ".rows.*.n", small=True) as waits,
    ):
        async with stage.reading(reads):
            for _ in range(3):
                writes = [
                    Write(stage.place("rows", f"k{i % 20}"), stage.value(stage.rng.randrange(400)))
                    for i in range(400)
                ]
                await stage.writer.write_at_once(writes)
        await stage.settle(reads, waits)


# ── somebody does not ───────────────────────────────────────────────────────────────────────────


async def overflow(stage: Stage, transport: str, policy: str) -> None:
    """One stops reading until its queue has overflown, and reads on; the other notices nothing."""
    async with (
        stage.subscribe(transport, ".rows.*", ".rows.*.n") as healthy,
        stage.subscribe(transport, ".rows.*", ".rows.k1", small=True, policy=policy) as frozen,
    ):
        async with stage.reading(healthy):
            await stage.flood(healthy)
        assert frozen.connection is not None
        frozen.connection.widen()
        await stage.settle(healthy, frozen)
        undisturbed(healthy)
        check_lost(stage, frozen)
        async with stage.reading(healthy, frozen):
            await stage.write(30)
        await stage.settle(healthy, frozen)


def undisturbed(*subscribers: Subscriber) -> None:
    """Who reads has lost nothing."""
    for one in subscribers:
        gaps = [frame for frame in one.ledger.frames if frame["type"] == "gap"]
        require(not gaps, "healthy", f"{one} lost events although it read", gaps[:1])


def check_lost(stage: Stage, one: Subscriber) -> None:
    """The scenario is none without an overflow."""
    lost = one.ledger.totals()["announced"]
    if not lost and one.policy != "latest":
        raise Skipped(f"{stage.options.flood_bytes} bytes did not fill its queue; see --flood")


@scenario("drop-newest")
async def drop_newest(stage: Stage, transport: str) -> None:
    await overflow(stage, transport, "drop-newest")


@scenario("drop-oldest")
async def drop_oldest(stage: Stage, transport: str) -> None:
    await overflow(stage, transport, "drop-oldest")


@scenario("latest")
async def latest(stage: Stage, transport: str) -> None:
    await overflow(stage, transport, "latest")


@scenario("disconnect")
async def disconnect(stage: Stage, transport: str) -> None:
    """Its queue overflows: it gets what was queued, a goodbye, and the rest when it comes back."""
    one = stage.subscriber(transport, ".rows.*", policy="disconnect")
    async with one.connect(receive_buffer=16 * 1024) as connection:
        await one.read_all()
        await stage.flood()
        connection.widen()
        await one.read_to_end()
        one.ledger.check_parts()
        check_goodbye(one, "slow", 1008)
        sent = one.ledger.totals()["sent"]
        require(sent > 0, "end", "nothing that was queued came before the goodbye")
    async with one.connect():
        await stage.settle(one)


def check_goodbye(one: Subscriber, reason: str, code: int) -> None:
    """How the server said that it ends the stream."""
    said = one.ended
    if said is None:
        raise Violation("end", f"{one} ended without a goodbye", one.ledger.frames[-SHOWN:])
    if one.transport == "ws":
        require(
            said.get("code") == code, "end", f"close code {said.get('code')}, not {code}", [said]
        )
    else:
        require(said.get("reason") == reason, "end", f"the reason is not {reason}", [said])
        patient = isinstance(said.get("retry_ms"), int) and said["retry_ms"] >= 0
        require(patient, "end", "no retry_ms", [said])


@scenario("slow")
async def slow(stage: Stage, transport: str) -> None:
    """One that reads, but never fast enough, beside one that does."""
    async with (
        stage.subscribe(transport, ".rows.*") as healthy,
        stage.subscribe(transport, ".rows.*", ".rows.*.n", small=True) as crawls,
    ):
        assert crawls.connection is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crawls.read_slowly, 200_000)
            async with stage.reading(healthy):
                await stage.flood(healthy, size=4000)
                await trio.sleep(0.3)
            nursery.cancel_scope.cancel()
        crawls.connection.widen()
        await stage.settle(healthy, crawls)
        undisturbed(healthy)


@scenario("frozen")
async def frozen(stage: Stage, transport: str) -> None:
    """One that never reads again is gone within the write deadline and a second."""
    deadline_s = stage.options.write_deadline_s
    if deadline_s is None:
        raise Skipped("needs --write-deadline, what the server was started with")
    async with (
        stage.subscribe(transport, ".rows.*") as healthy,
        stage.subscribe(transport, ".rows.*", small=True) as dead,
    ):
        assert dead.connection is not None
        async with stage.reading(healthy):
            await stage.flood(healthy)
            with trio.move_on_after(deadline_s + 1):
                while not dead.connection.is_reset():
                    await stage.write(1)
                    await trio.sleep(0.02)
        require(dead.connection.is_reset(), "end", f"frozen, but not gone in {deadline_s} + 1 s")
        await stage.settle(healthy)
        undisturbed(healthy)


@scenario("rooms")
async def rooms(stage: Stage, transport: str) -> None:
    """A room overflows: the messages lost are counted, those that come are in order; what the
    client also watches is not touched by that.
    """
    room = f"{stage.root}-room"
    async with (
        stage.subscribe(transport, ".rows.*", room=[room]) as healthy,
        stage.subscribe(transport, ".rows.k1", small=True, room=[room]) as frozen,
    ):
        async with stage.reading(healthy):
            for _ in range(stage.options.flood_bytes // 16_000):
                await stage.writer.publish(room, stage.value(16_000))
                await stage.write(1)
                await healthy.caught_up()
        assert frozen.connection is not None
        frozen.connection.widen()
        await stage.settle(healthy, frozen)
        undisturbed(healthy)
        async with stage.reading(healthy, frozen):
            for _ in range(10):
                await stage.writer.publish(room, stage.value())
        await stage.settle(healthy, frozen)


@scenario("big-snapshot")
async def big_snapshot(stage: Stage, transport: str) -> None:
    """A state many times larger than the queue comes whole to one who reads slowly, with changes
    going on beside it.
    """
    size, count = 2000, stage.options.flood_bytes // 4000
    for first in range(0, count, 16):
        names = [f"b{number}" for number in range(first, min(first + 16, count))]
        await stage.writer.write(
            *[Write(stage.place("big", name), stage.value(size)) for name in names]
        )
    one = stage.subscriber(transport, ".big.*")
    async with one.connect(receive_buffer=16 * 1024) as connection:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.read_slowly, 4_000_000)
            for _ in range(60):
                name = f"b{stage.rng.randrange(count)}"
                await stage.writer.write(Write(stage.place("big", name), stage.value(size)))
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        connection.widen()
        await stage.settle(one)
    snapshots = [frame for frame in one.ledger.frames if frame["type"] == "snapshot"]
    items = sum(len(frame["items"]) for frame in snapshots)
    require(items >= count, "view", f"only {items} of {count} items came")


@scenario("control", ("ws",))
async def control(stage: Stage, transport: str) -> None:
    """Answers are never dropped, however full the queue is: each once, in the order of asking."""
    async with stage.subscribe(transport, ".rows.*", small=True) as one:
        assert one.connection is not None
        await stage.flood()
        asked = [f"ping-{number}" for number in range(20)]
        for ref in asked:
            await one.connection.command(type="ping", ref=ref)
        one.connection.widen()
        await stage.settle(one)
        answers = [frame for frame in one.ledger.answers if "ref" in frame]
        refs = [frame["ref"] for frame in answers]
        require(refs == asked, "answer", f"asked {asked[:3]}…, answered {refs}", answers[-1:])


# ── somebody changes its mind ───────────────────────────────────────────────────────────────────


@scenario("unsubscribe", ("ws",))
async def unsubscribe(stage: Stage, transport: str) -> None:
    """In the middle of a stream, and with a full queue: nothing comes after the `ok`, and what is
    still subscribed is exact.
    """
    for is_frozen in (False, True):
        async with stage.subscribe(transport, ".rows.*", ".rows.*.n", small=True) as one:
            assert one.connection is not None
            gone = one.filters[0]
            if is_frozen:
                await stage.flood()
            else:
                async with stage.reading(one):
                    await stage.write(30)
            one.ledger.leaving(gone)
            await one.connection.command(type="unsubscribe", filter=gone, ref="u")
            await stage.write(20)
            one.connection.widen()
            await read_to_answer(one, "u")
            one.ledger.unsubscribed(gone)
            await stage.write(20)
            await stage.settle(one)
            await subscribe_again(stage, one, gone)


async def read_to_answer(one: Subscriber, ref: str) -> Frame:
    """Read on to the answer of a command."""
    with trio.fail_after(PATIENCE_S):
        while True:
            frame = await one.next()
            if frame.get("ref") == ref:
                require(frame["type"] == "ok", "answer", "refused", [frame])
                return frame


async def subscribe_again(stage: Stage, one: Subscriber, text: str) -> None:
    assert one.connection is not None
    await one.connection.command(type="subscribe", filter=text, ref="s")
    await read_to_answer(one, "s")
    one.ledger.subscribed(text, one.policy)
    await stage.fence()
    async with stage.reading(one):
        await stage.write(20)
    await stage.settle(one)

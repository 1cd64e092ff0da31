"""What happens when connections, tokens and servers end; entered in the list of `scenarios`."""

from __future__ import annotations

import itertools
import json
from typing import Any

import trio

from .model import Write, position_of
from .scenarios import FILTERS, check_goodbye, read_to_answer, require, scenario
from .stage import Skipped, Stage, Subscriber
from .violation import Frame
from .wire import PATIENCE_S, Ended

# ── connections break ───────────────────────────────────────────────────────────────────────────


@scenario("cut")
async def cut(stage: Stage, transport: str) -> None:
    """Cut at every byte of an event: resuming with the last id seen, nothing is lost and nothing
    comes twice.
    """
    one = stage.subscriber(transport, ".rows.k1")
    target = stage.place("rows", "k1")
    async with one.connect() as connection:
        await one.read_all()
        before = connection.bytes_read
        await stage.writer.write(Write(target, stage.value()))
        await one.read_all()
        size = connection.bytes_read - before
    for offset in itertools.count():
        async with one.connect() as connection:
            require_resumed(one, await one.next())
            await one.read_all()
            before = connection.bytes_read
            await stage.writer.write(Write(target, stage.value()))
            with trio.fail_after(PATIENCE_S):
                while (left := offset - (connection.bytes_read - before)) > 0:
                    await connection.read_some(left)
            for frame in connection.ready():
                one.enter(frame)
            one.ledger.check_parts()
            if stage.rng.random() < 0.5:
                connection.reset()
        if offset >= size:  # the whole event, and as a rule not a byte more
            break
    async with one.connect():
        require_resumed(one, await one.next())
        await stage.settle(one)


def require_resumed(one: Subscriber, connected: Frame) -> None:
    require(connected.get("resumed") is True, "resume", f"{one}: not resumed", [connected])


@scenario("reconnects")
async def reconnects(stage: Stage, transport: str) -> None:
    """Cut again and again while changes go on, also in the middle of what is replayed."""
    one = stage.subscriber(transport, *FILTERS)
    for number in range(25):
        async with one.connect() as connection:
            if number == 0:
                await one.read_all()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.read_slowly, 40_000)
                await stage.write(stage.rng.randrange(1, 12))
                nursery.cancel_scope.cancel()
            for frame in connection.ready():
                one.enter(frame)
            one.ledger.check_parts()
            connection.reset()
        if stage.rng.random() < 0.5:
            await stage.write(stage.rng.randrange(4))
    async with one.connect():
        await stage.settle(one)


@scenario("positions")
async def positions(stage: Stage, transport: str) -> None:
    """A position that is not of this log is answered by the state, and says so."""
    one = stage.subscriber(transport, ".rows.*")
    async with one.connect():
        await one.read_all()
        good = one.ledger.last_id
    epoch, seq = position_of(good)
    wrong = (
        f"{epoch[::-1]}x:{seq}", f"{epoch}:{seq + 1_000_000}", f"{epoch}{seq}", f":{seq}",
        f"{epoch}:", f"{epoch}:-{seq}", f"{epoch}:latest", f"{epoch}:{'9' * 300}", f"{epoch}:1e1",
        f"{seq}", "%00'\"<>", " ", f"{good} ", f"{epoch}-room:{seq}",
    )  # fmt: skip
    for text in wrong:
        async with one.connect(since=text):
            connected = await one.next()
            require(connected["resumed"] is False, "resume", f"resumed from {text!r}", [connected])
            await one.read_all()
            one.ledger.check()
            await stage.write(1)
            await one.read_all()
            one.ledger.check()
    for count in (0, 5):
        await stage.write(count)
        async with one.connect(since=good):
            require_resumed(one, await one.next())
            await stage.settle(one)


@scenario("crowded-resume")
async def crowded_resume(stage: Stage, transport: str) -> None:
    """What was missed is more than a queue holds: it comes whole, or the state comes instead; and
    whoever is cut in the middle of it gets on.
    """
    one = stage.subscriber(transport, ".rows.*")
    async with one.connect():
        await one.read_all()
    for _ in range(3):
        await stage.writer.write(
            *[Write(stage.place("rows", f"k{i % 9}"), stage.value(3000)) for i in range(120)]
        )
        async with one.connect() as connection:
            with trio.move_on_after(2):
                while connection.bytes_read < 150_000:
                    await connection.read_some(20_000)
            for frame in connection.ready():
                one.enter(frame)
            one.ledger.check_parts()
            connection.reset()
    async with one.connect():
        await stage.settle(one)


# ── tokens and restarts ─────────────────────────────────────────────────────────────────────────


@scenario("token")
async def token(stage: Stage, transport: str) -> None:
    """A token ends while its stream lives: `expiring`, then a goodbye that says so; renewed in
    time, the stream lives on.
    """
    if stage.address.token is None:
        raise Skipped("needs --token, an admin's")
    ends, lives = [await issue(stage, 3.0) for _ in range(2)]
    async with (
        stage.subscribe(transport, ".rows.*", token=ends) as first,
        stage.subscribe(transport, ".rows.*", token=lives) as second,
    ):
        for one in (first, second):
            with trio.fail_after(PATIENCE_S):
                warned = await one.until("expiring")
            require(0 <= warned["in_s"] <= 60, "token", "in_s is not the time left", [warned])
        await renew(stage, second, await issue(stage, 600.0))
        async with stage.reading(second):
            await stage.write(10)
            await first.read_to_end()
        check_goodbye(first, "token_ended", 4401)
        first.ledger.check_parts()
        await stage.write(10)
        await stage.settle(second)


async def issue(stage: Stage, ttl_s: float) -> str:
    response = await stage.writer.request(
        "POST", "/tokens", json={"read": [f".{stage.root}"], "write": [], "ttl_s": ttl_s}
    )
    if response.status_code not in (200, 201):
        raise Skipped(f"the token given may not issue tokens: {response.status_code}")
    return str(response.json()["token"])


async def renew(stage: Stage, one: Subscriber, fresh: str) -> None:
    """As each transport can: by a command, or by a request beside the stream."""
    if one.transport == "ws":
        assert one.connection is not None
        await one.connection.command(type="auth", token=fresh, ref="auth")
        await read_to_answer(one, "auth")
        return
    connected = one.ledger.frames[0]
    response = await stage.writer.request(
        "POST",
        f"/streams/{connected['client']}/token",
        json={"secret": connected["secret"]},
        headers={"Authorization": f"Bearer {fresh}"},
    )
    require(response.is_success, "token", f"not renewed: {response.status_code}")


@scenario("restart")
async def restart(stage: Stage, transport: str) -> None:
    """The server is restarted: everyone is told when to come back, each at another moment, gets
    all it is owed before, and afterwards the state as it is then.
    """
    if stage.options.restart is None:
        raise Skipped("needs --restart-command")
    crowd = [stage.subscriber(transport, ".rows.*") for _ in range(12)]
    async with trio.open_nursery() as nursery:
        for one in crowd:
            nursery.start_soon(see_the_end, one)
        await trio.sleep(0.5)
        await stage.write(20)
        await stage.options.restart()
    if stage.options.says_goodbye:
        retries = [retry_of(one) for one in crowd]
        require(len(set(retries)) > len(crowd) // 2, "drain", f"all come back at once: {retries}")
    await stage.reopen()
    for one in crowd:
        async with one.connect():
            await one.read_all()
            one.ledger.check()
    await stage.write(10)


async def see_the_end(one: Subscriber) -> None:
    """Subscribe, and read to the end; what came is entered then, when the model knows of all."""
    async with one.connect() as connection:
        frames: list[Frame] = []
        with trio.move_on_after(40):
            try:
                while True:
                    frames.append(await connection.frame())
            except Ended:
                pass
        for frame in frames:
            one.enter(frame)
        # A drain flushes: all that was written before is there.
        one.ledger.check()


def retry_of(one: Subscriber) -> int:
    """When it was told to come back, in milliseconds."""
    check_goodbye(one, "restart", 1012)
    assert one.ended is not None
    said: Any = one.ended if one.transport == "sse" else json.loads(one.ended["reason"])
    require(isinstance(said.get("retry_ms"), int), "drain", "no retry_ms", [one.ended])
    return int(said["retry_ms"])

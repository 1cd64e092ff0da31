"""The kit (`tests/kit`) against this server on both lanes; and the kit itself: it must see what a
proxy that lies does to the events.

`TRIODE_SEED` sets another seed. What it finds is played again by the command that a failure prints.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.kit.play import Outcome, chosen, play
from tests.kit.proxy import Fault, is_event, open_proxy
from tests.kit.scenarios import Scenario
from tests.kit.stage import Options
from tests.kit.wire import Address

from .api import Api
from .auth import ADMIN
from .conftest import ServerFactory
from .server import OPEN, ROOT, Lane, Server

pytestmark = pytest.mark.trio

SEED = int(os.environ.get("TRIODE_SEED", "20261"))
# These need more than a server with default settings.
SPECIAL = ("frozen", "token", "restart")
WRITE_DEADLINE_S = 2.0
# For what does not come, because the proxy has kept it.
PATIENCE_S = 2.0


def names(*, special: bool) -> list[Any]:
    return [
        pytest.param(one, transport, id=f"{one.name}-{transport}")
        for one, transport in chosen()
        if (one.name in SPECIAL) == special
    ]


def named(name: str) -> Scenario:
    return chosen([name])[0][0]


def check(outcome: Outcome) -> None:
    assert outcome.verdict == "kept", "\n".join([str(outcome.counts), *outcome.lines])


def address_of(server: Server, token: str | None = None) -> Address:
    return Address(f"http://127.0.0.1:{server.port}", token)


@pytest.fixture
async def fresh(api: Api, server: Server) -> Server:
    """The server of the lane with the document that the kit needs, whatever was written before."""
    await api.reset({})
    return server


@pytest.mark.parametrize("seed", [SEED])
@pytest.mark.parametrize(("scenario", "transport"), names(special=False))
async def test_promises_are_kept(
    fresh: Server, scenario: Scenario, transport: str, seed: int
) -> None:
    outcome = await play(address_of(fresh), Options(), scenario, transport, seed)
    check(outcome)
    assert outcome.counts["matched"] > 0
    # Each says so itself where it was not pressed hard enough to lose anything.
    assert outcome.counts["sent"] + outcome.counts["announced"] == outcome.counts["matched"]


@pytest.mark.native(reason="Hypercorn holds a frozen client as long as the system does")
@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_who_is_frozen_goes(make_server: ServerFactory, transport: str) -> None:
    server = make_server(write_deadline=WRITE_DEADLINE_S)
    options = Options(write_deadline_s=WRITE_DEADLINE_S)
    check(await play(address_of(server), options, named("frozen"), transport, SEED))


@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_tokens_end(guarded: Server, transport: str) -> None:
    address = address_of(guarded, ADMIN)
    check(await play(address, Options(), named("token"), transport, SEED))


@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_a_restart(lane: Lane, tmp_path: Path, transport: str) -> None:
    server = Server(lane, OPEN, tmp_path)
    await trio.to_thread.run_sync(server.start)

    async def restart() -> None:
        await trio.to_thread.run_sync(server.stop)
        await trio.to_thread.run_sync(server.start, server.port)

    try:
        # Hypercorn ends the connections by itself: nobody can be told before.
        options = Options(restart, says_goodbye=lane == "native")
        check(await play(address_of(server), options, named("restart"), transport, SEED))
    finally:
        with trio.move_on_after(30, shield=True):
            await trio.to_thread.run_sync(server.stop)


# A server that lies ────────────────────────────────────────────────────────────────────────────


def nth(kind: bytes, number: int, change: Callable[[bytes], list[bytes]]) -> Callable[[], Fault]:
    """Do something to the event of a type that comes as that many-th on a connection."""

    def make() -> Fault:
        count = 0

        def fault(event: bytes) -> list[bytes]:
            nonlocal count
            if is_event(event, kind):
                count += 1
                if count == number:
                    return change(event)
            return [event]

        return fault

    return make


def swapped(number: int) -> Callable[[], Fault]:
    """Two updates in the wrong order."""

    def make() -> Fault:
        count = 0
        held: list[bytes] = []

        def fault(event: bytes) -> list[bytes]:
            nonlocal count, held
            count += is_event(event, b"update")
            if count == number and not held and is_event(event, b"update"):
                held = [event]
                return []
            if held and is_event(event, b"update"):
                late, held = held, []
                return [event, *late]
            return [event]

        return fault

    return make


def again(event: bytes) -> list[bytes]:
    return [event, event]


def dropped(event: bytes) -> list[bytes]:
    return []


def altered(event: bytes) -> list[bytes]:
    """One digit of the value is another."""
    mark = b'"n":' if b'"n":' in event else b'"value":'
    head, mark, rest = event.partition(mark)
    return [head + mark + (b"9" if rest[:1] != b"9" else b"8") + rest[1:]]


def miscounted(event: bytes) -> list[bytes]:
    """A gap that counts wrongly; as many digits, for the frame's length to stay."""
    head, mark, rest = event.partition(b'"missed":')
    return [head + mark + (b"1" if rest[:1] != b"1" else b"2") + rest[1:]]


LIES: dict[str, tuple[str, Callable[[], Fault], set[str]]] = {
    "one event dropped": ("steady", nth(b"update", 5, dropped), {"position", "gap", "sum"}),
    "the last event dropped": ("positions", nth(b"update", 1, dropped), {"sum", "position"}),
    "one event twice": ("steady", nth(b"update", 5, again), {"order"}),
    "two events swapped": ("steady", swapped(5), {"order", "position", "gap"}),
    "a value altered": ("steady", nth(b"update", 5, altered), {"owed"}),
    "a snapshot dropped": ("steady", nth(b"snapshot", 2, dropped), {"position", "order", "sum"}),
    "a gap dropped": ("drop-newest", nth(b"gap", 1, dropped), {"sum", "position", "gap", "order"}),
    "a gap told twice": ("drop-newest", nth(b"gap", 1, again), {"sum", "gap"}),
    "a gap that counts wrongly": ("drop-newest", nth(b"gap", 1, miscounted), {"sum", "gap"}),
    "a heal dropped": ("drop-newest", nth(b"snapshot", 5, dropped), {"position", "sum", "order"}),
    "a message dropped": ("rooms", nth(b"message", 3, dropped), {"sum"}),
    "an answer dropped": ("control", nth(b"pong", 3, dropped), {"answer"}),
    "an answer twice": ("control", nth(b"pong", 3, again), {"answer"}),
    "no goodbye": ("disconnect", nth(b"closing", 1, dropped), {"end"}),
}


@pytest.mark.native(reason="a lie about the kit, told once, over a stream that has no chunks")
@pytest.mark.parametrize("transport", ["sse", "ws"])
@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_seen(fresh: Server, lie: str, transport: str) -> None:
    name, make_fault, rules = LIES[lie]
    one = named(name)
    if transport not in one.transports or (lie == "no goodbye" and transport == "ws"):
        pytest.skip(f"{lie}: not over {transport}")
    async with open_proxy(fresh.port, make_fault) as port:
        address = Address(f"http://127.0.0.1:{port}")
        outcome = await play(address, Options(patience_s=PATIENCE_S), one, transport, SEED)
    assert outcome.verdict == "broken", (outcome.verdict, outcome.lines)
    rule = outcome.lines[0].partition(":")[0]
    assert rule in rules, outcome.lines


@pytest.mark.native(reason="the command itself; one lane is enough")
async def test_the_command(fresh: Server, tmp_path: Path) -> None:
    """Alone, with an exit status: 0 when all is kept, 1 when not, and then it says how to see it
    again.
    """
    async with open_proxy(fresh.port, nth(b"update", 5, dropped)) as port:
        good = await run_kit(fresh.port)
        bad = await run_kit(port)
    assert (good.returncode, bad.returncode) == (0, 1), (good.stdout, bad.stdout)
    assert b"kept" in good.stdout
    assert b"broken" in bad.stdout
    assert f"--only steady --seed {SEED}".encode() in bad.stdout
    assert b'"type": "update"' in bad.stdout, "the first divergent frame"


async def run_kit(port: int) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "tests.kit", f"http://127.0.0.1:{port}"]
    command += ["--seed", str(SEED), "--only", "steady"]
    with trio.fail_after(60):
        return await trio.run_process(command, capture_stdout=True, check=False, cwd=ROOT)


@pytest.mark.native(reason="the command starts a server of its own")
async def test_a_small_crowd() -> None:
    """`python -m tests.kit.crowd` in small; in full it is a demonstration of its own."""
    command = [sys.executable, "-m", "tests.kit.crowd", "--json"]
    command += ["--clients", "100", "--frozen", "10", "--slow", "10"]
    command += ["--seconds", "4", "--size", "1000", "--"]
    command += ["--send-buffer-bytes", "16384", "--write-deadline", "2s", "--drain", "5s"]
    with trio.fail_after(90):
        done = await trio.run_process(command, capture_stdout=True, check=False, cwd=ROOT)
    result = json.loads(done.stdout)
    assert done.returncode == 0, result["faults"]
    assert result["published"] == 2000
    assert result["deliveries"] == 80 * 2000
    assert len(result["frozen_gone_s"]) == 10
    assert all(result["checks"].values())

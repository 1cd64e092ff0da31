"""A hundred who attack at once, each from an address of its own; and the healthy beside them."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import trio

from tests.abuse.attacker import Abuse, Attacker, attacker
from tests.abuse.bystander import Bystander, Wait
from tests.abuse.healthy import Healthy
from tests.abuse.holds import Holds, WatchedServer
from tests.behaviour.server import OPEN, Server

CLIENTS: Final = 100
BOUND_MS: Final = 50.0
# They are cut off then: what a hundred ask for may take minutes.
ATTACK_S: Final = 15.0
# A server that has much to do may always say so.
BUSY: Final = (429, 503, 507)
CUT: Final = "cut"
REASON_SHOWN: Final = 60


@dataclass
class Siege:
    """What came of it. `answers`: by status, or by what went wrong instead."""

    wait: Wait
    held: Holds
    healthy: dict[str, Any]
    answers: Counter[int | str] = field(default_factory=Counter)

    def faults(self, expected: tuple[int, ...]) -> list[str]:
        """What must not be, in words."""
        allowed = {*expected, *BUSY, CUT}
        found = [f"answer {one}" for one in self.answers if one not in allowed]
        found += self.wait.faults(BOUND_MS)
        if self.healthy["verdict"] != "kept":
            found.append(f"healthy: {self.healthy['verdict']} {self.healthy['lines']}")
        return found


async def besiege(one: Abuse, holds: bool) -> Siege:
    """One input from a hundred clients at once, on a server of its own; with `holds` it says what
    held its loop, which makes it slower.
    """
    with tempfile.TemporaryDirectory() as home:
        settings = {**OPEN, **one.settings}
        watched = WatchedServer(settings, Path(home)) if holds else None
        server = watched or Server("native", settings, Path(home))
        server.start()
        try:
            async with attacker(server) as first:
                await one.prepare(first)
            with beside(server) as (bystander, healthy):
                if watched is not None:
                    watched.longest()
                bystander.worst()
                answers = await attack(one, server)
                await trio.sleep(one.settle_s)
                wait = bystander.worst()
                held = Holds() if watched is None else watched.longest()
                outcome = await trio.to_thread.run_sync(healthy.outcome)
                return Siege(wait, held, outcome, answers)
        finally:
            server.kill()


@contextlib.contextmanager
def beside(server: Server) -> Iterator[tuple[Bystander, Healthy]]:
    """The two who must not notice, until left."""
    bystander = Bystander(server)
    try:
        healthy = Healthy(server.port)
        try:
            yield bystander, healthy
        finally:
            healthy.stop()
    finally:
        bystander.stop()


async def attack(one: Abuse, server: Server) -> Counter[int | str]:
    """All at once, until all are answered or it is enough."""
    answers: Counter[int | str] = Counter()
    play = one.in_crowd or one.attack

    async def join(client: Attacker) -> None:
        try:
            answers[await play(client)] += 1
        except httpx.HTTPStatusError as refused:
            answers[refused.response.status_code] += 1
        except Exception as fault:
            answers[f"{type(fault).__name__} {fault}"[:REASON_SHOWN]] += 1

    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(attacker(server, f"127.0.1.{number + 1}"))
            for number in range(CLIENTS)
        ]
        with trio.move_on_after(ATTACK_S):
            # Holds those who attack; left when all are answered, or cut off.
            async with trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(join, client)
    if cut := CLIENTS - answers.total():
        answers[CUT] = cut
    return answers


def run(rows: list[Abuse], *, holds: bool) -> bool:
    """Print what came of each. Whether one was not as it must be."""
    head = f"{'input, by 100 at once':<34}{'wait ms':>9}{'server ms':>11}"
    print(f"{head}{'events':>8}{'told lost':>11}  answers, verdict", flush=True)
    bad = False
    for one in rows:
        siege = trio.run(besiege, one, holds)
        faults = siege.faults(one.expected)
        bad |= bool(faults)
        held, counts = siege.held, siege.healthy["counts"]
        said = ", ".join(f"{count} x {what}" for what, count in siege.answers.items())
        print(
            f"{one.name:<34}{siege.wait.wait_ms:>9.1f}{siege.wait.server_ms:>11.1f}"
            f"{counts.get('sent', 0):>8}{counts.get('announced', 0):>11}"
            f"  {said}; {', '.join(faults) or 'kept'}{siege.wait.note(BOUND_MS)}",
            flush=True,
        )
        if holds:
            print(f"  longest step {held.step_ms:.1f} ms, longest rounds {held.rounds_ms:.1f} ms")
            print("".join(f"    {line}\n" for line in [*held.step_in, *held.rounds_in]), end="")
    return bad

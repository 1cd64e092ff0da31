"""The loop: write, kill, start again, compare."""

from __future__ import annotations

import copy
import itertools
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import trio

from tests.behaviour.assembler import same
from tests.behaviour.clients import open_api
from tests.behaviour.server import OPEN, Server, Settings
from tests.crash.checker import Checker, changes_differ, selected
from tests.crash.followers import Follower
from tests.crash.forks import Forks
from tests.crash.ledger import Ledger, Violation
from tests.crash.operations import START, Maker, Write
from tests.crash.rooms import Listener, Talker
from tests.crash.writers import OverHttp, OverNdjson, OverWebSocket

# Nothing may be dropped here: a snapshot would hide what was lost.
WIDE: Settings = {
    "queue_items": 100_000, "queue_bytes": "64MiB", "data": "kept", "room_history": 100_000,
}  # fmt: skip
BEGIN_S = 5.0
READ_S = 2.0
PLAIN_SHARE = 0.2
WRITERS = (OverWebSocket, OverWebSocket, OverHttp, OverHttp, OverNdjson)
FILTERS = (".", ".n", ".l", ".s.*")


class CrashServer(Server):
    """With small snapshots, and the fault if there is one; `is_plain`: as users start it."""

    is_plain = True
    fault = ""
    forks: Forks | None = None

    def _launch(self) -> subprocess.Popen[bytes]:
        if self.is_plain and not self.fault:
            return super()._launch()
        if self.forks is None:
            self.forks = Forks()
        arguments = self._command()[3:]
        return cast(
            "subprocess.Popen[bytes]", self.forks.start(arguments, self._environment(), self.home)
        )

    def close(self) -> None:
        """End what is left of it."""
        self.kill()
        if self.forks is not None:
            self.forks.close()

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {"CRASH_FAULT": self.fault}

    def start_and_kill(self, after_s: float) -> None:
        """Begin a start, and kill it on the way."""
        self._process = self._launch()
        time.sleep(after_s)
        self.kill()


@dataclass
class Result:
    """What a run has seen."""

    loops: int = 0
    answered: int = 0
    refused: int = 0
    found: int = 0
    lost: int = 0
    resumed: int = 0
    heard: int = 0
    boots_cut: int = 0

    def __str__(self) -> str:
        return (
            f"{self.loops} kills ({self.boots_cut} in a start), {self.answered} writes answered, "
            f"{self.refused} refused, {self.found} not answered and there, {self.lost} not "
            f"answered and not there, {self.resumed} resumes, {self.heard} messages of a room heard"
        )


async def crash(
    home: Path,
    loops: int,
    seed: int,
    *,
    fault: str = "",
    tell: Callable[[Result], None] = lambda _: None,
) -> Result:
    """So many loops. Raises `Violation`."""
    server = CrashServer("native", {**OPEN, **WIDE}, home)
    server.fault = fault
    run = Run(server, random.Random(seed))
    await trio.to_thread.run_sync(server.start)
    try:
        async with trio.open_nursery() as nursery:
            await run.begin(nursery)
            for _ in range(loops):
                await run.loop()
                tell(run.result)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise first(group) from None
    finally:
        server.close()
    return run.result


def first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """A violation that is in the group; else the first of all."""
    found = group.subgroup(Violation) or group
    one = found.exceptions[0]
    return first(one) if isinstance(one, BaseExceptionGroup) else one


class Run:
    """What lives as long as the run."""

    def __init__(self, server: CrashServer, rng: random.Random) -> None:
        self._server = server
        self._rng = rng
        self._ledger = Ledger()
        labels = itertools.count(1)
        self._labels = labels
        self._writers = [
            kind(
                server,
                self._ledger,
                Maker(random.Random(rng.random()), labels, f"w{number}"),
                random.Random(rng.random()),
            )
            for number, kind in enumerate(WRITERS)
        ]
        self._followers = [
            Follower(server, self._ledger, transport, filter)
            for filter in FILTERS
            for transport in ("sse", "ws")
        ]
        self._talker = Talker(server, random.Random(rng.random()))
        self._said: dict[int, object] = {}
        self._listeners = [Listener(server, self._said) for _ in range(2)]
        self._checker = Checker(self._ledger, {}, 0)
        self.result = Result()

    async def begin(self, nursery: trio.Nursery) -> None:
        """The document is there, and everybody watches."""
        async with open_api(self._server) as api:
            position = await api.reset(START)
        first = int(position.rpartition(":")[2])
        self._checker = Checker(self._ledger, copy.deepcopy(START), first)
        for follower in self._followers:
            nursery.start_soon(follower.run)
        for follower in self._followers:
            await follower.reach(first)
        for listener in self._listeners:
            nursery.start_soon(listener.run)
        for listener in self._listeners:
            await listener.reach(None)

    async def loop(self) -> None:
        """Write, kill, start again, compare. Raises `Violation`."""
        async with trio.open_nursery() as nursery:
            for writer in self._writers:
                writer.begun = trio.Event()
                nursery.start_soon(writer.run)
            nursery.start_soon(self._talker.run)
            if self._rng.random() < 0.8:
                with trio.move_on_after(BEGIN_S):
                    for writer in self._writers:
                        await writer.begun.wait()
            await trio.sleep(self._rng.choice((0.01, 0.1, 0.3, 1.0)) * self._rng.random())
            await trio.to_thread.run_sync(self._server.kill)
            # What had come before is read by then.
            nursery.cancel_scope.deadline = trio.current_time() + READ_S
        self._server.is_plain = self._rng.random() < PLAIN_SHARE
        while self._rng.random() < 0.1:
            self.result.boots_cut += 1
            after_s = self._rng.random() * 1.2
            await trio.to_thread.run_sync(self._server.start_and_kill, after_s)
        await trio.to_thread.run_sync(self._server.start, self._server.port)
        await self._compare()
        self.result.loops += 1

    async def _compare(self) -> None:
        ledger, checker, result = self._ledger, self._checker, self.result
        document = await self._fence()
        for follower in self._followers:
            await follower.reach(ledger.newest)
        label = await self._talker.say()
        for listener in self._listeners:
            await listener.reach(label)
        for one, two in itertools.pairwise(self._followers):
            if one.filter == two.filter and (difference := changes_differ(one, two)):
                raise Violation(f"one position, two contents: {difference}")
        result.answered += len(ledger.answered)
        checker.advance(self._followers[0])
        if not same(document, checker.root):
            raise Violation(f"GET /store gives {document}, it should be {checker.root}")
        for follower in self._followers[1:]:
            self._check_view(follower)
        result.lost += checker.forget_unanswered()
        result.found = checker.found
        result.refused = sum(ledger.statuses.values())
        result.resumed = sum(follower.resumed for follower in self._followers)
        result.resumed += sum(listener.resumed for listener in self._listeners)
        result.heard = len(self._said)

    async def _fence(self) -> object:
        """A last write that everybody sees; the document then."""
        label = next(self._labels)
        command = {"type": "set", "path": ".fence", "value": label}
        write = Write(label, command, ("fence",), label)
        async with open_api(self._server) as api:
            self._ledger.send(write)
            self._ledger.answer(write, await api.put(".fence", label))
            return await api.get(".")

    def _check_view(self, follower: Follower) -> None:
        view: object = None
        for _seq, frames in follower.changes:
            view = follower.play(frames)
        follower.changes.clear()
        root = self._checker.root
        wanted = root if follower.filter == "." else selected(root, follower.filter)
        if not same_view(view, wanted):
            raise Violation(f"{follower} has {view}, it should be {wanted}")


def same_view(one: object, two: object) -> bool:
    """As `same`, for the views of filters too."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(same(one[path], two[path]) for path in one)
    return same(one, two)

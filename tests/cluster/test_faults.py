"""What may happen to nodes and their server while writers write: nothing that was acknowledged is
lost, nothing is there twice, and all nodes have the same document afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.clients.proxy import open_proxy
from tests.cluster.conftest import FOUND, NAMES, NONE
from tests.cluster.ledger import Ledger
from tests.cluster.nodes import Node, client_of, nodes
from tests.cluster.running import node
from tests.cluster.server import Server, free_port, running
from tests.cluster.waiting import until
from triode.store.operation import Increment

AOF = ("--appendonly", "yes", "--appendfsync", "everysec")

pytestmark = pytest.mark.skipif(not FOUND, reason=NONE)


@asynccontextmanager
async def cluster(folder: Path, *options: str) -> AsyncIterator[tuple[Server, Ledger]]:
    """Two nodes on a server, and writers that write to both."""
    async with running(FOUND[NAMES[0]], folder, *options) as server:
        async with node(server.address) as one, node(server.address) as two:
            async with writing(Ledger(one, two)) as ledger:
                yield server, ledger


@asynccontextmanager
async def writing(ledger: Ledger) -> AsyncIterator[Ledger]:
    """Writers write meanwhile; checked in the end."""
    await ledger.begin()
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run, 6)
        await ledger.wait_for(30)
        yield ledger
        await ledger.wait_for(30)
        ledger.stop()
    await ledger.check()


async def test_the_server_is_killed_and_has_nearly_all(tmp_path: Path) -> None:
    async with cluster(tmp_path, *AOF) as (server, ledger):
        epoch = ledger.nodes[0].store.epoch
        server.kill()
        await server.start()
    # Positions of before are good.
    store = ledger.nodes[0].store
    assert store.epoch != epoch
    assert store.lineage.knows(epoch)


async def test_the_server_comes_back_empty(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (server, ledger):
        epoch = ledger.nodes[1].store.epoch
        server.kill()
        await server.start()
    assert ledger.nodes[1].store.lineage.knows(epoch)


async def test_all_of_it_is_deleted(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (server, _):
        await server.call("FLUSHALL")


async def test_a_connection_is_cut_before_the_reply(server: Server) -> None:
    """The server has it, the node does not know: it asks again, and nothing is there twice."""
    async with (
        open_proxy(server.port) as proxy,
        node(server.address, port=proxy.port) as one,
        node(server.address) as two,
        writing(Ledger(one, two)) as ledger,
    ):
        for cut_after in (0, 5, 40, 300, 3, 17):
            proxy.cut_after = cut_after
            await ledger.wait_for(20)


async def test_a_node_comes_later_and_another_one_goes(server: Server) -> None:
    async with node(server.address) as one:
        ledger = Ledger(one)
        async with writing(ledger):
            async with node(server.address) as two:
                ledger.nodes.append(two)
                await ledger.wait_for(20)
                ledger.nodes.remove(two)
                await ledger.wait_for(20)


async def test_what_a_server_lost_is_given_back_with_its_positions(tmp_path: Path) -> None:
    """It comes back with what it once saved: as after a failover to a replica that was behind."""
    async with cluster(tmp_path) as (server, ledger):
        await server.call("SAVE")
        await ledger.wait_for(50)
        before = {name: position.rpartition(":")[2] for name, position in
                  ledger.acknowledged.items()}  # fmt: skip
        server.kill()
        await server.start()
        await ledger.wait_for(30)
    # Nobody begins anew for it, and no position names anything else now.
    seqs = [int(seq) for seq in before.values()]
    for change in ledger.nodes[0].store.history.since(min(seqs) - 1):
        [edit] = change.edits or [None]
        if edit is not None and edit.path[0] == "all" and len(edit.path) == 2:
            assert before.get(str(edit.after), str(change.position.seq)) == str(change.position.seq)


async def test_nobody_waits_for_a_server_that_is_away(tmp_path: Path) -> None:
    """Clients are told; writers get to know that nothing was written."""
    async with running(FOUND[NAMES[0]], tmp_path, *AOF) as server:
        async with node(server.address, {"n": 0}, log_deadline_s=2.0) as one:
            await one.write(Increment(("n",)))
            server.kill()
            began = trio.current_time()
            ledger = Ledger(one)
            await ledger.write()
            assert not ledger.acknowledged
            assert trio.current_time() - began < 9
            await until(lambda: one.hub.status is not None)
            assert one.store.document.root == {"n": 1}
            await ledger.write()
            assert "w1" in ledger.refused
            await server.start()
            await one.write(Increment(("n",)))
            await until(lambda: one.hub.status is None)
            root: Any = one.store.document.root
            assert root["n"] == 2
            # What was sent when the server went may have been written, and nothing else.
            assert set(root.get("all", ())) <= ledger.unknown


async def test_who_was_on_one_node_goes_on_at_another(tmp_path: Path, server: Server) -> None:
    """Two processes, one of which is killed."""
    async with nodes(server.url, tmp_path, 2) as (one, two), client_of() as client:
        for number in range(5):
            written = await client.patch(f"{one.url}/store?path=.", json={"n": number})
            assert written.is_success
            if number == 1:
                since = written.json()["id"]
        one.kill()
        text = await two.events(f"/events?filter=.&since={since}", 3)
        assert '"resumed":true' in text
        assert "event: snapshot" not in text
        assert (await client.patch(f"{two.url}/store?path=.m", json=1)).is_success
        assert await two.document() == {"n": 4, "m": 1}


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--maxmemory-policy", "allkeys-lru"), "maxmemory-policy noeviction"),
     (("--cluster-enabled", "yes", "--cluster-port", str(free_port())), "Cluster")],
)  # fmt: skip
async def test_a_server_that_is_not_fit(
    tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    async with running(FOUND[NAMES[0]], tmp_path, *options) as server:
        unfit = Node(server.url, tmp_path)
        with pytest.raises(AssertionError):
            await unfit.start()
        assert f"triode: --log: {server.url} " in unfit.output.read_text()
        assert words in unfit.output.read_text()

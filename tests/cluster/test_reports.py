"""What Triodes tell each other by way of a real server."""

from __future__ import annotations

from tests.cluster.running import node
from tests.cluster.server import Server
from tests.cluster.waiting import until
from triode.app.service.triode import Triode
from triode.store.operation import Set


def seen(triode: Triode) -> dict[str, int]:
    """Node → where it stands."""
    assert triode.cluster is not None
    return {told["node"]: told["seq"] for told in triode.cluster.facts()["nodes"]}


async def test_all_are_seen_and_who_leaves_is_gone(each_server: Server) -> None:
    address = each_server.address
    async with node(address, {"n": 0}) as one:
        async with node(address) as two:
            await two.write(Set(("n",), 1))
            seq = two.store.seq
            await until(lambda: list(seen(one).values()) == [seq] * 2, 30)
            await until(lambda: list(seen(two).values()) == [seq] * 2, 30)
            assert one.cluster is not None
            facts = one.cluster.facts()
            assert (facts["live"], facts["term"], facts["seq"]) == (True, 1, seq)
            assert all(0 < told["rtt_s"] < 10 for told in facts["nodes"])
            assert facts["advice"] == []
        await until(lambda: len(seen(one)) == 1, 30)
        assert await each_server.call("HLEN", "tri:{default}:reports") == 1
    assert await each_server.call("HLEN", "tri:{default}:reports") == 0


async def test_what_one_that_was_killed_has_told_goes_with_its_lease(server: Server) -> None:
    async with node(server.address) as one:
        await server.call("HSET", "tri:{default}:reports", "dead", '{"beat":1}')
        await until(lambda: len(seen(one)) == 1)

        gone = False
        while not gone:
            gone = await server.call("HEXISTS", "tri:{default}:reports", "dead") == 0
        assert len(seen(one)) == 1


async def test_out_of_reach_is_said(server: Server) -> None:
    async with node(server.address) as one:
        server.kill()
        assert one.cluster is not None
        cluster = one.cluster
        await until(lambda: not cluster.facts()["live"], 30)
        assert "out of reach" in cluster.facts()["advice"][0]
        await server.start()
        await until(lambda: bool(cluster.facts()["live"]), 30)

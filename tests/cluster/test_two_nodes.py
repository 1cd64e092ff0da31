"""Two Triodes on one server: one document."""

from __future__ import annotations

from tests.cluster.running import node
from tests.cluster.server import Server
from tests.cluster.waiting import until
from triode.app.service.triode import Triode
from triode.store.operation import Increment, Set


async def equal(*triodes: Triode) -> None:
    """Wait until all are at the same position; then they have the same document."""
    await until(lambda: len({triode.store.position for triode in triodes}) == 1)
    assert len({str(triode.store.checksum) for triode in triodes}) == 1


async def test_what_one_writes_the_other_has(server: Server) -> None:
    async with node(server.address, {"n": 0}) as one, node(server.address) as two:
        for _ in range(5):
            await one.write(Increment(("n",)))
            await two.write(Increment(("n",)))
        await equal(one, two)
        assert two.store.document.root == {"n": 10}


async def test_it_is_there_afterwards(server: Server) -> None:
    async with node(server.address) as one:
        await one.write(Set(("a",), 1))
        before = one.store.position, one.store.document.root
    async with node(server.address) as two:
        assert (two.store.position, two.store.document.root) == before

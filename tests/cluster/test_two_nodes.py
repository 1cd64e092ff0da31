"""Two Triodes on one server: one document."""

from __future__ import annotations

from tests.cluster.running import node
from tests.cluster.server import Server
from tests.cluster.waiting import until
from triode.app.log.shared.valkey import ValkeyLog
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


async def numbers(server: Server) -> set[str]:
    """Nodes whose last batch's number the server has."""
    fields = await server.call("HKEYS", "tri:{default}:meta")
    assert isinstance(fields, list)
    return {field.decode()[2:] for field in fields if field.startswith(b"p:")}


async def test_who_ends_takes_its_number_along(server: Server) -> None:
    async with node(server.address) as one:
        await one.write(Set(("a",), 1))
        async with node(server.address) as two:
            await two.write(Set(("b",), 1))
            logs = [triode.journal.shared for triode in (one, two) if triode.journal]
            assert await numbers(server) == {log.node for log in logs if log}
        assert await numbers(server) == {logs[0].node if logs[0] else ""}


async def test_not_where_a_batch_may_still_arrive(server: Server) -> None:
    """It was sent twice: the server must know the first one again when that comes late."""
    async with node(server.address) as one:
        await one.write(Set(("a",), 1))
        assert one.journal is not None
        log = one.journal.log
        assert isinstance(log, ValkeyLog)
        out = log._member.out
        # The reply to the write may come after its entry.
        await until(lambda: not out._in_flight)
        out.put(b"", 1)
        for _ in range(2):
            assert out.call("e") is not None
            out.cut()
        out.done()
    assert await numbers(server) == {log.node}

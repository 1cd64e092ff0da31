"""A long write gives way to others, is done whole or not at all, and costs no more than it may."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.app.rounds import counted_rounds
from tests.app.web import serving
from triode.app.config.settings import Settings
from triode.app.runtime.decoding import AT_ONCE_BYTES, decode_in_turns
from triode.app.service import triode as triode_module
from triode.app.service.execute import execute
from triode.app.service.triode import AT_ONCE_STEPS, Triode
from triode.app.wire.refusal import Refusal
from triode.limits.grant import Grant
from triode.limits.principal import OWNER, Principal
from triode.store.operation import Batch, Increment, Merge, Operation, Patch, Set

# More than what is done at once: an edit of some steps for each.
MANY = 400


def long_write(value: int = 1) -> Operation:
    return Merge(("many",), {f"k{number}": {"v": value} for number in range(4 * MANY)})


def triode_of(root: Any, **options: Any) -> Triode:
    return Triode(Settings(**options), root)


async def test_others_run_while_a_long_write_is_planned() -> None:
    triode = triode_of({"many": {}})
    async with counted_rounds() as rounds:
        await triode.write(Merge(("many",), {f"k{n}": {"v": n} for n in range(30_000)}))
    assert rounds.seen > 10
    assert len(triode.store.document.root["many"]) == 30_000  # type: ignore[index,call-overload]


async def test_what_costs_more_than_a_request_may_is_refused_and_changes_nothing() -> None:
    triode = triode_of({"many": {}}, max_work=1_000)
    with pytest.raises(Refusal) as refused:
        await triode.write(long_write())
    refusal = refused.value
    assert refusal.status == 422
    assert refusal.extra["limit"] == 1_000
    assert refusal.extra["cost"] > 1_000
    assert triode.store.document.root == {"many": {}}
    assert triode.store.seq == 0
    assert triode.metrics.writes_failed == 1


async def test_a_blind_writer_is_not_told_the_cost() -> None:
    triode = triode_of({"many": {}}, max_work=1_000)
    blind = Principal("k", "n", Grant(read=(), write=(".many",), rooms=()))
    with pytest.raises(Refusal) as refused:
        await triode.write(long_write(), blind)
    assert refused.value.status == 403
    assert "cost" not in refused.value.extra


async def test_writes_that_came_later_are_done_later() -> None:
    triode = triode_of({"many": {}, "n": 0})
    order: list[str] = []

    async def write(name: str, op: Operation) -> None:
        await triode.write(op)
        order.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, "long", long_write())
        while not triode._writing.locked():  # noqa: ASYNC110 # a lock has no event
            await trio.lowlevel.checkpoint()
        nursery.start_soon(write, "short", Increment(("n",)))
    assert order == ["long", "short"]
    assert triode.store.seq == 2


async def test_a_short_write_waits_for_one_long_write_at_most() -> None:
    triode = triode_of({"many": {}, "n": 0})
    order: list[str] = []

    async def write(name: str, op: Operation) -> None:
        await triode.write(op)
        order.append(name)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(write, "long", long_write(number))
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        nursery.start_soon(write, "short", Increment(("n",)))
    assert order.index("short") <= 1


async def test_a_write_of_the_embedding_code_comes_between() -> None:
    triode = triode_of({"many": {}, "n": 0})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(triode.write, long_write())
        while not triode._writing.locked():  # noqa: ASYNC110 # a lock has no event
            await trio.lowlevel.checkpoint()
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        triode.write_nowait(Set(("many", "k0"), "mine"))
    root: Any = triode.store.document.root
    assert root["many"]["k0"] == {"v": 1}  # the long write came after it
    assert triode.store.seq == 2


async def test_code_that_never_stops_writing_does_not_hang_a_long_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(triode_module, "ATTEMPTS", 3)
    triode = triode_of({"many": {}, "n": 0})

    async def restless() -> None:
        while True:
            triode.write_nowait(Increment(("n",)))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(restless)
        with pytest.raises(Refusal) as refused:
            await triode.write(long_write())
        assert refused.value.status == 503
        nursery.cancel_scope.cancel()
    assert triode.store.document.get(("many",)) == {}
    assert not triode._writing.locked()


async def test_a_cancelled_long_write_is_not_done_and_frees_the_way() -> None:
    triode = triode_of({"many": {}})
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(triode.write, long_write())
            while not triode._writing.locked():  # noqa: ASYNC110 # a lock has no event
                await trio.lowlevel.checkpoint()
            scope.cancel()
    assert triode.store.seq == 0
    await triode.write(Set(("many",), 1))
    assert triode.store.document.root == {"many": 1}


async def test_the_rights_of_a_large_patch_are_looked_up_within_the_budget() -> None:
    triode = triode_of({"a": {}}, max_work=2_000)
    some = Principal("k", "n", Grant(read=(".",), write=(".a",), rooms=()))
    patch = [{"op": "add", "path": f"/x{n}", "value": 1} for n in range(5_000)]
    with pytest.raises(Refusal) as refused:
        await triode.write(Patch(("a",), patch), some)
    assert refused.value.status == 422
    assert refused.value.extra["cost"] > 2_000


async def test_a_document_grows_to_its_bound_and_not_beyond() -> None:
    triode = triode_of({"list": []}, max_document_bytes=1_000)
    with pytest.raises(Refusal) as refused:
        await triode.write(Set(("list",), ["x" * 100] * 20))
    assert refused.value.status == 507
    assert triode.store.document.root == {"list": []}
    await triode.write(Set(("list",), ["x" * 100] * 5))
    await triode.write(Set(("list",), []))


async def test_507_over_http() -> None:
    async with serving({"n": 1}, max_document_bytes=200) as web:
        answer = await web.ask("PUT", "/store?path=.s", {"big": "x" * 300})
        assert answer.status == 507
        assert "200" in answer.json()["detail"]


async def test_an_atomic_batch_is_bounded_before_it_is_built() -> None:
    triode = triode_of({})
    with pytest.raises(Refusal) as refused:
        await execute(triode, {"type": "batch", "atomic": True, "ops": [{}] * 10_001})
    assert refused.value.status == 422
    assert refused.value.extra == {"limit": 10_000}


async def test_a_batch_gives_way(autojump_clock: trio.testing.MockClock) -> None:
    """Whatever the clock says: each command here takes longer than a turn."""
    triode = triode_of({"n": 0})
    rounds = 0

    async def bystander() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            autojump_clock.jump(0.01)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bystander)
        await trio.lowlevel.checkpoint()
        ops = [{"type": "increment", "path": ".n"}] * 6
        inner = triode.write_nowait

        def slow(op: Operation, principal: Principal) -> Any:
            autojump_clock.jump(0.01)
            return inner(op, principal)

        triode._write_at_once = slow  # type: ignore[method-assign]
        before = rounds
        await execute(triode, {"type": "batch", "ops": ops})
        assert rounds - before >= 2
        nursery.cancel_scope.cancel()


async def test_most_writes_are_done_at_once() -> None:
    triode = triode_of({"users": {"a": {"name": "A"}}})
    value = {f"k{n}": [n, "text", None] for n in range(100)}
    for op in (
        Set(("users", "a"), value),
        Merge(("users",), {"b": value}),
        Batch(tuple(Set(("users", "b", f"k{n}"), n) for n in range(20))),
    ):
        triode._write_at_once(op, OWNER)  # raises TooCostly when it is not
    assert AT_ONCE_STEPS <= 500


async def test_a_large_message_is_decoded_in_turns() -> None:
    text = b"[" + b'{"a":1},' * 50_000 + b"{}]"
    async with counted_rounds() as rounds:
        value = await decode_in_turns(text, max_depth=10)
    assert rounds.seen >= len(text) // AT_ONCE_BYTES
    assert isinstance(value, list)
    assert len(value) == 50_001

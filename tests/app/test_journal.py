"""Writes where a log is kept: their order, their answers, and what is there afterwards."""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.rounds import counted_rounds
from tests.app.test_exactness_found import connect
from triode.app.config.settings import DEFAULTS, Settings
from triode.app.log.log import Batch, LogBroken, LogFull, LogRefused
from triode.app.log.memory import MemoryLog
from triode.app.service import boot, running
from triode.app.service.boot import let_go
from triode.app.service.execute import execute
from triode.app.service.health import health
from triode.app.service.journal import BATCH_ITEMS
from triode.app.service.saving import save
from triode.app.service.session import Session
from triode.app.service.triode import Triode
from triode.app.wire import end_reasons
from triode.app.wire.refusal import Refusal
from triode.limits.grant import Grant
from triode.limits.principal import OWNER, Principal
from triode.store.change import Position
from triode.store.entry import decode_batch
from triode.store.filter import parse_filter
from triode.store.lineage import Lineage
from triode.store.operation import Append, Increment, Merge, Operation, Patch, Set
from triode.store.operation import Batch as AllOrNothing
from triode.store.outcomes import Key
from triode.store.store import Store
from triode.store.value import encode


class SlowLog(MemoryLog):
    """Each commit waits until it is let through, or fails with what was put in its place."""

    def __init__(self) -> None:
        super().__init__(Lineage("e0"))
        self.batches: list[Batch] = []
        self._gate = trio.Event()
        self.fails_with: Exception | None = None
        self.is_full = False

    async def append(self, data: bytes, count: int) -> None:
        await self._gate.wait()
        if self.fails_with is not None:
            raise self.fails_with
        self.batches.append(Batch(self._last + 1, self._last + count, data))
        await super().append(data, count)

    async def has_room(self) -> bool:
        await trio.lowlevel.checkpoint()
        return not self.is_full

    def open_up(self) -> None:
        """From now on no commit waits."""
        self._gate.set()


def fresh() -> MemoryLog:
    return MemoryLog(Lineage("e0"))


@asynccontextmanager
async def running_on(log: MemoryLog, root: Any = None, **options: Any) -> AsyncIterator[Triode]:
    options = {"http_rate": None, "ws_rate": None} | options
    triode = Triode(Settings(**options), root, log=log)
    async with trio.open_nursery() as nursery:
        await nursery.start(running.run, triode)
        yield triode
        nursery.cancel_scope.cancel()


def state(triode: Triode) -> tuple[Any, ...]:
    store = triode.store
    return store.document.root, store.seq, store.bytes, store.max_bytes, store.touched.state()


SHOP = Principal("token:t_1", "shop", Grant(read=(".a",), write=(".a", ".list")))


async def test_refused_operations_of_a_batch_give_way() -> None:
    """They wait for nothing: 10 000 of them held the loop for 40 ms, 350 000 for a second."""
    async with running_on(fresh()) as triode, counted_rounds() as rounds:
        answer = await execute(triode, {"type": "batch", "ops": [{}] * 10_000})
        assert len(answer["errors"]) == 10_000
        assert rounds.seen > 8
        with pytest.raises(Refusal, match="more than 10000 operations"):
            await execute(triode, {"type": "batch", "ops": [{}] * 10_001})


async def test_who_may_write_nothing_puts_nothing_into_the_log() -> None:
    """Strangers who may read filled the disk: with a key, or beside somebody else's write."""
    log, reader = SlowLog(), Principal("ip:1", "anonymous", Grant(read=("*",)))
    log.open_up()
    async with running_on(log, {"a": 1}) as triode:
        journal, before = triode.journal, len(log.batches)
        assert journal is not None
        for key in (None, Key("name", "asked")):
            beside = await journal.submit(Set(("a",), 2), OWNER)
            with pytest.raises(Refusal) as refused:
                await journal.submit(Set(("a",), "x" * 1_000_000), reader, key=key)
            assert refused.value.status == 403
            with pytest.raises(Refusal, match="may write nothing"):
                await journal.submit(Set(("a",), 3), reader, key=key)
            await beside.answer()
        assert sum(len(batch.data) for batch in log.batches[before:]) < 1000
        assert triode.store.outcomes.rows() == {}
        assert triode.store.document.root == {"a": 2}


@pytest.mark.parametrize("key", [None, Key("name", "asked")])
@pytest.mark.parametrize(
    "op",
    [
        Set(("other",), "x" * 1_000_000),
        Set((), {"mine": "x" * 1_000_000}),
        Merge(("users", "ann", "secret"), {"x": "x" * 1_000_000}),
        Set(("users", 0, "name"), "x" * 1_000_000),
        AllOrNothing((Set(("mine",), 1), Set(("other",), "x" * 1_000_000))),
        AllOrNothing((*[Set(("mine", "a"), 1)] * 20_000, Set(("other",), "x" * 1_000_000))),
    ],
    ids=["beside", "above", "below", "element", "batch", "long batch"],
)
async def test_what_no_document_would_allow_is_not_logged(op: Operation, key: Key | None) -> None:
    """Who may write one place only made the server log large writes elsewhere."""
    log, writer = SlowLog(), Principal("t", "t", Grant(write=(".mine", ".users.*.name")))
    log.open_up()
    async with running_on(log, {"mine": 1}) as triode:
        journal, before = triode.journal, len(log.batches)
        assert journal is not None
        beside = await journal.submit(Set(("a",), 2), OWNER)
        with pytest.raises(Refusal) as refused:
            await journal.submit(op, writer, key=key)
        assert refused.value.status == 403
        await beside.answer()
        assert sum(len(batch.data) for batch in log.batches[before:]) < 1000
        assert triode.store.outcomes.rows() == {}


async def test_what_is_logged_for_nothing_is_charged() -> None:
    """What depends on the document is decided behind the log; whoever is refused there pays."""
    log, writer = SlowLog(), Principal("t", "t", Grant(write=(".mine[*]",)))
    log.open_up()
    async with running_on(log, {"mine": {"0": 1}}) as triode:
        journal = triode.journal
        assert journal is not None
        beside = await journal.submit(Set(("a",), 2), OWNER)
        write = await journal.submit(Set(("mine", "0"), "x" * 1_000_000), writer)
        with pytest.raises(Refusal, match="this token may not"):
            await write.answer()
        await beside.answer()
        now = trio.current_time()
        [(key, owed_s)] = triode.gate.cpu.dearest(9, now)
        assert key == "t"
        assert 0.009 < owed_s < 0.02


class TestRestart:
    async def test_all_is_there_again(self) -> None:
        log = fresh()
        async with running_on(log, {"a": 1, "list": [1, 2]}) as triode:
            await triode.write(Merge((), {"b": {"c": None, "d": 2}}))
            position = await triode.write(Set(("a",), 5))
            await triode.write(Append(("list",), 3), SHOP)
            await triode.write(Patch((), [{"op": "move", "from": "/list/0", "path": "/x"}]))
            await triode.write(AllOrNothing((Increment(("a",)), Set(("y",), []))))
            await triode.write(Set(("a",), 7, if_position=position.__class__("e0", 5)))
            before = state(triode)
        async with running_on(log) as triode:
            assert state(triode) == before
            assert triode.store.document.root == {
                "a": 7, "b": {"d": 2}, "x": 1, "list": [2, 3], "y": []
            }  # fmt: skip
            assert triode.store.epoch == "e0"
            # Who was at a position goes on from there.
            assert triode.store.can_resume(position)
            assert [c.position.seq for c in triode.store.history.since(position.seq)] == [
                3,
                4,
                5,
                6,
            ]

    async def test_what_was_refused_is_refused_again(self) -> None:
        log = SlowLog()
        async with running_on(log, {"a": 1}) as triode:
            async with trio.open_nursery() as nursery:
                refused: list[int] = []

                async def write(op: Any, principal: Principal = SHOP) -> None:
                    try:
                        await triode.write(op, principal)
                    except Refusal as refusal:
                        refused.append(refusal.status)

                # Behind the first one all are logged, and decided when it is their turn.
                for op in (
                    Increment(("a",)),
                    Increment(("list",)),  # may not be read
                    Increment(("a",), 1, if_position=triode.store.position),  # has changed
                    Set(("a", "b"), 1),  # a number has no members
                    Set(("a",), {"deep": 1}),
                    Set(("a", "b"), 2),  # now it can be
                ):
                    nursery.start_soon(write, op)
                    await trio.testing.wait_all_tasks_blocked()
                log.open_up()
            assert sorted(refused) == [403, 404, 412]
            before = state(triode)
            assert before[1] == 6
        assert before[0] == {"a": {"deep": 1, "b": 2}}
        async with running_on(log) as triode:
            assert state(triode) == before

    async def test_a_fault_of_ours_keeps_nobody_from_the_document(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A write that we fail to decide is refused; so it is when the log is read again."""
        prepare = Store.prepare

        def faulty(store: Store, op: Any, *work: Any) -> Any:
            if op.path == ("bad",):
                raise ZeroDivisionError
            return prepare(store, op, *work)

        monkeypatch.setattr(Store, "prepare", faulty)
        log = fresh()
        async with running_on(log, {}) as triode:
            with pytest.raises(ZeroDivisionError):
                await triode.write(Set(("bad",), 1))
            await triode.write(Set(("good",), 1))
            before = state(triode)
        async with running_on(log) as triode:
            assert state(triode) == before

    @pytest.mark.parametrize("at", [0, 3, 9, 20])
    async def test_from_a_snapshot_as_from_the_start(self, at: int) -> None:
        log = fresh()
        async with running_on(log, {"n": 0}) as triode:
            for number in range(20):
                if number == at:
                    await save(triode)
                    await save(triode)  # so the one that the log began with goes
                await triode.write(Set(("n",), number))
            if at == 20:
                await save(triode)
                await save(triode)
            before = state(triode)
        # Neither may matter: what is kept for resuming, and what is allowed from now on.
        async with running_on(log, history_items=3) as triode:
            assert state(triode) == before
            triode.store.prepare(Set(("m",), 1, if_position=Position("e0", 2)), _Free())

    async def test_a_smaller_bound_does_not_undo_what_is_there(self) -> None:
        log = fresh()
        async with running_on(log, {}) as triode:
            await triode.write(Set(("text",), "x" * 5000))
            before = triode.store.document.root
        async with running_on(log, max_document_bytes=1000, max_work=1000) as triode:
            assert triode.store.document.root == before
            with pytest.raises(Refusal) as refused:
                await triode.write(Set(("more",), "x" * 5000))
            assert refused.value.status == 507
            seq = triode.store.seq
        async with running_on(log, max_document_bytes=1000, max_work=1000) as triode:
            assert triode.store.seq == seq  # the bounds are in the log once

    async def test_a_document_given_later_is_not_taken(self) -> None:
        log = fresh()
        async with running_on(log, {"first": 1}) as triode:
            assert triode.store.document.root == {"first": 1}
        async with running_on(log, {"second": 2}) as triode:
            assert triode.store.document.root == {"first": 1}

    async def test_a_hole_is_refused(self) -> None:
        log = fresh()
        async with running_on(log, {}) as triode:
            for number in range(3):
                await triode.write(Set(("n",), number))
        del log._batches[1]
        with pytest.raises(BaseExceptionGroup) as failed:
            async with running_on(log):
                pass
        assert failed.group_contains(LogRefused, match="2 to 2 are not in the log")


class _Free:
    left = 1 << 60

    def charge(self, steps: int) -> None:
        pass


class TestSnapshot:
    async def test_half_of_the_time_is_for_those_who_write(self, autojump_clock: Any) -> None:
        class Slow(MemoryLog):
            pieces = 0

            async def add_piece(self, snapshot: int, data: bytes) -> None:
                self.pieces += 1
                await trio.sleep(0.04)
                await super().add_piece(snapshot, data)

        log = Slow(Lineage("e0"))
        async with running_on(log, {f"k{n}": "x" * 100 for n in range(20_000)}) as triode:
            log.pieces, began = 0, trio.current_time()
            await save(triode)
            assert log.pieces > 8
            assert trio.current_time() - began > 0.07 * log.pieces


class TestOrder:
    async def test_nobody_sees_what_is_not_committed(self) -> None:
        log = SlowLog()
        async with running_on(log, {"a": 0}) as triode, trio.open_nursery() as nursery:
            client = connect(triode, FakeLane())
            triode.hub.subscribe(client, [(parse_filter(".a"), client.policy)])
            nursery.start_soon(triode.write, Set(("a",), 1))
            await trio.testing.wait_all_tasks_blocked()
            assert triode.store.document.root == {"a": 0}
            assert triode.store.seq == 0
            log.open_up()
            await trio.testing.wait_all_tasks_blocked()
            assert triode.store.document.root == {"a": 1}

    async def test_all_that_waits_is_one_commit(self) -> None:
        log = SlowLog()
        async with running_on(log, {"n": 0}) as triode:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(triode.write, Increment(("n",)))
                await trio.testing.wait_all_tasks_blocked()
                for _ in range(BATCH_ITEMS + 10):
                    nursery.start_soon(triode.write, Increment(("n",)))
                await trio.testing.wait_all_tasks_blocked()
                log.open_up()
            assert triode.store.document.root == {"n": BATCH_ITEMS + 11}
        assert [(batch.first, batch.last) for batch in log.batches] == [
            (1, 1), (2, BATCH_ITEMS + 1), (BATCH_ITEMS + 2, BATCH_ITEMS + 11)
        ]  # fmt: skip

    async def test_who_wrote_what_with_which_rights(self) -> None:
        log = SlowLog()
        log.open_up()
        async with running_on(log, {"a": 0}) as triode:
            await triode.write(Set(("a",), 1), SHOP)
            await triode.write(Set(("a",), 2))
        one, two = [decode_batch(batch.data)[0] for batch in log.batches]
        assert (one.by, one.grant) == ("shop", {"read": [".a"], "write": [".a", ".list"]})
        assert (two.by, two.grant) == ("", None)
        assert 0 < one.time_ms <= two.time_ms

    async def test_what_is_refused_alone_is_not_logged(self) -> None:
        log = fresh()
        async with running_on(log, {"a": 0}) as triode:
            with pytest.raises(Refusal):
                await triode.write(Set(("b", "c"), 1))
            assert triode.store.seq == 0
            assert str(await triode.write(Set(("b",), 1))) == "e0:1"


class TestSession:
    """What one WebSocket writes without waiting for the answers."""

    async def test_it_pipelines_and_the_answers_come_in_order(self) -> None:
        log = SlowLog()
        async with running_on(log, {"n": 0}) as triode, trio.open_nursery() as nursery:
            lane = FakeLane()
            session = Session(triode, connect(triode, lane))
            commands: list[dict[str, Any]] = [
                {"type": "increment", "path": ".n"},
                {"type": "set", "path": ".n.m", "value": 1},
                {"type": "nonsense"},
                {"type": "increment", "path": ".n"},
                {"type": "get", "filter": ".n"},
                {"type": "batch", "ops": [
                    {"type": "increment", "path": ".n"}, {"type": "delete", "path": ".x"}
                ]},
                {"type": "increment", "path": ".n"},
            ]  # fmt: skip

            async def say() -> None:
                for ref, command in enumerate(commands):
                    await session.receive(encode(command | {"ref": ref}))

            nursery.start_soon(say)
            await trio.testing.wait_all_tasks_blocked()
            assert triode.journal is not None
            assert triode.journal.under_way == 2
            log.open_up()
            await trio.testing.wait_all_tasks_blocked()
            await trio.testing.wait_all_tasks_blocked()
            answers: list[Any] = [m for m in lane.messages() if "ref" in m]
            assert [m["ref"] for m in answers] == list(range(len(commands)))
            kinds = [m["type"] for m in answers]
            assert kinds == ["ok", "error", "error", "ok", "ok", "ok", "ok"]
            assert answers[4]["items"] == [{"path": ".n", "value": 2}]
            assert answers[5]["positions"][1] is None
            assert answers[5]["errors"][0]["status"] == 404
            assert triode.store.document.root == {"n": 4}
        # Whether the two of the batch share a commit is said by the clock. A refusal, a read and a
        # batch wait for what stands before them.
        ends = {batch.last for batch in log.batches}
        assert ends - {4} == {2, 3, 5, 6}

    async def test_so_many_may_be_under_way_and_no_more(self) -> None:
        log = SlowLog()
        async with running_on(log, {"n": 0}) as triode, trio.open_nursery() as nursery:
            session = Session(triode, connect(triode, FakeLane()))
            begun = 0

            async def say() -> None:
                nonlocal begun
                for _ in range(DEFAULTS.log_pipeline + 50):
                    await session.receive(encode({"type": "increment", "path": ".n"}))
                    begun += 1

            nursery.start_soon(say)
            await trio.testing.wait_all_tasks_blocked()
            assert begun == DEFAULTS.log_pipeline
            log.open_up()
            await trio.testing.wait_all_tasks_blocked()
            assert begun == DEFAULTS.log_pipeline + 50
            assert triode.store.document.root == {"n": DEFAULTS.log_pipeline + 50}

    async def test_a_client_that_left_has_written_what_it_had_begun(self) -> None:
        log = SlowLog()
        async with running_on(log, {"n": 0}) as triode:
            client = connect(triode, FakeLane())
            session = Session(triode, client)
            for _ in range(5):
                await session.receive(encode({"type": "increment", "path": ".n"}))
            triode.hub.end(client, end_reasons.CLIENT_LOST, "silently")
            log.open_up()
            await trio.testing.wait_all_tasks_blocked()
            assert triode.store.document.root == {"n": 5}

    async def test_a_batch_is_begun_whole(self) -> None:
        log = SlowLog()
        async with running_on(log, {"n": 0}) as triode:
            answers: list[Any] = []

            async def say() -> None:
                ops = [{"type": "increment", "path": ".n"}] * 100
                answers.append(await execute(triode, {"type": "batch", "ops": ops}))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(say)
                await trio.testing.wait_all_tasks_blocked()
                # Not in how many commits: that is said by the clock, which makes it give way.
                assert triode.journal is not None
                assert triode.journal.under_way == 100
                log.open_up()
            assert answers == [{"positions": [f"e0:{n}" for n in range(1, 101)]}]


class TestFaults:
    async def test_a_full_log_refuses_and_goes_on(self) -> None:
        log = SlowLog()
        log.open_up()
        async with running_on(log, {"n": 0}) as triode:
            await triode.write(Increment(("n",)))
            log.fails_with = LogFull("the disk is full")
            with pytest.raises(Refusal) as refused:
                await triode.write(Increment(("n",)))
            assert refused.value.status == 507
            assert 5 <= refused.value.extra["retry_after"] <= 15
            assert triode.store.seq == 1
            log.fails_with = None
            assert str(await triode.write(Increment(("n",)))) == "e0:2"
        assert [batch.last for batch in log.batches] == [1, 2]

    async def test_full_is_said_until_there_is_room(
        self, autojump_clock: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It was said for a moment only: until a snapshot was made, with the room kept for that."""
        log = SlowLog()
        log.open_up()
        async with running_on(log, {"n": 0}) as triode:
            log.fails_with, log.is_full = LogFull("the disk is full"), True
            for _ in range(2):
                with pytest.raises(Refusal):
                    await triode.write(Increment(("n",)))
            assert caplog.text.count("the disk is full: writes are refused") == 1
            for _ in range(3):
                await trio.sleep(5)
                assert health(triode)["checks"]["log"]["status"] == "degraded"
            saved = triode.journal and triode.journal.saved
            log.fails_with, log.is_full = None, False
            caplog.set_level("INFO", "triode")
            await trio.sleep(2)
            assert "there is room again" in caplog.text
            assert health(triode)["checks"]["log"]["status"] == "ok"
            assert triode.journal is not None
            assert triode.journal.saved is saved, "one snapshot is enough"

    async def test_a_broken_log_ends_all_and_nobody_is_told_a_lie(self) -> None:
        log, lane = SlowLog(), FakeLane()
        outcomes: list[Any] = []

        async def write(triode: Triode) -> None:
            with trio.CancelScope(shield=True):
                try:
                    outcomes.append(await triode.write(Increment(("n",))))
                except Refusal as refusal:
                    outcomes.append(refusal.title)

        async def live() -> None:
            async with running_on(log, {"n": 0}) as triode, trio.open_nursery() as nursery:
                connect(triode, lane, ".")
                for _ in range(3):
                    nursery.start_soon(write, triode)
                await trio.testing.wait_all_tasks_blocked()
                log.fails_with = LogBroken("disk I/O error")
                log.open_up()
                await trio.sleep_forever()

        with pytest.raises(BaseExceptionGroup) as failed:
            await live()
        assert failed.group_contains(LogBroken)
        assert outcomes == ["Outcome unknown"] * 3
        assert [message["type"] for message in lane.messages()] == ["connected", "snapshot"]
        assert b"\x03\xf4" in lane.taken  # 1012: come back

    async def test_a_disk_that_does_not_answer(self, autojump_clock: Any) -> None:
        """Nobody waits for ever, and what was said to be unknown may be there in the end."""
        log = SlowLog()
        outcomes: list[Any] = []
        async with running_on(log, {"n": 0}, log_deadline_s=5.0) as triode:

            async def write(by: int) -> None:
                began = trio.current_time()
                try:
                    outcomes.append(str(await triode.write(Increment(("n",), by))))
                except Refusal as refusal:
                    waited = trio.current_time() - began
                    outcomes.append((refusal.status, refusal.title, waited <= 6.0))

            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(write, 1)
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.start_soon(write, 10)
                    await trio.sleep(4.0)
                    assert outcomes == []
            told = [(503, "Log stuck", True), (503, "Outcome unknown", True)]
            assert sorted(outcomes) == told
            assert triode.metrics.writes_unknown == 1
            assert triode.journal is not None
            assert triode.journal.under_way == 1
            log.open_up()
            await write(100)
            assert outcomes[2] == "e0:2"
            assert triode.store.document.root == {"n": 101}
            assert triode.journal.under_way == 0
        assert [batch.last for batch in log.batches] == [1, 2]

    async def test_a_session_is_told_in_order(self, autojump_clock: Any) -> None:
        log, lane = SlowLog(), FakeLane()
        async with running_on(log, {"n": 0}) as triode:
            session = Session(triode, connect(triode, lane))
            for number in range(3):
                message = {"type": "increment", "path": ".n", "ref": number}
                await session.receive(encode(message))
            await trio.sleep(8)
            told = [(m["ref"], m["status"]) for m in lane.messages() if "ref" in m]
            assert told == [(0, 503), (1, 503), (2, 503)]
            log.open_up()
            await trio.sleep(1)
            assert [m["ref"] for m in lane.messages() if "ref" in m] == [0, 1, 2]

    async def test_cancelled_a_write_is_done_whole(self) -> None:
        log = SlowLog()
        async with running_on(log, {"n": 0}) as triode:
            with trio.move_on_after(0):
                await triode.write(Increment(("n",)))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(triode.write, Increment(("n",)))
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            log.open_up()
            await trio.testing.wait_all_tasks_blocked()
            assert triode.store.document.root in ({"n": 1}, {"n": 2})

    async def test_what_cannot_wait_cannot_write(self) -> None:
        async with running_on(fresh(), {}) as triode:
            with pytest.raises(RuntimeError, match="use `write`"):
                triode.write_nowait(Set(("a",), 1))

    async def test_a_large_write_is_written_down_in_turns(self) -> None:
        log, rounds = SlowLog(), 0

        async def bystander() -> None:
            nonlocal rounds
            while True:
                rounds += 1
                await trio.lowlevel.checkpoint()

        value = {f"k{n}": {"v": n, "t": 'é\n"', "f": 0.1 + n, "l": [None]} for n in range(30_000)}
        ops: list[Operation] = [Set(("v",), value), Append(("l",), value), Merge(("m",), value)]
        ops.append(AllOrNothing((Set(("b",), value), Set(("c",), 1))))
        ops.append(Patch((), [{"op": "add", "path": "/p", "value": value}]))
        async with running_on(log, {"l": []}) as triode:
            assert triode.journal is not None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bystander)
                for op in ops:
                    before = rounds
                    await triode.journal.submit(op, OWNER)
                    assert rounds - before > 20, op
                nursery.cancel_scope.cancel()
            log.open_up()
            await triode.write(Set(("last",), 1))
            before_restart = state(triode)
        async with running_on(log) as triode:
            assert state(triode) == before_restart
            root: Any = triode.store.document.root
            for key in ("v", "m", "b", "p"):
                assert root[key] == value
            assert root["l"] == [value]

    async def test_a_long_write_keeps_its_place(self) -> None:
        log = SlowLog()
        async with running_on(log, {"many": {}}) as triode:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(triode.write, Set(("first",), 1))
                await trio.testing.wait_all_tasks_blocked()
                many = {f"k{n}": {"v": n} for n in range(5000)}
                nursery.start_soon(triode.write, Merge(("many",), many))
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(triode.write, Set(("many", "k7"), "later"))
                await trio.testing.wait_all_tasks_blocked()
                log.open_up()
            root: Any = triode.store.document.root
            assert root["many"]["k7"] == "later"
            before = state(triode)
        async with running_on(log) as triode:
            assert state(triode) == before


async def test_a_first_document_may_take_more_work_than_a_request(tmp_path: Path) -> None:
    file = tmp_path / "document.json"
    file.write_text(json.dumps({"items": [{"n": number} for number in range(2000)]}))
    settings = Settings(data=tmp_path / "kept", load=file, max_work=1000)
    triode = Triode(settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(running.run, triode))
        root: Any = triode.store.document.root
        assert len(root["items"]) == 2000
        # Who came meanwhile was told that the log was being opened, for many seconds.
        assert triode.progress.phase == "loading document.json"
        # What others write is bounded as ever.
        with pytest.raises(Refusal) as refused:
            await triode.write(Set(("more",), [{"n": number} for number in range(2000)]))
        assert refused.value.status == 422
        nursery.cancel_scope.cancel()


async def test_a_first_document_that_is_too_large_leaves_no_trace(tmp_path: Path) -> None:
    file = tmp_path / "document.json"
    file.write_text(json.dumps("x" * 2000))
    for most in (1000, 10_000):  # the second time with room for it
        triode = Triode(Settings(data=tmp_path / "kept", load=file, max_document_bytes=most))
        if most == 1000:
            with pytest.raises(running.NotLoaded, match="--max-document-bytes"):
                await running.begin(triode)
            await let_go(triode)
            assert triode.store.seq == 0
        else:
            await running.begin(triode)
            await let_go(triode)
            assert triode.store.document.root == "x" * 2000


async def test_reading_a_log_looks_for_no_garbage_and_leaves_the_collector_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    real = boot.rebuild

    async def noted(*args: Any, **more: Any) -> Any:
        seen.append(gc.isenabled())
        return await real(*args, **more)

    monkeypatch.setattr(boot, "rebuild", noted)
    for _ in range(2):
        triode = Triode(Settings(data=tmp_path / "kept"))
        await running.begin(triode)
        await let_go(triode)
    assert seen == [False]
    assert gc.isenabled()

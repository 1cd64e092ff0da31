"""Tokens are in the log: issued and revoked ones are so after a restart, too. No secret is."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.app.lanes import FakeLane
from tests.app.test_exactness_found import connect
from tests.app.test_journal import SlowLog, fresh, running_on
from tests.app.test_write_keys import served
from triode.app.log.log import LogFull
from triode.app.runtime.clock import Clock
from triode.app.service import issuing
from triode.app.service.saving import save
from triode.app.service.token_records import name_of
from triode.app.service.triode import Triode
from triode.app.wire import end_reasons
from triode.app.wire.refusal import Refusal
from triode.limits.grant import Grant
from triode.limits.principal import OWNER
from triode.limits.token import Issued, TokenInfo
from triode.store.operation import Set
from triode.store.records import Record

GRANT = Grant(read=(".a",), write=(".b",), rooms=("r*",))


def holds(triode: Triode, issued: Issued) -> TokenInfo | None:
    return triode.tokens.validate(issued.secret, triode.clock.unix_s())


async def issue(triode: Triode, label: str, ttl_s: float | None = 3600) -> Issued:
    return await issuing.issue(triode, GRANT, ttl_s=ttl_s, label=label)


@pytest.mark.parametrize("saved", [False, True], ids=["log", "snapshot"])
async def test_over_a_restart(saved: bool) -> None:
    log = fresh()
    async with running_on(log, {}) as triode:
        one, two, three = [await issue(triode, name) for name in ("one", "two", "three")]
        assert holds(triode, one) == one.info
        assert await issuing.revoke(triode, two.info.id)
        assert not await issuing.revoke(triode, two.info.id)
        if saved:
            await save(triode)
            await save(triode)
        assert await issuing.revoke(triode, three.info.id)
        await triode.write(Set(("a",), 1))
        position = triode.store.position
    async with running_on(log) as triode:
        assert triode.store.position == position
        assert holds(triode, one) == one.info
        assert holds(triode, two) is holds(triode, three) is None
        assert [info.label for info in triode.tokens.page(triode.clock.unix_s(), 9).infos] == [
            "one"
        ]
        assert await issuing.revoke(triode, one.info.id)
    async with running_on(log) as triode:
        assert holds(triode, one) is None
        assert len(triode.store.records) == 0


async def test_no_secret_is_in_the_log() -> None:
    log = SlowLog()
    log.open_up()
    async with running_on(log, {}, admin_token="admin-secret-of-mine") as triode:
        issued = await issue(triode, "shop")
        await save(triode)
        pieces = [piece for pieces in log._whole.values() for piece in pieces]
    written = b"".join([*pieces, *(batch.data for batch in log.batches)])
    assert issued.info.id.encode() in written
    assert issued.secret.encode() not in written
    assert b"admin-secret" not in written
    assert b"admin" not in written.replace(b'"admin":false', b"")


async def test_it_holds_when_it_is_in_the_log_and_not_before() -> None:
    log = SlowLog()
    async with running_on(log, {}) as triode:
        told: list[Issued] = []

        async def make() -> None:
            told.append(await issue(triode, "shop"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(make)
            await trio.testing.wait_all_tasks_blocked()
            assert len(triode.tokens) == len(told) == 0
            log.open_up()
        assert holds(triode, told[0]) == told[0].info


async def test_one_that_cannot_be_kept_is_not_issued() -> None:
    log = SlowLog()
    log.open_up()
    async with running_on(log, {}) as triode:
        kept = await issue(triode, "kept")
        log.fails_with = LogFull("the disk is full")
        with pytest.raises(Refusal) as refused:
            await issue(triode, "lost")
        assert refused.value.status == 507
        with pytest.raises(Refusal):
            await issuing.revoke(triode, kept.info.id)
        assert [info.label for info in triode.tokens.page(triode.clock.unix_s(), 9).infos] == [
            "kept"
        ]


async def test_a_revoked_one_ends_what_it_opened() -> None:
    async with running_on(fresh(), {"a": 1}) as triode:
        issued = await issue(triode, "shop")
        client = connect(triode, FakeLane(), ".a")
        client.principal = triode.gate.principal_of(issued.secret)
        other = connect(triode, FakeLane(), ".a")
        await issuing.revoke(triode, issued.info.id)
        assert client.end is end_reasons.TOKEN_ENDED
        assert other.end is None


async def test_those_that_have_ended_leave_the_log(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clock, "sync", lambda _: None)  # to the time that only the test passes
    log = fresh()
    async with running_on(log, {}) as triode:
        short, long = await issue(triode, "short", 30), await issue(triode, "long", 10_000)
        ended = await issue(triode, "shown", 90)
        await trio.sleep(100)
        assert holds(triode, ended) is None  # which takes it out of the list
        await trio.sleep(2 * issuing.SWEEP_S)
        assert list(triode.store.records.rows()) == [name_of(long.info.id)]
        assert holds(triode, short) is None
    async with running_on(log) as triode:
        assert len(triode.tokens) == len(triode.store.records) == 1


async def test_a_record_that_cannot_be_read_keeps_nobody_out() -> None:
    log = fresh()
    async with running_on(log, {}) as triode:
        assert triode.journal is not None
        for name in (name_of("t_x"), "of a later version/1"):
            await triode.journal.write(Record(name, {"what": 1}), OWNER)
        issued = await issue(triode, "shop")
    async with running_on(log) as triode:
        assert holds(triode, issued) == issued.info
        assert len(triode.store.records) == 3


async def test_without_a_log_it_ends_with_the_process() -> None:
    async with served(False, {}) as triode:
        issued = await issue(triode, "shop")
        assert holds(triode, issued) == issued.info
        assert len(triode.store.records) == 0
        assert await issuing.revoke(triode, issued.info.id)
        assert holds(triode, issued) is None

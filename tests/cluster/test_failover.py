"""A primary dies whose replica lacks what was acknowledged last: the nodes give it back."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.app.lanes import FakeLane
from tests.app.test_exactness_found import connect
from tests.clients.proxy import open_proxy
from tests.cluster.conftest import FOUND, NONE
from tests.cluster.failover import one_round, pair, split
from tests.cluster.running import node
from tests.cluster.server import free_port
from tests.cluster.waiting import until
from triode.app.config.log_address import LogAddress, parse_log_address
from triode.app.log.shared.resp import Lost, ServerError
from triode.app.log.shared.resp import connect as connect_to
from triode.app.service.issuing import issue
from triode.app.service.log_numbers import log_gauges
from triode.app.wire import end_reasons
from triode.app.wire.refusal import Refusal
from triode.limits.grant import Grant
from triode.limits.principal import Principal
from triode.store.operation import Increment, Set


@pytest.mark.parametrize("name", sorted(FOUND) or [""])
async def test_nothing_acknowledged_is_lost(name: str, tmp_path: Path) -> None:
    if not FOUND:
        pytest.skip(NONE)
    found = await one_round(FOUND[name], tmp_path)
    assert found.lacked, "the replica had everything"
    assert not found.missing
    assert not found.began_anew


@pytest.mark.parametrize("name", sorted(FOUND) or [""])
async def test_who_stayed_with_the_old_primary_begins_anew(name: str, tmp_path: Path) -> None:
    if not FOUND:
        pytest.skip(NONE)
    here, aside, kept, lost = await split(FOUND[name], tmp_path)
    # The first try to read the snapshot may find its connection cut.
    assert aside.reasons[0] == "rewound"
    assert here.reasons == []
    assert here.applied == aside.applied
    assert kept <= set(here.applied)
    assert not lost & set(here.applied)


@pytest.mark.parametrize("name", sorted(FOUND)[:1] or [""])
async def test_who_watches_there_is_told_and_stays(name: str, tmp_path: Path) -> None:
    """A token that was issued on the lost side ends with what it opened."""
    if not FOUND:
        pytest.skip(NONE)
    async with (
        pair(FOUND[name], tmp_path) as (primary, replica, link),
        open_proxy(primary.port) as front,
        open_proxy(primary.port) as aside,
        node(primary.address, {"n": 0}, port=front.port) as here,
        node(primary.address, port=aside.port) as lost,
    ):
        lane, lane_of_token = FakeLane(), FakeLane()
        client = connect(lost, lane, ".")
        await here.write(Increment(("n",)))
        await until(lambda: lost.store.position == here.store.position)
        link.cut()
        link.refuses = True
        await replica.call("REPLICAOF", "NO", "ONE")
        front.target = replica.port
        front.cut()
        await here.write(Set(("here",), 1))
        await lost.write(Set(("lost",), 1))
        issued = await issue(lost, Grant(read=("*",)), ttl_s=None, label="")
        bearer = connect(lost, lane_of_token, ".")
        bearer.principal = Principal("t", "", Grant(read=("*",)), token_id=issued.info.id)
        before = lost.store.position
        aside.target = replica.port
        aside.cut()
        await until(lambda: lost.store.document.root == {"n": 1, "here": 1})
        await until(lambda: client.losses is None)
        assert client.end is None
        assert bearer.end is end_reasons.TOKEN_ENDED
        assert lost.tokens.validate(issued.secret, lost.clock.unix_s()) is None
        events: list[Any] = lane.messages()
        [gap] = [event for event in events if event["type"] == "gap"]
        assert (gap["reason"], gap["after"], gap["lost"]) == ("rewound", str(before), 2)
        snapshot = events[events.index(gap) + 1]
        view = snapshot["items"][0]["value"]
        for event in events[events.index(snapshot) + 1 :]:
            if event["type"] == "update":
                view = event["value"] if event["path"] == "." else {
                    **view, event["path"][1:]: event["value"]
                }  # fmt: skip
        assert view == {"n": 1, "here": 1}
        assert lost.journal is not None
        assert (lost.journal.anew["rewound"], lost.journal.lost) == (1, 2)
        numbers = {gauge.key: gauge.value for gauge in log_gauges(lost)}
        assert (numbers["log_rewinds_total"], numbers["log_lost_total"]) == (1, 2)


def start_sentinel(folder: Path, port: int, primary: int) -> subprocess.Popen[bytes]:
    (folder / "sentinel.conf").write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor shop 127.0.0.1 {primary} 1\n"
        "sentinel down-after-milliseconds shop 500\nsentinel failover-timeout shop 3000\n"
    )
    command = [str(FOUND["redis"]), str(folder / "sentinel.conf"), "--sentinel"]
    with (folder / "sentinel.log").open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=out)


@pytest.mark.skipif("redis" not in FOUND, reason="there is no redis-server")
async def test_sentinels_say_where_the_primary_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It dies; its Sentinel promotes the replica, and the node finds that."""
    async with pair(FOUND["redis"], tmp_path) as (primary, replica, _link):
        # Sentinel knows replicas by what they say, and that is the link's port: without it.
        await replica.call("REPLICAOF", "127.0.0.1", primary.port)
        port = free_port()
        sentinel = start_sentinel(tmp_path, port, primary.port)
        try:
            # The first address leads nowhere.
            url = f"valkey+sentinel://127.0.0.1:1,127.0.0.1:{port}/shop"
            asking = LogAddress("127.0.0.1", port)

            async def knows_the_replica() -> bool:
                try:
                    connection = await connect_to(asking)
                except (Lost, ServerError):
                    return False
                try:
                    return bool(await connection.call("SENTINEL", "REPLICAS", "shop"))
                except ServerError:
                    return False
                finally:
                    await connection.aclose()

            with trio.fail_after(30):
                while not await knows_the_replica():  # noqa: ASYNC110 # a Sentinel sets no event
                    await trio.sleep(0.1)
            async with node(parse_log_address(url), {"n": 0}) as one:
                await one.write(Increment(("n",)))
                assert "Set min-replicas-to-write 1" in caplog.text
                primary.kill()
                with trio.fail_after(60):
                    while one.store.document.root != {"n": 2}:
                        with suppress(Refusal):
                            await one.write(Set(("n",), 2))
                assert (await replica.call("ROLE"))[0] == b"master"  # type: ignore[index] # a list
        finally:
            sentinel.kill()
            sentinel.wait()

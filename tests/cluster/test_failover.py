"""A primary dies whose replica lacks what was acknowledged last: the nodes give it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.app.lanes import FakeLane
from tests.app.test_exactness_found import connect
from tests.clients.proxy import open_proxy
from tests.cluster.conftest import FOUND, NONE
from tests.cluster.failover import one_round, pair, split
from tests.cluster.running import node
from tests.cluster.waiting import until
from triode.app.service.issuing import issue
from triode.app.service.log_numbers import log_gauges
from triode.app.wire import end_reasons
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

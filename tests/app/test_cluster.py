"""What Triodes that share a log know of each other, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from tests.app.fake_server import FakeServer
from tests.app.test_cli_top import scene_of, stats, text_of
from tests.app.test_journal import running_on
from tests.cluster.waiting import until
from tests.log.shared import SharedMemory, View
from triode.app.service import cluster
from triode.app.service.cluster import Cluster, Lag, Report
from triode.app.service.cluster_words import advice
from triode.app.service.log_numbers import log_gauges
from triode.app.service.triode import Triode
from triode.store.checksum import Checksum
from triode.store.operation import Increment, Set


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "BEAT_S", 0.005)


def of(triode: Triode) -> Cluster:
    assert triode.cluster is not None
    return triode.cluster


async def seen(condition: Callable[[], bool]) -> None:
    await until(condition, 30)


async def test_each_knows_all() -> None:
    memory = SharedMemory()
    async with running_on(View(memory)) as one, running_on(View(memory)) as two:
        one.listens, two.listens = "h:1", "h:2"
        await one.write(Set(("a",), 1))

        def known() -> list[tuple[str, int, bool]]:
            nodes = of(two).facts()["nodes"]
            return [(node["where"], node["seq"], node["own"]) for node in nodes]

        seq = one.store.seq
        await seen(lambda: known() == [("h:1", seq, False), ("h:2", seq, True)])
        facts = of(two).facts()
        assert facts["advice"] == []
        assert facts["saver"] == facts["nodes"][0]["node"]
        assert {gauge.key: gauge.value for gauge in log_gauges(two)}["log_nodes"] == 2


async def test_a_document_that_differs_is_found_and_forgotten_when_it_is_mended() -> None:
    memory = SharedMemory()
    async with running_on(View(memory)) as one, running_on(View(memory)) as two:
        await one.write(Set(("n",), 0))
        good = one.store.checksum
        two.store.checksum = Checksum(b"12345678")
        await seen(lambda: bool(of(one).differ and of(two).differ))
        assert of(one).mismatches == 1
        assert "another document" in of(one).facts()["advice"][0]
        assert {gauge.key: gauge.value for gauge in log_gauges(one)}["log_mismatch"] == 1
        two.store.checksum = good
        await seen(lambda: not of(one).differ and not of(two).differ)
        assert of(one).mismatches == 1


async def test_documents_that_are_never_at_one_place_are_compared_where_all_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under load no two are ever seen at the same entry."""
    monkeypatch.setattr(cluster, "MARK_EVERY", 4)
    memory = SharedMemory()
    views = View(memory), View(memory)
    async with running_on(views[0], {"n": 0}) as one, running_on(views[1]) as two:
        await seen(lambda: one.store.seq == two.store.seq)
        two.store.checksum = Checksum(b"12345678")
        for _ in range(12):
            await one.write(Increment(("n",)))
        await seen(lambda: one.store.seq == two.store.seq)
        views[1].hold()
        await one.write(Increment(("n",)))
        own = dict(of(one).own().marks)
        common = own.keys() & dict(of(two).own().marks).keys()
        assert len(common) >= 3
        await seen(lambda: bool(of(one).differ))
        views[1].let_go()


async def test_behind_is_counted_from_what_came_first(autojump_clock: object) -> None:
    lag = Lag()
    lag.saw(10, is_live=True)
    assert lag.seconds(10) == 0
    for seq in (20, 30):
        lag.saw(seq, is_live=True)
        await trio.sleep(2)
        lag.saw(seq, is_live=True)
    assert lag.seconds(10) == 4
    assert lag.seconds(25) == 2
    assert lag.seconds(30) == 0
    await trio.sleep(3)
    lag.saw(30, is_live=False)
    assert lag.seconds(30) == 3, "what there is by now is not known"


NODE = {
    "node": "a", "own": True, "silent_s": 0.0, "where": "h:1", "version": "1", "position": "e:7",
    "term": 1, "seq": 7, "lag_ops": 0, "lag_s": 0.0, "clients": 3, "draining": False,
    "rtt_s": 0.001, "waiting": 0, "rewinds": 0, "reloads": 0, "lost": 0, "answered_lost": 0,
    "given_back": 0,
}  # fmt: skip
OTHER = NODE | {"node": "b", "own": False, "where": "h:2"}


def facts(*nodes: dict[str, Any], **members: Any) -> dict[str, Any]:
    told = {
        "node": "a", "server": "valkey://s:1/0", "live": True, "state": "open", "why": "",
        "term": 2, "seq": 7, "saver": "b", "nodes": list(nodes) or [NODE, OTHER], "differ": {},
    } | members  # fmt: skip
    return told | {"advice": advice(told)}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (facts(NODE, OTHER | {"silent_s": 9.0}), "h:2 has said nothing for 9 s"),
        (facts(NODE | {"lag_ops": 20_000}, OTHER), "h:1 is behind by 20000 writes"),
        (facts(NODE, OTHER | {"lag_s": 2.5}), "h:2 is behind by 0 writes, 2.5 s"),
        (facts(NODE, OTHER | {"version": "2"}), "Triodes 1 and 2 share the log"),
        (facts(NODE, OTHER | {"answered_lost": 5}), "5 writes that were answered are lost"),
        (facts(differ={"b": "e:7"}), "h:2 holds another document than h:1, since e:7"),
        (facts(NODE, OTHER | {"where": "h:1"}, differ={"b": "e:7"}), "h:1 (b) holds another"),
        (facts(state="recovering"), "giving back"),
        (facts(NODE | {"lag_s": 12.0}, live=False, why="gone"), "reach of this Triode for 12 s (g"),
    ],
)
def test_what_is_to_be_done_is_said(told: dict[str, Any], words: str) -> None:
    (line,) = told["advice"]
    assert words in line


def test_all_is_well() -> None:
    assert facts()["advice"] == []
    assert facts(NODE, OTHER | {"lag_ops": 300, "lag_s": 0.01})["advice"] == []


def run(told: dict[str, Any] | None, *arguments: str) -> tuple[int, str]:
    body = stats() | ({} if told is None else {"cluster": told})
    result = FakeServer(httpx.Response(200, json=body)).triode("cluster", *arguments)
    return result.exit_code, result.output


def test_the_terminal_says_who_leads_and_what_to_do() -> None:
    code, text = run(facts())
    assert code == 0
    for part in ("valkey://s:1/0 takes writes, in term 2", "None of them leads", "h:2 makes the",
                 "● h:1", "All is well."):  # fmt: skip
        assert part in text
    code, text = run(facts(NODE, OTHER | {"silent_s": 9.0, "where": "h\x1b[2J"}))
    assert code == 1
    assert "has said nothing for 9 s" in text
    assert "\x1b[2J" not in text


def test_the_terminal_in_json_and_without_others() -> None:
    told = facts(differ={"b": "e:7"})
    code, text = run(told, "--json")
    assert (code, json.loads(text)) == (1, told)
    assert run(None, "--json") == (0, "null\n")
    assert "for itself" in run(None)[1]


def test_top_has_a_line_of_them() -> None:
    lines = text_of(scene_of(stats() | {"cluster": facts()}).draw(120, 20), 120, 20)
    (line,) = [line for line in lines if line.startswith("log ")]
    assert "2 Triodes" in line
    assert "term 2" in line
    late = facts(NODE, OTHER | {"silent_s": 9.0})
    lines = text_of(scene_of(stats() | {"cluster": late}).draw(120, 20), 120, 20)
    assert len(lines) <= 20
    assert any("1 behind" in line and "has said nothing" in line for line in lines)


def test_a_report_of_another_version_is_read() -> None:
    assert cluster._decode(b'{"beat":3,"news":1}') == Report(beat=3)

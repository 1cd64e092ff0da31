"""When the garbage collector works, and how much at once."""

from __future__ import annotations

import gc
import sys
import time

import pytest
import trio

from triode.app.service.gc_policy import FEW_BLOCKS, LONG_S, RETURN_EVERY_S, Collector


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    for name in ("collect", "freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, lambda name=name: made.append(name))
    monkeypatch.setattr(sys, "getallocatedblocks", lambda: 0)
    return made


def test_few_blocks_are_collected_and_many_are_put_aside(calls: list[str]) -> None:
    collector = Collector(lambda: False)
    collector.collect(FEW_BLOCKS - 1, 0.0)
    assert calls == ["collect"]
    collector.collect(FEW_BLOCKS + 1, 2.0)
    assert calls == ["collect", "freeze"]
    collector.collect(FEW_BLOCKS + 2, 4.0)
    assert calls == ["collect", "freeze", "collect"]


def test_what_took_long_to_visit_is_not_visited_again(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks say little: a hundred parsed filters were 20 ms, each time."""
    took_s = iter([0.0, LONG_S / 2, 1.0, 1.0 + 2 * LONG_S])
    monkeypatch.setattr(time, "thread_time", lambda: next(took_s))
    collector = Collector(lambda: False)
    collector.collect(10, 0.0)
    assert calls == ["collect"]
    collector.collect(10, 2.0)
    assert calls == ["collect", "collect", "freeze"]


def test_nothing_is_put_aside_while_a_large_body_is_in_hand(calls: list[str]) -> None:
    Collector(lambda: True).collect(FEW_BLOCKS + 1, 0.0)
    assert calls == []


def test_a_document_that_grows_and_shrinks_lets_all_back_in_seldom(calls: list[str]) -> None:
    """It takes a collection of everything. A client could make it happen every two seconds."""
    collector = Collector(lambda: False)
    for now in range(0, int(RETURN_EVERY_S), 4):
        collector.collect(2 * FEW_BLOCKS, now)
        collector.collect(10, now + 2)
    assert calls.count("unfreeze") == 1
    collector.collect(2 * FEW_BLOCKS, RETURN_EVERY_S + 3)
    collector.collect(10, RETURN_EVERY_S + 3)
    assert calls.count("unfreeze") == 2


async def test_a_document_that_is_there_already_is_not_visited(
    calls: list[str], monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    for blocks, expected in ((400_000, ["collect", "freeze"]), (20_000_000, ["freeze"])):
        monkeypatch.setattr(sys, "getallocatedblocks", lambda blocks=blocks: blocks)
        calls.clear()
        async with trio.open_nursery() as nursery:
            await nursery.start(Collector(lambda: False).run)
            assert calls == expected
            nursery.cancel_scope.cancel()

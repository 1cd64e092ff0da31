"""When the garbage collector works, and how much at once."""

from __future__ import annotations

import gc
import sys
import time
from itertools import count

import pytest
import trio

from triode.app.service.gc_policy import (
    FEW_BLOCKS,
    LONG_S,
    MANY_PASSES,
    RETURN_EVERY_S,
    SHARE,
    SOME_PASSES,
    USUAL_S,
    Collector,
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    for name in ("collect", "freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, lambda name=name: made.append(name))
    monkeypatch.setattr(sys, "getallocatedblocks", lambda: 0)
    return made


def long_ones(monkeypatch: pytest.MonkeyPatch, taken_s: float) -> None:
    """Each collection takes so long from now on."""
    clock = count()
    monkeypatch.setattr(time, "thread_time", lambda: next(clock) * taken_s)


def test_what_is_new_is_visited_when_it_is_little_and_put_aside_when_it_is_much(
    calls: list[str],
) -> None:
    collector = Collector(lambda: False)
    collector.collect(0, 0, 0.0)
    assert calls == ["collect"]
    collector.collect(SOME_PASSES - 1, 0, 0.25)
    assert calls == ["collect"]
    collector.collect(SOME_PASSES, 0, 0.5)
    assert calls == ["collect", "collect"]
    collector.collect(MANY_PASSES + 1, 0, 0.75)
    assert calls == ["collect", "collect", "freeze"]
    collector.collect(0, 0, 0.5 + USUAL_S)
    assert calls == ["collect", "collect", "freeze", "collect"]


def test_new_containers_in_the_place_of_as_many_old_ones_are_not_visited() -> None:
    """A body of a million arrays, put where the one before was: the blocks are as many as ever."""
    thresholds, is_on = gc.get_threshold(), gc.isenabled()
    gc.enable()
    gc.set_threshold(700, 10, 1_000_000_000)
    collector = Collector(lambda: False)
    visited: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            visited.append(len(gc.get_objects(generation=2)))

    try:
        gc.collect()
        gc.freeze()
        document: list[object] = [[] for _ in range(200_000)]
        collector.collect(gc.get_count()[2], sys.getallocatedblocks(), 0.0)
        gc.callbacks.append(note)
        for round_ in range(1, 4):
            document = [[] for _ in range(len(document))]
            collector.collect(gc.get_count()[2], sys.getallocatedblocks(), round_ * USUAL_S)
            collector.collect(gc.get_count()[2], sys.getallocatedblocks(), (round_ + 0.9) * USUAL_S)
    finally:
        if note in gc.callbacks:
            gc.callbacks.remove(note)
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        if not is_on:
            gc.disable()
    assert sum(visited) < 50_000


def test_what_took_long_to_visit_is_not_visited_again(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers say little: a hundred parsed filters were 20 ms, each time."""
    collector = Collector(lambda: False)
    long_ones(monkeypatch, LONG_S / 2)
    collector.collect(0, 10, 0.0)
    assert calls == ["collect"]
    long_ones(monkeypatch, 2 * LONG_S)
    collector.collect(0, 10, USUAL_S)
    assert calls == ["collect", "collect", "freeze"]


def test_nothing_is_put_aside_while_a_large_body_is_in_hand(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = Collector(lambda: True)
    collector.collect(MANY_PASSES + 1, 0, 0.0)
    assert calls == []
    long_ones(monkeypatch, 2 * LONG_S)
    collector.collect(0, 0, 0.0)
    assert calls == ["collect"]
    # What is left is visited each time, so less often.
    collector.collect(SOME_PASSES, 0, USUAL_S)
    assert calls == ["collect"]
    collector.collect(SOME_PASSES, 0, 2 * LONG_S / SHARE)
    assert calls == ["collect", "collect"]


def test_a_document_that_grows_and_shrinks_lets_all_back_in_seldom(calls: list[str]) -> None:
    """It takes a collection of everything. A client could make it happen every two seconds."""
    collector = Collector(lambda: False)
    for now in range(0, int(RETURN_EVERY_S), 4):
        collector.collect(MANY_PASSES + 1, 2 * FEW_BLOCKS, now)
        collector.collect(0, 10, now + 2)
    assert calls.count("unfreeze") == 1
    collector.collect(MANY_PASSES + 1, 2 * FEW_BLOCKS, RETURN_EVERY_S + 3)
    collector.collect(0, 10, RETURN_EVERY_S + 3)
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

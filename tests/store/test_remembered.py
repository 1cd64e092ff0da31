"""The places that evaluated filters remember are counted, and can be let go of."""

from __future__ import annotations

import gc
import tracemalloc

from triode.store.filter import parse_filter
from triode.store.operation import Set
from triode.store.store import Store


def test_the_largest_go_first_and_their_subscribers_get_a_snapshot() -> None:
    root = {"a": [{"x": number} for number in range(20_000)], "b": [{"x": 1} for _ in range(100)]}
    store = Store(root, epoch="e", history_items=1, history_bytes=1000)
    index = store.index
    small = index.add(parse_filter("$.b[?@.x > 0]"), root)
    before = index.remembered.bytes
    assert before > 0
    gc.collect()
    tracemalloc.start()
    large = index.add(parse_filter("$.a[?@.x >= 0]"), root)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.8 * taken < index.remembered.bytes - before < 1.2 * taken

    index.forget_places(1)
    assert index.remembered.bytes == before
    assert large.evaluated is not None
    assert large.evaluated.is_stale
    committed = store.submit(Set(("a", 0, "x"), -1), time_ms=0)
    [(selection, [event])] = committed.matched
    assert (selection, event.kind) == (large, "snapshot")
    assert isinstance(event.value, list)
    assert len(event.value) == 19_999
    # It is known again from then on.
    assert index.remembered.bytes > before
    index.remove(large)
    index.remove(small)
    assert index.remembered.bytes == 0


def test_what_is_more_than_all_may_remember_is_told_by_snapshots() -> None:
    root = {"a": [{"x": number} for number in range(1_000)]}
    store = Store(root, epoch="e", history_items=1, history_bytes=1000)
    index = store.index
    first, second = (index.add(parse_filter(f"$.a[?@.x >= {low}]"), root) for low in (0, 500))
    both = index.remembered.bytes
    index.remove(second)
    index.remembered.max_bytes = both - 1
    second = index.add(parse_filter("$.a[?@.x >= 500]"), root)
    assert index.remembered.bytes < both
    kinds = {
        selection.filter.text: [event.kind for event in events]
        for selection, events in store.submit(Set(("a", 700, "x"), -1), time_ms=0).matched
    }
    assert kinds == {first.filter.text: ["delete"], second.filter.text: ["snapshot"]}
    # As soon as there is room, it is remembered like any other.
    index.remove(first)
    store.submit(Set(("a", 700, "x"), 700), time_ms=0)
    [(_, [event])] = store.submit(Set(("a", 700, "x"), -1), time_ms=0).matched
    assert event.kind == "delete"
    assert 0 < index.remembered.bytes <= both

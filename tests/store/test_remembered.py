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

"""What readers keep of old versions of the document is counted."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import ExitStack

from triode.store.operation import Set
from triode.store.store import Store
from triode.store.value import weigh

WIDE = 20_000


def wide() -> Store:
    root = {f"key{number}": number % 100 for number in range(WIDE)}
    return Store(root, epoch="e", history_items=1, history_bytes=0)


def write(store: Store, number: int) -> None:
    store.submit(Set((f"key{number}",), number % 100), time_ms=0)


def test_each_pin_of_a_document_that_is_written_is_a_version_of_it() -> None:
    store = wide()
    with ExitStack() as pins:
        gc.collect()
        tracemalloc.start()
        versions = []
        for number in range(10):
            versions.append(pins.enter_context(store.document.pin()))
            write(store, number)
            write(store, number + 1)
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        told = store.document.pinned_bytes(store.footprint)
        assert 0.8 * taken < told < 1.2 * taken
        assert told > 3_000_000
    assert store.document.pinned_bytes(store.footprint) == 0


def test_pins_without_writes_cost_nothing() -> None:
    store = wide()
    with store.document.pin(), store.document.pin():
        assert store.document.pinned_bytes(store.footprint) == 0
        write(store, 1)
        assert store.document.pinned_bytes(store.footprint) > 300_000


def test_a_long_reader_among_many_short_ones_keeps_one_document() -> None:
    store = wide()
    with store.document.pin():
        for number in range(50):
            with store.document.pin():
                write(store, number)
            assert store.document.pinned_bytes(store.footprint) <= weigh(store.document.root)[1]
    assert store.document.pinned_bytes(store.footprint) == 0


def test_what_the_newest_kept_may_be_kept_by_the_one_before() -> None:
    store = wide()
    with store.document.pin() as before:
        with store.document.pin():
            write(store, 1)
        told = store.document.pinned_bytes(store.footprint)
    assert before is not store.document.root
    assert told > 300_000

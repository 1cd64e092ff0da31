"""What the document takes in memory is known after each write, without looking at all of it."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest

from triode.store.operation import Append, Delete, Merge, Set
from triode.store.store import Store
from triode.store.value import decode, encode, weigh


class Taken:
    """How much memory was taken in a block."""

    bytes = 0


@contextmanager
def taken() -> Any:
    told = Taken()
    gc.collect()
    tracemalloc.start()
    try:
        yield told
        gc.collect()
        told.bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def texts(number: int) -> dict[str, Any]:
    return {"id": number + 1000, "name": f"user number {number}", "open": True, "rank": number / 3}


@pytest.mark.parametrize(
    "value",
    [
        [texts(number) for number in range(5_000)],
        {f"user_{number}": {"n": number + 1000, "s": "a" * 20} for number in range(5_000)},
        [{"x": number} for number in range(20_000)],
        list(range(300, 40_000)),
        [number % 200 for number in range(50_000)],
        [[number, f"abc{number}"] for number in range(10_000)],
        ["é" * 100 + str(number) for number in range(3_000)],
    ],
)
def test_a_value_is_weighed_as_it_is_decoded(value: Any) -> None:
    text = encode(value)
    with taken() as told:
        kept = decode(text)
    assert 0.8 * told.bytes < weigh(kept)[1] < 1.2 * told.bytes


def test_a_value_is_weighed_by_its_content_alone() -> None:
    """What is refused depends on it: a process that has read the document from a snapshot must come
    to the same as one in which it has grown.
    """
    grown: dict[str, Any] = {"list": [], "lost": {f"n{number}": 0 for number in range(100)}}
    for number in range(50):
        grown["list"].append(f"\u00e9\u20ac{number}")
        del grown["lost"][f"n{number}"]
    encode(grown)  # CPython keeps the UTF-8 of a text that was encoded
    assert weigh(grown) == weigh(decode(encode(grown)))


def one_by_one(store: Store) -> None:
    for number in range(3_000):
        store.submit(Set(("o", f"user_{number}"), decode(encode(texts(number)))), time_ms=0)
        store.submit(Append(("l",), decode(encode([texts(number)]))), time_ms=0)


def and_removed(store: Store) -> None:
    one_by_one(store)
    for number in range(0, 3_000, 2):
        store.submit(Delete(("o", f"user_{number}")), time_ms=0)
        store.submit(Delete(("l", -1)), time_ms=0)


def merged(store: Store) -> None:
    one_by_one(store)
    for number in range(3_000):
        store.submit(
            Merge(("o", f"user_{number}"), {"name": None, "text": "x" * 50 + str(number)}),
            time_ms=0,
        )


@pytest.mark.parametrize("act", [one_by_one, and_removed, merged])
def test_it_grows_and_shrinks_with_each_write(act: Callable[[Store], None]) -> None:
    act(Store({"o": {}, "l": []}, epoch="e", history_items=1, history_bytes=0))
    with taken() as told:
        store = Store({"o": {}, "l": []}, epoch="e", history_items=1, history_bytes=0)
        act(store)
    # What was touched is remembered too, and has an account of its own.
    assert 0.8 * told.bytes < store.footprint + store.touched.bytes < 1.2 * told.bytes
    store.submit(Set((), {}), time_ms=0)
    assert store.footprint < 0.1 * told.bytes

"""The checksum tells states apart, and is the same in every process."""

from __future__ import annotations

from typing import Any

import pytest

from triode.store.checksum import Checksum, parse_checksum
from triode.store.lineage import Lineage
from triode.store.operation import Append, Delete, Operation, Patch, Set
from triode.store.store import Store


def made(root: Any, *ops: Operation) -> Store:
    store = Store(root, epoch="e", history_items=10, history_bytes=1 << 20)
    store.begin_log(Lineage("e"))
    for op in ops:
        store.submit(op, time_ms=0)
    return store


def test_it_is_this_number() -> None:
    """Held: it is compared over processes, machines and versions."""
    assert (
        str(made({}, Set(("a",), {"b": [1, 2.5, None]}), Delete(("a",))).checksum)
        == "84a6ba90b403da6c"
    )


def test_what_differs_has_another() -> None:
    ops: list[Operation] = [
        Set(("a",), 1), Set(("a",), 1.0), Set(("a",), "1"), Set(("a",), True), Set(("b",), 1),
        Set(("a",), {"x": 1}), Set(("a",), {"y": 1}), Set(("a",), [1]), Set(("a",), ["x" * 300]),
        Set(("a",), ["x" * 301]), Set(("a",), "x" * 300), Delete(("a",)), Append(("c",), 1),
        Patch((), []),
    ]  # fmt: skip
    sums = {made({"a": 0, "c": []}, op).checksum for op in ops}
    assert len(sums) == len(ops)
    one, other = Set(("a",), 1), Set(("b",), 1)
    assert made({}, one, other).checksum != made({}, other, one).checksum


def test_a_refused_one_counts() -> None:
    store = made({}, Set(("a",), 1))
    before = store.checksum
    store.skip(time_ms=0)
    assert store.checksum != before


def test_without_a_log_there_is_none() -> None:
    store = Store({}, epoch="e", history_items=10, history_bytes=1 << 20)
    store.submit(Set(("a",), 1), time_ms=0)
    assert store.checksum is None


def test_it_goes_through_text() -> None:
    checksum = made({}, Set(("a",), 1)).checksum
    assert checksum is not None
    assert parse_checksum(str(checksum)) == checksum
    assert str(Checksum()) == "0" * 16
    for wrong in ("", "0" * 15, "0" * 18, "g" * 16):
        with pytest.raises(ValueError):
            parse_checksum(wrong)

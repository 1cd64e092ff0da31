"""Python's garbage collector is not made to look at wide containers of JSON."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest

from triode.limits.meter import Meter
from triode.store.document import Document
from triode.store.operation import Append, Batch, Delete, Merge, Patch, Set, WriteError
from triode.store.path import parse_path
from triode.store.store import Store
from triode.store.untracked import WIDE
from triode.store.value import copy_deep, decode, decode_steps
from triode.store.work import TooCostly

WIDE_LIST: list[Any] = [[]] * (WIDE + 1)
WIDE_DICT: dict[str, Any] = {f"k{number}": [] for number in range(WIDE + 1)}


def tracked(value: Any) -> list[int]:
    """How wide those are that the collector visits."""
    if type(value) is not dict and type(value) is not list:
        return []
    children = value.values() if type(value) is dict else value
    widths = [width for child in children for width in tracked(child)]
    return [len(value), *widths] if gc.is_tracked(value) else widths


TEXTS = [
    [WIDE_LIST] * 3,
    {"a": WIDE_DICT, "b": [WIDE_DICT, {"c": WIDE_LIST}]},
    ["x" * 9] * (WIDE + 1),
    [WIDE_DICT] * 40,
    WIDE_LIST * 20,
    {f"m{number}": {"x": [number]} for number in range(500)},
]


@pytest.mark.parametrize("value", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize(
    ("slice_bytes", "is_own"), [(0, False), (200, False), (200, True), (2000, True)]
)
def test_what_is_decoded(value: Any, slice_bytes: int, is_own: bool) -> None:
    text = json.dumps(value, separators=(",", ":")).encode()
    if not slice_bytes:
        found = decode(text)
    else:
        steps = decode_steps(text, slice_bytes=slice_bytes, is_own=is_own)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                found = done.value
                break
    assert found == value
    assert max(tracked(found), default=0) <= WIDE


@pytest.mark.parametrize("value", TEXTS, ids=range(len(TEXTS)))
def test_what_is_copied(value: Any) -> None:
    copy = copy_deep(value)
    assert copy == value
    assert max(tracked(copy), default=0) <= WIDE


def at(text: str) -> Any:
    return parse_path(text)


OPS = [
    Set(at(".object.k3"), {}),
    Set(at(".object.new"), []),
    Append(at(".array"), {}),
    Delete(at(".array[5]")),
    Merge(at(".object"), {"k1": {}, "k2": None}),
    Merge(at(".object"), {f"n{number}": {} for number in range(1500)}),
    Patch((), [{"op": "add", "path": "/array/3", "value": {}}]),
    Patch((), [{"op": "remove", "path": "/array/3"}, {"op": "remove", "path": "/array/9"}]),
    Patch((), [{"op": "copy", "from": "/array", "path": "/copy"}]),
    Batch((Set(at(".object.k3"), {}), Delete(at(".array[5]")))),
]


@pytest.mark.parametrize("op", OPS, ids=range(len(OPS)))
@pytest.mark.parametrize("pinned", [False, True])
def test_what_is_written_into(op: Any, pinned: bool) -> None:
    document = Document(copy_deep({"array": WIDE_LIST, "object": WIDE_DICT}))
    with document.pin():
        if not pinned:
            document = Document(document.root)
        for edit in document.plan(op):
            document.apply(edit)
        assert max(tracked(document.root)) <= WIDE


def test_copies_of_a_refused_write_are_left_to_be_freed_little_by_little() -> None:
    store = Store({"a": [[1] * 10] * 1000}, epoch="e", history_items=9, history_bytes=10**6)
    patch: list[Any] = [
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "copy", "from": "/a", "path": "/c"},
    ]
    with pytest.raises(TooCostly):
        store.prepare(Patch((), patch), Meter(5_000))
    assert [len(value) for value in store.discarded] == [1000]  # type: ignore[arg-type]
    store.discarded.clear()
    patch.append({"op": "test", "path": "/a", "value": 1})
    with pytest.raises(WriteError):
        store.prepare(Patch((), patch), Meter(50_000))
    assert [len(value) for value in store.discarded] == [1000, 1000]  # type: ignore[arg-type]
    store.discarded.clear()
    store.prepare(Patch((), patch[:2]), Meter(50_000))
    assert not store.discarded

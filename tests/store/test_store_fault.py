"""A fault in the middle of a write: nothing of it has happened."""

from __future__ import annotations

import copy
from typing import Any
from unittest.mock import patch

import pytest

from triode.store.filter import parse_filter
from triode.store.index import Index
from triode.store.operation import Append, Batch, Delete, Merge, Operation, Patch, Set
from triode.store.store import Store

ROOT: Any = {"a": {"b": 1}, "list": [1, {"a": 2}, 3], "n": 0}
INSERT: Any = [{"op": "add", "path": "/0", "value": 0}, {"op": "remove", "path": "/2"}]
OPS: list[Operation] = [
    Set(("a",), {"new": {}}),
    Set(("a", "new", "deep"), 1),
    Append(("list",), {"a": 9}),
    Patch(("list",), INSERT),
    Delete(("n",)),
    Merge(("a",), {"new": None, "a": 1}),
    Set((), {"all": "new"}),
]


class Fault(BaseException):
    """Whatever it is: also what is no `Exception`."""


@pytest.mark.parametrize("edits", range(1, 8))
@pytest.mark.parametrize("history_bytes", [10**6, 0])
def test_a_write_that_fails_half_way_leaves_no_trace(edits: int, history_bytes: int) -> None:
    store = Store(copy.deepcopy(ROOT), epoch="e", history_items=10, history_bytes=history_bytes)
    selection = store.index.add(parse_filter("..a"), store.document.root)
    store.submit(Set(("n",), 1), time_ms=1)
    before, position = copy.deepcopy(store.document.root), store.position
    left, match = [edits], Index.match

    def failing(index: Index, root: Any, edit: Any, *work: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise Fault
        return match(index, root, edit, *work)

    with patch.object(Index, "match", failing), pytest.raises(Fault):
        store.submit(Batch(tuple(OPS)), time_ms=2)
    assert store.document.root == before
    assert store.position == position
    assert store.can_resume(position)
    assert store.history.last_seq == position.seq
    # As if it had not been: the next change has its number, and its events are right.
    committed = store.submit(Set(("a",), 5), time_ms=3)
    assert committed.change.position.seq == position.seq + 1
    [(matched, events)] = committed.matched
    assert matched is selection
    assert [(e.kind, e.path, e.value) for e in events] == [("update", ("a",), 5)]
    if history_bytes:
        [replayed] = [
            part
            for part in store.missed([selection.filter], position).run(store.document.root)
            if part
        ]
        assert [event.value for event in replayed[0].events] == [5]


def test_a_filter_that_finds_no_room_on_the_stack_is_stale_and_the_write_is_done() -> None:
    store = Store({"a": {"b": 1}}, epoch="e", history_items=10, history_bytes=10**6)
    store.index.add(parse_filter("$..[?@.b]"), store.document.root)
    with patch("triode.store.jsonpath.chain", side_effect=RecursionError):
        committed = store.submit(Set(("a", "b"), 2), time_ms=1)
    assert store.document.root == {"a": {"b": 2}}
    assert [[event.kind for event in events] for _, events in committed.matched] == [["snapshot"]]

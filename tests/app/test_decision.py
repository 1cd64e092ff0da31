"""Each process that applies the same log comes to the same, whatever it was started with."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.store import oracle
from triode.app.service.decision import redo
from triode.app.service.log_snapshot import decode_head, decode_tables, pieces_of, restore
from triode.store.change import Position
from triode.store.entry import Bounds, Entry, decode_batch, encode_batch, encode_entry
from triode.store.store import Store
from triode.store.value import decode, encode

GRANTS = st.sampled_from(
    (None, None, {"read": [".a"], "write": [".a"]}, {"read": ["."], "write": [".b", ".a[*]"]})
)


def begun(root: Any, items: int, size: int) -> Store:
    store = Store(copy.deepcopy(root), epoch="e", history_items=items, history_bytes=size)
    store.begin_log(store.lineage)
    return store


def outcome(store: Store) -> tuple[Any, ...]:
    # As text: 1 is not 1.0, and members have an order.
    root = repr(store.document.root)
    return (
        root,
        store.seq,
        store.bytes,
        store.footprint,
        store.touched.state(),
        store.outcomes.rows(),
        store.records.rows(),
        store.checksum,
    )


@settings(deadline=None)
@given(st.data())
def test_processes_agree(data: st.DataObject) -> None:
    root = data.draw(oracle.documents)
    one, other = begun(root, 10_000, 1 << 26), begun(root, 2, 1000)
    third: Store | None = None
    cut = data.draw(st.integers(0, 12))
    bounds = {id(one): Bounds(), id(other): Bounds()}
    for number in range(data.draw(st.integers(1, 14))):
        op: Any = data.draw(oracle.operations(one.document.root))
        if data.draw(st.integers(0, 2)) == 0:
            op = replace(op, if_position=Position("e", data.draw(st.integers(0, one.seq + 1))))
        if data.draw(st.integers(0, 9)) == 0:
            op = Bounds(data.draw(st.integers(10, 400)), data.draw(st.integers(1, 300)))
        line = encode_entry(Entry(number, op, grant=data.draw(GRANTS)))
        if number == cut:
            text, pieces = pieces_of(one, bounds[id(one)], number)
            third, head = begun({}, 0, 0), decode_head(text)
            tables = decode_tables(head, list(pieces))
            restore(third, head, tables, decode(encode(one.document.root)), one.lineage)
            third.max_bytes = one.max_bytes
            bounds[id(third)] = bounds[id(one)]
        for store in (one, other, third):
            if store is not None:
                [entry] = decode_batch(encode_batch([line]))
                bounds[id(store)] = redo(store, bounds[id(store)], entry)
        assert outcome(one) == outcome(other)
        assert third is None or outcome(third) == outcome(one)

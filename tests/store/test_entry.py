"""Entries of a log come back as they were written, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store import oracle
from triode.store.change import MAX_SEQ, Position
from triode.store.decode import decode
from triode.store.entry import (
    Bounds,
    Entry,
    EntryError,
    decode_batch,
    encode_batch,
    encode_entry,
)
from triode.store.json_type import JsonError
from triode.store.operation import Append, Batch, Delete, Increment, Merge, Operation, Patch, Set

# Wider than the oracle's alphabet: what a codec can get wrong is at the edges of each type.
texts = st.text(max_size=8)
finite = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.integers(-(10**300), 10**300) | st.integers(-5, 5) | finite
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
paths = st.lists(texts | st.integers(-MAX_SEQ, MAX_SEQ), max_size=4).map(tuple)
positions = st.none() | st.builds(Position, st.sampled_from(("e", "k3x9")), st.integers(0, MAX_SEQ))
single = st.one_of(
    st.builds(Set, paths, values, st.booleans(), positions),
    st.builds(Merge, paths, values, positions),
    st.builds(Patch, paths, values, positions),
    st.builds(Delete, paths, positions),
    st.builds(Increment, paths, numbers, positions),
    st.builds(Append, paths, values, positions),
)
ops = single | st.builds(Batch, st.lists(single, max_size=3).map(tuple), positions)
grants = st.none() | st.fixed_dictionaries({"read": st.lists(texts, max_size=2)})
entries = st.builds(Entry, st.integers(0, MAX_SEQ), ops, texts, grants) | st.builds(
    Entry, st.integers(0, MAX_SEQ), st.builds(Bounds, st.none() | st.integers(1), st.integers(1))
)


def same(one: Any, other: Any) -> bool:
    """Equal in type too: True is not 1, 1 is not 1.0, and -0.0 is not 0.0."""
    return repr(one) == repr(other)


@given(st.lists(entries, min_size=1, max_size=4))
def test_a_batch_comes_back(written: list[Entry]) -> None:
    data = encode_batch([encode_entry(entry) for entry in written])
    assert same(decode_batch(data), written)


@given(st.data())
def test_operations_that_the_store_is_tested_with_come_back(data: st.DataObject) -> None:
    op = data.draw(oracle.operations(data.draw(oracle.documents)))
    assert same(decode_batch(encode_batch([encode_entry(Entry(7, op))])), [Entry(7, op)])


def test_what_stands_in_a_file() -> None:
    """A change here is a new version: files that were written before have to be read as well."""
    entry = Entry(5, Set(("a", 0), 1.0, if_position=Position("e", 3)), by="shop")
    assert encode_batch([encode_entry(entry), encode_entry(Entry(6, Delete(("a",))))]) == (
        b'1\n{"time_ms":5,"op":{"op":"set","path":["a",0],"value":1.0,'
        b'"if_position":{"epoch":"e","seq":3}},"by":"shop"}\n'
        b'{"time_ms":6,"op":{"op":"delete","path":["a"]}}'
    )


def test_each_entry_is_a_line_of_json() -> None:
    line = encode_entry(Entry(5, Set((), "a\nb\u2028c\r")))
    assert line.count(b"\n") == 0
    assert isinstance(decode(line), dict)


@pytest.mark.parametrize("op", [Set((), "\ud800"), Set((), object()), Set(("\udfff",), 1)])  # type: ignore[arg-type] # what is no JSON is what this is about
def test_what_is_not_json_is_not_written(op: Operation) -> None:
    with pytest.raises(JsonError):
        encode_entry(Entry(1, op))


def test_another_version_is_refused() -> None:
    with pytest.raises(EntryError, match=r"version '3'.*a newer one"):
        decode_batch(b'3\n{"time_ms":5}')


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda data: b"1\n" + data))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(EntryError):
        decode_batch(data)


@given(entries, st.data())
def test_a_torn_batch_is_refused(entry: Entry, data: st.DataObject) -> None:
    whole = encode_batch([encode_entry(entry)])
    with pytest.raises(EntryError):
        decode_batch(whole[: data.draw(st.integers(0, len(whole) - 1))])

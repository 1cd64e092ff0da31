"""When places end, against a second opinion that keeps a flat table and looks at all of it."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from triode.store.checksum import Checksum
from triode.store.deadlines import Deadlines
from triode.store.operation import (
    Batch,
    Delete,
    Expire,
    Invalid,
    Merge,
    Operation,
    Push,
    Set,
    TooManyDeadlines,
    Touch,
    WriteError,
)
from triode.store.path import Path
from triode.store.store import Store

NAMES = ("a", "b", "c")


def made(root: Any = None) -> Store:
    store = Store(root or {}, epoch="e", history_items=10, history_bytes=10_000)
    store.checksum = Checksum()
    return store


class Opinion:
    """The rules as docs/wire.md says them."""

    def __init__(self) -> None:
        self.ends: dict[Path, int] = {}

    def written(self, path: Path, now: int, ttl: int | None) -> None:
        self.ends.pop(path, None)
        if ttl is not None:
            self.ends[path] = -(-(now + ttl) // 100) * 100

    def replaced(self, path: Path) -> None:
        self.ends = {at: end for at, end in self.ends.items() if at[: len(path)] != path}

    def after(self, op: Operation, now: int, before: Any, key: str) -> None:
        if isinstance(op, Batch):
            for part in op.ops:
                self.after(part, now, before, key)
        elif isinstance(op, Set):
            self.replaced(op.path)
            self.written(op.path, now, op.ttl_ms)
        elif isinstance(op, Delete):
            self.replaced(op.path)
        elif isinstance(op, Touch):
            self.written(op.path, now, op.ttl_ms)
        elif isinstance(op, Push):
            if op.ttl_ms is not None:
                self.ends[(*op.path, key)] = -(-(now + op.ttl_ms) // 100) * 100
        elif isinstance(op, Merge):
            assert isinstance(op.patch, dict)
            if type(at(before, op.path)) is not dict:
                self.replaced(op.path)
            for name, value in op.patch.items():
                if at(before, (*op.path, name)) != value:  # else it changes nothing
                    self.replaced((*op.path, name))
            self.written(op.path, now, op.ttl_ms)
        elif isinstance(op, Expire):
            for path in op.paths:
                if self.ends.get(path, op.at_ms + 1) <= op.at_ms:
                    self.replaced(path)


def at(root: Any, path: Path) -> Any:
    for name in path:
        root = root.get(name) if type(root) is dict else None
    return root


def drawn(random: Random, store: Store, now: int) -> Operation:
    path = tuple(random.choices(NAMES, k=random.randint(1, 3)))
    ttl = random.choice((None, 1, 250, 1000))
    kind = random.randrange(8)
    if kind < 3:
        value: Any = random.choice((1, {}, {"a": {"b": 1}}, [1]))
        return Set(path, value, create=True, ttl_ms=ttl)
    if kind == 3:
        return Delete(path)
    if kind == 4:
        return Merge(path, {random.choice(NAMES): random.choice((1, None, 2))}, ttl_ms=ttl)
    if kind == 5:
        return Touch(path, ttl_ms=ttl)
    if kind == 6:
        return Push(path, 1, ttl_ms=ttl)
    known = [path for _, path in store.deadlines.rows()]
    return Expire(tuple(random.sample(known, min(len(known), 3))), now)


@pytest.mark.parametrize("seed", range(40))
def test_the_table_is_what_the_rules_say(seed: int) -> None:
    random = Random(seed)
    store, opinion = made(), Opinion()
    now = 1_000_000
    for _ in range(300):
        now += random.randint(0, 300)
        op = drawn(random, store, now)
        if random.random() < 0.1:
            op = Batch((Set(("a",), {}, ttl_ms=300), Set(("a", "b"), 1, ttl_ms=100)))
        before = repr(store.document.root)
        try:
            store.submit(op, time_ms=now)
        except WriteError:
            assert repr(store.document.root) == before
        else:
            opinion.after(op, now, eval(before), store.pushed_key(store.seq))
        rows = store.deadlines.rows()
        assert {path: due for due, path in rows} == opinion.ends
        assert len(store.deadlines) == len(rows)
        for path in opinion.ends:
            assert at(store.document.root, path) is not None
        due = {path for path, end in opinion.ends.items() if end <= now}
        assert set(store.deadlines.due(now, 1000)) == due
        assert Deadlines(rows).rows() == rows
    store.deadlines.sweep(10_000)
    assert store.deadlines.bytes == Deadlines(store.deadlines.rows()).bytes


def test_rows_of_what_has_gone_do_not_gather() -> None:
    deadlines = Deadlines()
    for number in range(20_000):
        deadlines.put(("a", "b", str(number % 7)), 10**12 + number * 100)
        deadlines.take_below(("a",))
    assert len(deadlines) == 0
    assert deadlines.bytes < 100 * 450
    assert len(deadlines._order) < 1000


def test_a_time_that_runs_back_shortens_nothing() -> None:
    store = made({"a": 1, "b": 1})
    store.submit(Touch(("a",), ttl_ms=1000), time_ms=50_000)
    store.submit(Touch(("b",), ttl_ms=1000), time_ms=10_000)
    assert store.deadlines.rows() == [(51_000, ("a",)), (51_000, ("b",))]


def test_one_that_was_renewed_before_the_entry_stays() -> None:
    store = made({"a": 1, "b": 1})
    for name in "ab":
        store.submit(Touch((name,), ttl_ms=1000), time_ms=0)
    store.submit(Touch(("a",), ttl_ms=5000), time_ms=900)
    entry = Expire((("a",), ("b",)), 1000)
    store.submit(entry, time_ms=1000)
    assert store.document.root == {"a": 1}
    store.submit(Set(("b",), 2), time_ms=1001)
    store.submit(entry, time_ms=1002)
    assert store.document.root == {"a": 1, "b": 2}, "none twice"


def test_there_are_no_more_than_may_be() -> None:
    store = made({"a": 1, "b": 1})
    store.deadlines.most = 1
    store.submit(Touch(("a",), ttl_ms=1000), time_ms=0)
    with pytest.raises(TooManyDeadlines, match="1 may have one"):
        store.submit(Touch(("b",), ttl_ms=1000), time_ms=0)
    store.submit(Touch(("a",), ttl_ms=2000), time_ms=0)
    store.submit(Touch(("a",)), time_ms=0)
    store.submit(Touch(("b",), ttl_ms=1000), time_ms=0)


@pytest.mark.parametrize("path", [(), ("list", 0), ("list", "0"), ("list", -1), ("x" * 1025,)])
def test_what_moves_and_the_root_have_none(path: Path) -> None:
    store = made({"list": [{"a": 1}]})
    with pytest.raises(Invalid, match=r"(cannot|can) have a ttl"):
        store.submit(Set(path, {}, ttl_ms=1), time_ms=0)


def test_the_checksum_knows_deadlines() -> None:
    one, other = made({"a": 1}), made({"a": 1})
    one.submit(Touch(("a",), ttl_ms=1), time_ms=0)
    other.submit(Touch(("a",), ttl_ms=2), time_ms=0)
    assert one.checksum != other.checksum


def test_a_wide_merge_is_one_change_of_the_whole() -> None:
    """As docs/wire.md says: more than a thousand edits count as one of the place above them."""
    store = made({"a": {"m5": 0}, "b": 0})
    for path in (("a", "m5"), ("b",)):
        store.submit(Touch(path, ttl_ms=1000), time_ms=0)
    store.submit(Merge(("a",), {f"m{n}": n for n in range(2000)}), time_ms=0)
    assert [path for _, path in store.deadlines.rows()] == [("b",)]


@pytest.mark.parametrize("seed", range(20))
def test_a_table_made_of_its_rows_is_the_same(seed: int) -> None:
    """A process that begins with a snapshot has the same ways to places as one that saw it all."""
    random = Random(seed)
    table = Deadlines()
    paths: list[Path] = [(a,) for a in NAMES] + [(a, b) for a in NAMES for b in NAMES]
    paths += [(a, b, c) for a in NAMES for b in NAMES for c in NAMES]
    for _ in range(300):
        path = random.choice(paths)
        match random.randrange(4):
            case 0 | 1:
                table.put(path, 100 * random.randrange(1, 9))
            case 2:
                table.take(path)
            case _:
                table.take_below(path)
        again = Deadlines(table.rows())
        assert len(again) == len(table)
        assert [again.reaches(path) for path in paths] == [table.reaches(path) for path in paths]
    table.sweep(10_000)
    assert table.bytes == Deadlines(table.rows()).bytes
    table.take_below(())
    table.sweep(10_000)
    assert table.bytes == 0


def test_rows_of_what_has_gone_are_passed_once() -> None:
    table = Deadlines()
    for number in range(5000):
        table.put(("x", f"k{number}"), 100)
    table.put(("y",), 100)
    table.take_below(("x",))
    before = table.bytes
    found: list[Path] = []
    looks = 0
    while not found:
        found = table.due(100, 100)
        looks += 1
    assert found == [("y",)]
    assert looks == 6
    assert table.bytes < before / 10


def test_a_deep_place_and_too_many_at_once_have_none() -> None:
    store = made()
    root: Any = 1
    for _ in range(40):
        root = {"a": root}
    store.submit(Set((), root), time_ms=0)
    with pytest.raises(Invalid, match="levels deep"):
        store.submit(Touch(("a",) * 33, ttl_ms=1000), time_ms=0)
    many = Batch(tuple(Set((f"n{number}",), 1, ttl_ms=1000) for number in range(1001)))
    with pytest.raises(Invalid, match="1000 places"):
        store.submit(many, time_ms=0)
    assert len(store.deadlines) == 0

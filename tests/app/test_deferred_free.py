"""Large values are freed little by little, wherever they were dropped."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from triode.app.runtime import decoding
from triode.app.runtime.decoding import LARGE_BYTES, decode_in_turns
from triode.app.service import deferred_free
from triode.app.service.deferred_free import LOOK_EVERY_S, dispose
from triode.store.store import Store
from triode.store.value import dismantle

LARGE = b"[" + b"[1]," * (LARGE_BYTES // 4) + b"0]"


@pytest.fixture
def store() -> Store:
    return Store({}, epoch="e", history_items=9, history_bytes=10**6)


@pytest.fixture
def freed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of each value that was taken apart, and how many steps that took."""
    seen: list[int] = []

    def counted(value: Any) -> Any:
        length, steps = len(value), 0
        todo = [value]
        del value
        for step in dismantle(todo.pop()):
            steps += 1
            yield step
        seen.extend([length, steps])

    monkeypatch.setattr(deferred_free, "dismantle", counted)
    return seen


async def test_a_large_value_that_nobody_took_is_taken_apart(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, store: Store, freed: list[int]
) -> None:
    nursery.start_soon(dispose, store)
    await trio.testing.wait_all_tasks_blocked()
    value: Any = await decode_in_turns(LARGE, max_depth=9)
    await trio.sleep(3 * LOOK_EVERY_S)
    assert not freed  # it is in hand
    length = len(value)
    del value
    await trio.sleep(3 * LOOK_EVERY_S)
    assert freed[0] == length
    assert freed[1] > length / 2000
    await decode_in_turns(b"[1]", max_depth=9)
    await decode_in_turns(b'"' + b"x" * LARGE_BYTES + b'"', max_depth=9)
    assert decoding.large.get() == []  # nothing of those has to be freed in steps
    nursery.cancel_scope.cancel()


async def test_a_value_of_the_document_stays_whole(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, store: Store, freed: list[int]
) -> None:
    nursery.start_soon(dispose, store)
    await trio.testing.wait_all_tasks_blocked()
    store.document.root = await decode_in_turns(LARGE, max_depth=9)
    await trio.sleep(3 * LOOK_EVERY_S)
    assert isinstance(store.document.root, list)
    assert len(store.document.root) == LARGE_BYTES // 4 + 1
    store.document.root = None
    await trio.sleep(3 * LOOK_EVERY_S)
    assert freed[0] == LARGE_BYTES // 4 + 1
    nursery.cancel_scope.cancel()


async def test_without_the_service_nothing_is_kept(store: Store) -> None:
    await decode_in_turns(LARGE, max_depth=9)
    assert decoding.large.get() is None

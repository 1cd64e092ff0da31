"""What a write is answered: its position, and the names that it gave to what it pushed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triode.store.change import Position
from triode.store.operation import Push

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triode.store.entry import Beside
    from triode.store.operation import Operation
    from triode.store.store import Store


def write_answer(store: Store, op: Operation | Beside, position: Position) -> dict[str, Any]:
    """`{"id"}`, of a `push` `{"id","key"}`: also of one that was done before, with the same key."""
    answer = {"id": str(position)}
    if type(op) is Push:
        answer["key"] = store.pushed_key(position.seq)
    return answer


def batch_answer(
    store: Store,
    ops: Sequence[Operation | None],
    positions: Sequence[Position | None],
    errors: list[dict[str, Any]],
) -> dict[str, Any]:
    """`{"positions"}` of a batch whose writes have a position each, and `keys` if any is a `push`;
    null for what was refused, and for what is none. `errors` if there are any.
    """
    answer: dict[str, Any] = {"positions": [None if one is None else str(one) for one in positions]}
    if any(type(op) is Push for op in ops):
        answer["keys"] = [
            store.pushed_key(position.seq) if type(op) is Push and position is not None else None
            for op, position in zip(ops, positions, strict=True)
        ]
    if errors:
        answer["errors"] = errors
    return answer


def atomic_answer(store: Store, ops: Sequence[Operation], position: Position) -> dict[str, Any]:
    """The same of an atomic batch: all have one position."""
    answer: dict[str, Any] = {"id": str(position), "positions": [str(position)] * len(ops)}
    if any(type(op) is Push for op in ops):
        keys: list[str | None] = []
        pushed = 0
        for op in ops:
            is_push = type(op) is Push
            keys.append(store.pushed_key(position.seq, pushed) if is_push else None)
            pushed += is_push
        answer["keys"] = keys
    return answer

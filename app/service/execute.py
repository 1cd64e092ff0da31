"""Commands that need no session: writes and messages, the same over WebSocket, `/store/batch` and
HTTP routes.

A command is a JSON object; `type` names it (`op` and `cmd` are understood too). `execute` gives
the members of its `ok`. The answer of a `get` may be large: who writes it makes it (`reading`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from msgspec.structs import replace

from triode.app.access.charged import Bill
from triode.app.runtime.turns import TimedTurn, turn
from triode.app.service import messages
from triode.app.service.expected import check_expected
from triode.app.service.expiring import check_ttl
from triode.app.service.filter_parsing import readable
from triode.app.service.position_wait import reach
from triode.app.service.write_key import make_key, part_of
from triode.app.service.write_refusals import refusal_for
from triode.app.wire.known_names import COMMANDS, check_command
from triode.app.wire.refusal import Refusal, bad_request
from triode.app.wire.stream_request import check_filter_text, check_if, check_position
from triode.app.wire.write_key import check_key
from triode.limits.principal import OWNER
from triode.store.change import Position
from triode.store.operation import (
    Append,
    Batch,
    Delete,
    Increment,
    Merge,
    Operation,
    Patch,
    Push,
    Set,
    Touch,
)
from triode.store.patch import MAX_OPS
from triode.store.path import PathError, parse_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from triode.app.delivery.subscriber import Client
    from triode.app.service.triode import Triode
    from triode.app.service.under_way import Write
    from triode.limits.principal import Principal
    from triode.store.entry import Beside
    from triode.store.filter import Filter
    from triode.store.path import Path
    from triode.store.store import Store

WRITES: Final = frozenset(
    {"set", "merge", "patch", "delete", "increment", "append", "push", "touch"}
)


def name_of(command: Any) -> str:
    """Which command it is. Raises `Refusal` 400 when it is not a command at all."""
    if type(command) is not dict:
        raise bad_request('a command is a JSON object such as {"type":"get","filter":".a"}')
    name = command.get("type") or command.get("op") or command.get("cmd")
    if type(name) is not str:
        raise bad_request('"type" must name the command, such as "set"')
    return name


def ref_of(command: Any) -> dict[str, Any]:
    """The `ref` to give back, as members. Raises `Refusal` 400 unless it is a JSON scalar."""
    if type(command) is not dict or "ref" not in command:
        return {}
    ref = command["ref"]
    if isinstance(ref, dict | list):
        raise bad_request('"ref" must be a string, a number, true, false or null')
    return {"ref": ref}


def check_path(text: Any) -> Path:
    """A path. Raises `Refusal` 400, with the column of the fault."""
    if type(text) is not str:
        raise bad_request('"path" must be a string such as ".users[0].name"; "." is the root')
    try:
        return parse_path(text)
    except PathError as error:
        raise bad_request(
            f"malformed path: {error.detail} (column {error.column})",
            column=error.column,
            path=text[:200],
        ) from error


def operation_of(name: str, command: dict[str, Any]) -> Operation:
    """The write that a command asks for. Raises `Refusal` 400."""
    condition = command.get("if")
    if type(condition) is not dict:
        # Most have none.
        position = None if condition is None else check_if(condition)
        op = _operation_of(name, command, position)
    else:
        op = replace(_operation_of(name, command, None), if_value=check_expected(condition))
    return op if "ttl" not in command else replace(op, ttl_ms=check_ttl(command["ttl"]))


def _operation_of(name: str, command: dict[str, Any], condition: Position | None) -> Operation:
    path = check_path(command.get("path"))
    if name == "set":
        create = command.get("create", False)
        if type(create) is not bool:
            raise bad_request('"create" must be true or false')
        value = command["value"] if "value" in command else _member(command, "value")
        return Set(path, value, create=create, if_position=condition)
    if name == "delete":
        return Delete(path, if_position=condition)
    if name == "touch":
        _member(command, "ttl")
        return Touch(path, if_position=condition)
    if name == "increment":
        return Increment(path, _number(command.get("by", 1)), if_position=condition)
    if name in ("append", "push"):
        kind = Append if name == "append" else Push
        return kind(path, _member(command, "value"), if_position=condition)
    patch = command["patch"] if "patch" in command else _member(command, "value", "patch")
    if name == "merge":
        return Merge(path, patch, if_position=condition)
    if type(patch) is not list:
        raise bad_request('"patch" must be a list of JSON Patch operations (RFC 6902)')
    return Patch(path, patch, if_position=condition)


async def execute(
    triode: Triode,
    command: Any,
    principal: Principal = OWNER,
    *,
    sender: Client | None = None,
    key: str | None = None,
) -> dict[str, Any]:
    """Carry out one command; the members of its `ok`. `key` is that of a write which has none of
    its own. Raises `Refusal`; then nothing was done.
    """
    return await carry_out(triode, name_of(command), command, principal, sender, key)


async def carry_out(
    triode: Triode,
    name: str,
    command: dict[str, Any],
    principal: Principal,
    sender: Client | None = None,
    key: str | None = None,
) -> dict[str, Any]:
    """As `execute`, for whoever has asked for its name (`name_of`) already."""
    if name not in COMMANDS or not command.keys() <= COMMANDS[name]:
        check_command(name, command)  # which says what is wrong
    triode.metrics.commands_total += 1
    if name in WRITES:
        op = operation_of(name, command)
        text = _key_of(command, key) if "key" in command else key
        known = None if text is None else await make_key(principal, text, op)
        return write_answer(triode.store, op, await triode.write(op, principal, known))
    if name == "batch":
        batch = _batch(triode, principal, command, _key_of(command, key))
        # Ten thousand refusals are charged by no meter. `/store/batch` has a bill of its own.
        return await (batch if sender is None else Bill(triode.gate, principal).pay(batch))
    if name == "publish":
        await triode.hub.flusher.room()
        return await messages.carry_out(
            triode, triode.journal, principal, command, sender, triode.peers
        )
    raise bad_request(f"unknown command {name[:64]!r}", member="type")


async def begin_write(
    triode: Triode,
    name: str,
    command: dict[str, Any],
    principal: Principal,
    tell: Callable[[Write], None] | None = None,
    *,
    key: str | None = None,
) -> Write:
    """Begin a write where a log is kept; `tell` is called when it is decided. Those of one task
    keep their order. `key` as for `execute`. Raises `Refusal`; then nothing was done.
    """
    journal = triode.journal
    assert journal is not None
    check_command(name, command)
    op = operation_of(name, command)
    text = _key_of(command, key)
    known = None if text is None else await make_key(principal, text, op)
    return await journal.submit(op, principal, tell, key=known)


def _key_of(command: dict[str, Any], given: str | None) -> str | None:
    """The key of a write: its own, else the one that was given for it. Raises `Refusal` 400."""
    own = command.get("key")
    return given if own is None else check_key(own)


def _member(command: dict[str, Any], name: str, called: str | None = None) -> Any:
    try:
        return command[name]
    except KeyError:
        raise bad_request(f'"{called or name}" is missing', member=called or name) from None


def _number(by: Any) -> int | float:
    if type(by) not in (int, float):
        raise bad_request('"by" must be a number', member="by")
    number: int | float = by
    return number


async def filter_of(triode: Triode, principal: Principal, command: dict[str, Any]) -> Filter:
    """What a `get` asks for, when the position that it names is here. Raises `Refusal` 400, 403
    without the right to it, and as `position_wait.reach`.
    """
    text = check_filter_text(command.get("filter", command.get("path")))
    at = check_position(command.get("at"), "at")
    [filter] = await readable(triode.gate, principal, [text])
    await reach(triode, at)
    return filter


async def _batch(
    triode: Triode, principal: Principal, command: dict[str, Any], key: str | None
) -> dict[str, Any]:
    ops = command.get("ops")
    if type(ops) is not list:
        raise bad_request('"ops" must be a list of write commands', member="ops")
    # Also of one that is not atomic: its answer, a text for each that is refused, is made at once.
    if len(ops) > MAX_OPS:
        raise Refusal(422, f"more than {MAX_OPS} operations in one batch", extra={"limit": MAX_OPS})
    atomic = command.get("atomic", False)
    if type(atomic) is not bool:
        raise bad_request('"atomic" must be true or false', member="atomic")
    if atomic:
        return await _atomic(triode, principal, ops, key)
    if triode.journal is not None:
        return await _batch_logged(triode, principal, ops, key)
    positions: list[Position | None] = []
    errors: list[dict[str, Any]] = []
    writes: list[Operation | None] = []
    timed = TimedTurn()
    for index, op in enumerate(ops):
        await _give_way(timed)
        writes.append(None)
        try:
            write = writes[-1] = _write_of(op)
            text = _key_of(op, None if key is None else part_of(key, index))
            known = None if text is None else await make_key(principal, text, write)
            positions.append(await triode.write(write, principal, known))
        except Refusal as refusal:
            positions.append(None)
            errors.append({"index": index} | refusal.body())
    return batch_answer(triode.store, writes, positions, errors)


async def _batch_logged(
    triode: Triode, principal: Principal, ops: list[Any], key: str | None
) -> dict[str, Any]:
    """All are begun before the first one is waited for."""
    most = triode.settings.log_pipeline
    begun: list[Write | Refusal] = []
    timed = TimedTurn()
    for index, op in enumerate(ops):
        await _give_way(timed)
        await _settled(begun[index - most] if index >= most else None)
        try:
            name = _write_name(op)
            part = None if key is None else part_of(key, index)
            begun.append(await begin_write(triode, name, op, principal, key=part))
        except Refusal as refusal:
            begun.append(refusal)
    positions: list[Position | None] = []
    errors: list[dict[str, Any]] = []
    ops_done: list[Operation | None] = []
    for index, write in enumerate(begun):
        await _give_way(timed)
        await _settled(write)
        if not isinstance(write, Refusal) and write.error is None:
            positions.append(write.position)
            ops_done.append(cast("Operation", write.op))
            continue
        error = write if isinstance(write, Refusal) else write.error
        assert error is not None
        positions.append(None)
        ops_done.append(None)
        errors.append({"index": index} | refusal_for(triode.metrics, error).body())
    return batch_answer(triode.store, ops_done, positions, errors)


async def _give_way(timed: TimedTurn) -> None:
    """Go on at once, or in the next turn."""
    if timed.is_over:
        await turn()
        timed.begin()


async def _settled(write: Write | Refusal | None) -> None:
    if write is not None and not isinstance(write, Refusal):
        await write.settled()


async def _atomic(
    triode: Triode, principal: Principal, ops: list[Any], key: str | None
) -> dict[str, Any]:
    parts: list[Operation] = []
    timed = TimedTurn()
    for op in ops:
        await _give_way(timed)
        parts.append(_write_of(op))
        if "key" in op:
            raise bad_request("an atomic batch is one write: its key stands beside ops")
    whole = Batch(tuple(parts))
    known = None if key is None else await make_key(principal, key, whole)
    position = await triode.write(whole, principal, known)
    return atomic_answer(triode.store, parts, position)


def _write_of(op: Any) -> Operation:
    name = _write_name(op)
    check_command(name, op)
    return operation_of(name, op)


def _write_name(op: Any) -> str:
    name = name_of(op)
    if name not in WRITES:
        raise bad_request(f"a batch holds writes only, not {name[:64]!r}", member="ops")
    return name


# ── answers ──────────────────────────────────────────────────────────────────────────────────────


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

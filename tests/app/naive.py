"""The writes of docs/wire.md, done the plain way: a second opinion on what a document becomes.

Nothing of `store` is used but its notion of "missing" and of JSON equality. A write is a command
as it goes over the wire, with its path as a tuple in `steps`, and the name that a push has to give
(`pushed_names`) in `name`. Everything is done on copies, a
step at a time; the document after each step is kept, for those who ask what may have been
selected on the way.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import count
from typing import Any

from triode.store.value import MISSING, equal

Steps = tuple[Any, ...]
# The document hangs in a box, so that the root is a place like any other.
Box = dict[str, Any]


class Refused(Exception):
    """The write must be refused, and nothing may have happened."""


def versions(root: Any, command: dict[str, Any]) -> list[Any]:
    """The document after each step of a write; the last is the result. Raises `Refused`."""
    box: Box = {"": copy.deepcopy(root)}
    found = [copy.deepcopy(box[""]) for _ in _steps(box, command)]
    return found or [copy.deepcopy(root)]


def apply(root: Any, command: dict[str, Any]) -> Any:
    """The document after a write, done in place. Raises `Refused`, and may be half done then."""
    box: Box = {"": root}
    for _ in _steps(box, command):
        pass
    return box[""]


def _steps(box: Box, command: dict[str, Any]) -> Iterator[None]:
    kind = command["type"]
    if kind == "batch":
        for part in command["ops"]:
            yield from _steps(box, part)
        return
    path: Steps = command["steps"]
    if kind == "patch":
        _existing(box, path)
        for step in command["patch"]:
            yield from _patch_step(box, path, step)
        return
    if kind == "set" and command.get("create"):
        _create(box, path, copy.deepcopy(command["value"]))
        yield
        return
    holder, key = _place(box, path)
    there = _get(holder, key)
    if kind == "set":
        _put(holder, key, copy.deepcopy(command["value"]))
    elif kind == "merge":
        yield from _merge(holder, key, command["patch"])
    elif kind == "delete":
        _existing(box, path)
        if not path:
            raise Refused("the root")
        del holder[key]
    elif kind == "increment":
        number: Any = 0 if there is MISSING else there
        if type(number) not in (int, float):
            raise Refused("not a number")
        _put(holder, key, number + command["by"])
    elif kind == "append":
        if there is MISSING:
            _put(holder, key, [copy.deepcopy(command["value"])])
        elif type(there) is list:
            there.append(copy.deepcopy(command["value"]))
        else:
            raise Refused("not an array")
    elif kind == "push":
        members = {} if there is MISSING else there
        if type(members) is not dict or command["name"] in members:
            raise Refused("not an object, or the name is taken")
        members[command["name"]] = copy.deepcopy(command["value"])
        _put(holder, key, members)
    yield


def pushed_names(number: int, epoch: str) -> Iterator[str]:
    """What the pushes of the change with this number are called, without a log."""
    for nth in count():
        parts = (number, nth) if nth else (number,)
        yield "".join(map(_in_order, parts)) + f"_{epoch}"


def _in_order(number: int) -> str:
    """Five bits a digit, behind a letter for the number of digits."""
    bits = f"{number:b}"
    size = -(-len(bits) // 5)
    bits = bits.zfill(5 * size)
    digits = "0123456789abcdefghijklmnopqrstuv"
    return chr(ord("a") + size - 1) + "".join(
        digits[int(bits[at : at + 5], 2)] for at in range(0, len(bits), 5)
    )


def _merge(holder: Any, key: Any, patch: Any) -> Iterator[None]:
    """RFC 7396, a member at a time."""
    target = _get(holder, key)
    if type(patch) is dict and type(target) is dict:
        for name, value in patch.items():
            if value is None:
                target.pop(name, None)
                yield
            else:
                yield from _merge(target, name, value)
        return
    _put(holder, key, _without_nulls(copy.deepcopy(patch)))
    yield


def _without_nulls(patch: Any) -> Any:
    if type(patch) is not dict:
        return patch
    return {name: _without_nulls(value) for name, value in patch.items() if value is not None}


def _patch_step(box: Box, base: Steps, step: dict[str, Any]) -> Iterator[None]:
    """RFC 6902, one operation."""
    name = step["op"]
    path = (*base, *_tokens(step["path"]))
    if name == "test":
        try:
            found = _existing(box, path)
        except Refused:
            found = MISSING
        if found is MISSING or not equal(found, step["value"]):
            raise Refused("the test fails")
        return
    if name in ("move", "copy"):
        source = (*base, *_tokens(step["from"]))
        value = copy.deepcopy(_existing(box, source))
        if name == "move":
            if source == path:
                return
            if path[: len(source)] == source:
                raise Refused("into itself")
            _remove_at(box, base, source)
            yield
        _add(box, base, path, value)
    elif name == "remove":
        _remove_at(box, base, path)
    elif name == "replace":
        _existing(box, path)
        _put(*_place(box, path), copy.deepcopy(step["value"]))
    else:
        _add(box, base, path, copy.deepcopy(step["value"]))
    yield


def _add(box: Box, base: Steps, path: Steps, value: Any) -> None:
    holder, key = _place(box, path)
    if type(holder) is list and path != base:
        holder.insert(key, value)
    else:
        _put(holder, key, value)


def _remove_at(box: Box, base: Steps, path: Steps) -> None:
    _existing(box, path)
    if path == base:
        raise Refused("the patch's root")
    holder, key = _place(box, path)
    del holder[key]


def _tokens(pointer: str) -> Steps:
    return tuple(pointer.split("/")[1:])


def _create(box: Box, path: Steps, value: Any) -> None:
    for depth in range(len(path) + 1):
        holder, key = _place(box, path[:depth])
        if _get(holder, key) is MISSING:
            for step in reversed(path[depth:]):
                if type(step) is not str and step != 0:
                    raise Refused("a new array begins at 0")
                value = {step: value} if type(step) is str else [value]
            break
    _put(holder, key, value)


def _place(box: Box, path: Steps) -> tuple[Any, Any]:
    """The container and the actual key of a place; only the parent has to be there."""
    holder: Any = box
    key: Any = ""
    for step in path:
        holder = _get(holder, key)
        if type(holder) is dict and type(step) is str:
            key = step
        elif type(holder) is list:
            key = _index(step, len(holder))
        else:
            raise Refused("no such place")
    return holder, key


def _index(step: Any, length: int) -> int:
    if type(step) is str:
        if step == "-":
            return length
        if not step.isdecimal() or (step[0] == "0" and step != "0"):
            raise Refused("no index")
        step = int(step)
    elif step < 0:
        step += length
    if not 0 <= step <= length:
        raise Refused("beyond the end")
    return int(step)


def _existing(box: Box, path: Steps) -> Any:
    value = _get(*_place(box, path))
    if value is MISSING:
        raise Refused("not there")
    return value


def _get(holder: Any, key: Any) -> Any:
    if type(holder) is list:
        return holder[key] if key < len(holder) else MISSING
    return holder.get(key, MISSING)


def _put(holder: Any, key: Any, value: Any) -> None:
    if type(holder) is list and key == len(holder):
        holder.append(value)
    else:
        holder[key] = value

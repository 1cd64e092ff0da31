"""A place in a given tree: where a path leads (negative indexes and pointer tokens made actual),
what is there, and putting something else there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from triode.store.json_type import MISSING
from triode.store.operation import Invalid, NotFound
from triode.store.path import MAX_SEGMENTS, format_path
from triode.store.untracked import WIDE, untrack

if TYPE_CHECKING:
    from triode.store.json_type import Json, Missing
    from triode.store.path import Path

# RFC 6901 section 4: no leading zeros. More digits than this are no length of a list.
_INDEX = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)


def resolve(root: Json, path: Path) -> tuple[Path, Json | Missing]:
    """The actual path, and the value there; MISSING when only the parent is there.

    In an array a negative index counts from the end, a token of digits is an index, and `-` (or the
    length) is the place behind the last element. Raises NotFound, and Invalid for a path of too
    many segments.
    """
    if len(path) > MAX_SEGMENTS:
        raise Invalid(path, f"the path has more than {MAX_SEGMENTS} segments")
    node: Any = root
    actual = path
    for depth, segment in enumerate(path):
        if type(node) is dict:
            if type(segment) is not str:
                raise _lost(path, depth, "is an object: it has members, no elements")
            node = node.get(segment, MISSING)
        elif type(node) is list:
            index = segment if type(segment) is int else token_index(str(segment), len(node))
            if index < 0:
                index += len(node)
            if index != segment:
                actual = (*actual[:depth], index, *actual[depth + 1 :])
            if not 0 <= index <= len(node):
                raise _lost(path, depth, f"has {len(node)} elements, none at {segment!r}")
            node = node[index] if index < len(node) else MISSING
        elif node is MISSING:
            raise _lost(path, depth, "is not there")
        else:
            raise _lost(path, depth, "is neither object nor array")
    return actual, node


def existing(root: Json, path: Path) -> tuple[Path, Json]:
    """`resolve` for a place that must have a value. Raises NotFound."""
    actual, value = resolve(root, path)
    if value is MISSING:
        raise _lost(path, len(path), "is not there")
    return actual, value


def token_index(text: str, length: int) -> int:
    """The index that a pointer token means; one that is out of range for no index at all."""
    if text == "-":
        return length
    return int(text) if _INDEX.fullmatch(text) else length + 1


def _lost(path: Path, depth: int, why: str) -> NotFound:
    return NotFound(path, f"{format_path(path[:depth])} {why}", about=path[:depth])


def get(root: Json, path: Path) -> Json | Missing:
    """The value at a resolved path, or MISSING. An index into an object, or a name in an array,
    finds nothing.
    """
    node: Any = root
    for segment in path:
        if type(node) is dict:
            node = node.get(segment, MISSING)
        elif type(node) is list and type(segment) is int and 0 <= segment < len(node):
            node = node[segment]
        else:
            return MISSING
    return node  # type: ignore[no-any-return] # JSON


def put(parent: Any, key: str | int, value: Json | Missing) -> Json | Missing:
    """Set, append or remove (MISSING) in place one member of a container; return what was there."""
    if type(parent) is dict:
        if value is MISSING:
            return parent.pop(key, MISSING)  # type: ignore[no-any-return] # JSON
        before = parent.get(key, MISSING)
        parent[key] = value
        if len(parent) > WIDE and (type(value) is dict or type(value) is list):
            untrack(parent)
        return before  # type: ignore[no-any-return] # JSON
    if value is MISSING:
        return parent.pop(key)  # type: ignore[no-any-return] # JSON
    if key == len(parent):
        parent.append(value)
        return MISSING
    before = parent[key]
    parent[key] = value
    return before  # type: ignore[no-any-return] # JSON

"""What a subscriber makes of what it receives: docs/wire.md section 2.3, word for word.

The view of a filter is a map from selected path to value. The first frame of a `snapshot` empties
it, its items fill it. An `update` whose path is at or above selected places replaces them; one
whose path lies inside a selected value sets that place in it (index = length appends). A `delete`
likewise removes.

This is written from the contract alone and knows nothing of how the server thinks; it does not even
parse filters. It is strict: an event that cannot be applied to what was received before raises
`AssemblyFault`, because then something was lost, doubled, or sent to the wrong subscriber. Only a
client that was cut in the middle of a change, and gets the whole of it again, needs a lenient one:
for it what cannot be applied has been applied already.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

Path = tuple[str | int, ...]
View = dict[Path, Any]
Frame = dict[str, Any]

_TOKEN = re.compile(
    r"""\.(?P<name>[^.\[\]"]+) | \.?\[(?P<index>\d+)\] | \.?\[(?P<quoted>"(?:[^"\\]|\\.)*")\]""",
    re.VERBOSE | re.DOTALL,
)
_ABSENT = object()


class AssemblyFault(AssertionError):
    """An event does not fit what came before it."""


class Assembler:
    """The views of one connection, a view per filter."""

    def __init__(self, *, strict: bool = True) -> None:
        self._strict = strict
        self.views: dict[str, View] = {}
        self._open: set[str] = set()

    def take(self, frame: Frame) -> None:
        """Apply one frame; those that carry no state are ignored."""
        kind = frame["type"]
        if kind == "snapshot":
            self._snapshot(frame)
        elif kind in ("update", "delete"):
            view = self.views.get(frame["filter"])
            if view is None:
                raise AssemblyFault(f"{kind} before any snapshot of its filter: {frame}")
            if frame["filter"] in self._open:
                raise AssemblyFault(f"{kind} between the frames of a snapshot: {frame}")
            path = parse(frame["path"])
            try:
                if kind == "update":
                    update(view, path, frame["value"])
                else:
                    delete(view, path, nested=".." in frame["filter"])
            except AssemblyFault as fault:
                if self._strict:
                    raise AssemblyFault(f"{fault}; {frame}") from None

    def assume(self, filter_text: str, view: View) -> None:
        """Begin with a view known from elsewhere (`snapshot=none`, a resumed connection)."""
        self.views[filter_text] = copy.deepcopy(view)

    def forget(self, filter_text: str) -> None:
        """Unsubscribed: an event for it is a fault from now on."""
        self.views.pop(filter_text, None)

    def _snapshot(self, frame: Frame) -> None:
        name = frame["filter"]
        if name not in self._open:
            self.views[name] = {}
        view = self.views[name]
        for item in frame["items"]:
            path = parse(item["path"])
            if path in view and not same(view[path], item["value"]):
                raise AssemblyFault(f"one place with two values in a snapshot: {item['path']}")
            view[path] = item["value"]
        if frame["more"]:
            self._open.add(name)
        else:
            self._open.discard(name)


def update(view: View, path: Path, value: Any) -> None:
    """The place `path` has `value` now."""
    inside = False
    for known in list(view):
        if known == path[: len(known)] and len(known) < len(path):
            inside = True
            _set(view, known, path, copy.deepcopy(value))
        elif path == known[: len(path)]:
            replaced = _look(value, known[len(path) :])
            if replaced is _ABSENT:
                del view[known]
            else:
                view[known] = copy.deepcopy(replaced)
    if not inside and path not in view:
        view[path] = copy.deepcopy(value)


def delete(view: View, path: Path, *, nested: bool = False) -> None:
    """The place `path` is gone."""
    found = False
    for known in list(view):
        if path == known[: len(path)]:
            found = True
            del view[known]
        elif known == path[: len(known)]:
            found = _remove(view[known], path[len(known) :], strict=not nested) or found
    if not found and not nested:
        raise AssemblyFault(f"delete of a place that nobody selected: {path}")


def _set(view: View, known: Path, path: Path, value: Any) -> None:
    holder = _look(view[known], path[len(known) : -1])
    last = path[-1]
    if isinstance(holder, dict) and isinstance(last, str):
        holder[last] = value
    elif isinstance(holder, list) and isinstance(last, int) and last <= len(holder):
        holder[last : last + 1] = [value]
    else:
        raise AssemblyFault(f"update inside {known}, but there is no place {path}")


def _remove(holder: Any, rest: Path, *, strict: bool) -> bool:
    holder, last = _look(holder, rest[:-1]), rest[-1]
    if isinstance(holder, dict) and last in holder:
        del holder[last]
        return True
    if isinstance(holder, list) and last == len(holder) - 1:
        holder.pop()
        return True
    if strict:
        raise AssemblyFault(f"delete of {rest}, which is not there or would move elements")
    return False


def _look(value: Any, path: Path) -> Any:
    for step in path:
        in_object = isinstance(value, dict) and isinstance(step, str) and step in value
        in_array = isinstance(value, list) and isinstance(step, int) and step < len(value)
        if not in_object and not in_array:
            return _ABSENT
        value = value[step]
    return value


def parse(text: str) -> Path:
    """A path as the server prints it: `.users[0].name`, `.prices["BTC-USD"]`, `.` is the root."""
    if text == ".":
        return ()
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise AssemblyFault(f"not a path: {text!r} at {at + 1}")
        if token["index"] is not None:
            steps.append(int(token["index"]))
        elif token["quoted"] is not None:
            steps.append(json.loads(token["quoted"]))
        else:
            steps.append(token["name"])
        at = token.end()
    return tuple(steps)


def items_view(items: list[dict[str, Any]]) -> View:
    """What `GET /store?filter=…` answered, as a view."""
    return {parse(item["path"]): item["value"] for item in items}


def same(a: Any, b: Any) -> bool:
    """JSON equality: 1 is 1.0, and `true` is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a == b
    return type(a) is type(b) and bool(a == b)

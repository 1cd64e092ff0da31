"""What a watcher makes of the events it receives: the values its filters select, and what changed
in them, leaf by leaf.

The view of a filter is a map from selected path to value (docs/wire.md, "Assembling"). Each value
is a
`Document` of its own, so what an update inside it does is said by the code that does it on the
server.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeAlias

from triode.store.change import Edit
from triode.store.document import Document
from triode.store.operation import Delete, Set, WriteError
from triode.store.path import Path, parse_path
from triode.store.value import MISSING, Json, Missing, equal

Item: TypeAlias = tuple[Path, Json]


def value_in(told: dict[str, Any]) -> Json:
    """The value in an `update`, or in an item of a snapshot; a text, where it was too long."""
    return told["value"] if "fetch" not in told else f"too long to be sent: GET {told['fetch']}"


class View:
    """The values that one filter selects."""

    def __init__(self) -> None:
        self._values: dict[Path, Document] = {}
        self._coming: dict[Path, Document] | None = None  # a snapshot in several frames
        self._deepest = 0

    def take(self, kind: str, body: dict[str, Any]) -> Iterator[Edit]:
        """Apply a `snapshot`, `update` or `delete`; the leaves that are different now."""
        if kind == "snapshot":
            return self._snapshot(body)
        path = parse_path(body["path"])
        value = value_in(body) if kind == "update" else MISSING
        return iter([leaf for edit in self._put(path, value) for leaf in leaf_edits(edit)])

    def leaves(self) -> Iterator[Item]:
        """All scalars and empty containers, with their paths, in the order of the document."""
        for path, document in self._values.items():
            yield from leaves(path, document.root)

    def _snapshot(self, body: dict[str, Any]) -> Iterator[Edit]:
        if self._coming is None:
            self._coming = {}
        for item in body["items"]:
            self._coming[parse_path(item["path"])] = Document(value_in(item))
        if body.get("more"):
            return iter(())
        old, self._values, self._coming = self._values, self._coming, None
        self._deepest = max(map(len, self._values), default=0)
        return self._difference(old)

    def _difference(self, old: dict[Path, Document]) -> Iterator[Edit]:
        for path in old | self._values:
            before, after = old.get(path), self._values.get(path)
            yield from leaf_edits(
                Edit(
                    path,
                    MISSING if before is None else before.root,
                    MISSING if after is None else after.root,
                )
            )

    def _put(self, path: Path, value: Json | Missing) -> list[Edit]:
        """The place `path` has `value` now, in every selected value that holds it or lies in it."""
        holders = [path[:length] for length in range(len(path)) if path[:length] in self._values]
        edits: list[Edit] = []
        for known in holders:
            edits += self._put_inside(known, path[len(known) :], value)
        if len(path) < self._deepest:
            edits += self._put_below(path, value)
        if path in self._values or not (holders or isinstance(value, Missing)):
            edits.append(self._replace(path, value))
        return edits

    def _put_inside(self, known: Path, rest: Path, value: Json | Missing) -> list[Edit]:
        document = self._values[known]
        try:
            edits = document.plan(Delete(rest) if value is MISSING else Set(rest, value))
        except WriteError:
            return []  # after a reconnect a change may come twice
        for edit in edits:
            document.apply(edit)
        return [Edit(known + edit.path, edit.before, edit.after) for edit in edits]

    def _put_below(self, path: Path, value: Json | Missing) -> list[Edit]:
        below = [k for k in self._values if len(k) > len(path) and k[: len(path)] == path]
        holder = Document(value) if not isinstance(value, Missing) else None
        return [
            self._replace(known, MISSING if holder is None else holder.get(known[len(path) :]))
            for known in below
        ]

    def _replace(self, path: Path, value: Json | Missing) -> Edit:
        old = self._values.get(path)
        if isinstance(value, Missing):
            del self._values[path]
        else:
            self._values[path] = Document(value)
            self._deepest = max(self._deepest, len(path))
        return Edit(path, MISSING if old is None else old.root, value)


class Views:
    """The views of all the filters of a watch."""

    def __init__(self) -> None:
        self._of: dict[str, View] = {}

    def take(self, kind: str, body: dict[str, Any]) -> list[Edit]:
        """Apply one event; the leaves that changed. Events that carry no state change nothing."""
        if kind not in ("snapshot", "update", "delete"):
            return []
        view = self._of.setdefault(body["filter"], View())
        return list(view.take(kind, body))

    def leaves(self, most: int) -> dict[Path, Json]:
        """The leaves of all views, each place once; the first `most` of them."""
        every = (leaf for view in self._of.values() for leaf in view.leaves())
        return dict(islice(every, most))


def leaves(path: Path, value: Json | Missing) -> Iterator[Item]:
    """The scalars and empty containers in a value, with their paths, in order."""
    pending: list[tuple[Path, Any]] = [(path, value)]
    while pending:
        at, found = pending.pop()
        if isinstance(found, dict) and found:
            pending += [((*at, name), member) for name, member in reversed(found.items())]
        elif isinstance(found, list) and found:
            below = [((*at, index), element) for index, element in enumerate(found)]
            pending += reversed(below)
        elif not isinstance(found, Missing):
            yield at, _kept(found)


def leaf_edits(edit: Edit) -> Iterator[Edit]:
    """What one edit means for single leaves; nothing for those that stay equal."""
    pending: list[Edit] = [edit]
    while pending:
        one = pending.pop()
        path, before, after = one.path, one.before, one.after
        if isinstance(before, dict) and isinstance(after, dict):
            pending += [
                Edit((*path, name), before.get(name, MISSING), after.get(name, MISSING))
                for name in reversed(before | after)
            ]
        elif isinstance(before, list) and isinstance(after, list):
            pending += [
                Edit((*path, index), _at(before, index), _at(after, index))
                for index in reversed(range(max(len(before), len(after))))
            ]
        elif _is_leaf(before) and _is_leaf(after):
            if not _same(before, after):
                yield Edit(path, _kept(before), _kept(after))
        else:
            yield from (Edit(at, value, MISSING) for at, value in leaves(path, before))
            yield from (Edit(at, MISSING, value) for at, value in leaves(path, after))


def _kept(leaf: Any) -> Any:
    """The leaf, as it stays: the view goes on to fill its empty containers."""
    return type(leaf)() if isinstance(leaf, dict | list) else leaf


def _at(elements: list[Any], index: int) -> Json | Missing:
    return elements[index] if index < len(elements) else MISSING


def _is_leaf(value: Json | Missing) -> bool:
    return not isinstance(value, dict | list) or not value


def _same(a: Json | Missing, b: Json | Missing) -> bool:
    if isinstance(a, Missing) or isinstance(b, Missing):
        return a is b
    return equal(a, b)

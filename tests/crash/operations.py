"""Random writes of every kind.

Each has a *mark*: a place and what only this write leaves there. So a write that was never answered
is known by what it did. Labels are numbers that are used once.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.behaviour.assembler import Path, parse

Command = dict[str, Any]

START: dict[str, Any] = {
    "s": {}, "m": {}, "p": {}, "d": {}, "n": {}, "l": {"k0": [], "k1": []}, "if": {},
    "text": "none", "zero": 0, "fence": 0,
}  # fmt: skip
# Of its own places a writer removes one rather than to make one more.
MOST_MADE = 40


@dataclass
class Write:
    """One write. What it leaves at `place` is `value`: None means that the place is gone, a list
    that it ends so, `is_added` that the number there has grown by it.
    """

    label: int
    command: Command
    place: Path
    value: Any
    is_added: bool = False
    # The newest position that was answered when it was sent: its own must be higher.
    after: int = 0

    def steps(self) -> Command:
        """The command with its paths taken apart, as the plain document wants it."""
        return with_steps(self.command)


def with_steps(command: Command) -> Command:
    if command["type"] == "batch":
        return command | {"ops": [with_steps(op) for op in command["ops"]]}
    return command | {"steps": parse(command["path"])}


class Maker:
    """Writes for one writer."""

    def __init__(self, rng: random.Random, labels: itertools.count[int], name: str) -> None:
        self._rng = rng
        self._labels = labels
        self._name = name
        self._mine: list[str] = []
        # Positions that conditions may name.
        self.seen: list[str] = []
        self._kinds: list[Callable[[int], Write]] = [
            self._set, self._set, self._merge, self._patch, self._increment, self._append,
            self._create, self._remove, self._transaction, self._if, self._empty,
            self._no_parent, self._no_number, self._failed_test, self._half_refused,
        ]  # fmt: skip

    def make(self) -> Write:
        """The next write."""
        return self._rng.choice(self._kinds)(next(self._labels))

    def _key(self, most: int = 12) -> str:
        return f"k{self._rng.randrange(most)}"

    def _set(self, label: int) -> Write:
        path = f".s.{self._key()}"
        value = self._rng.choice((label, [label], {"v": label}, f"ü{label}"))
        return Write(label, {"type": "set", "path": path, "value": value}, parse(path), value)

    def _merge(self, label: int) -> Write:
        key = self._key()
        patch = {key: label, f"{key}x": None, f"y{self._key(3)}": {"z": label}}
        return Write(label, {"type": "merge", "path": ".m", "patch": patch}, ("m", key), label)

    def _patch(self, label: int) -> Write:
        key = self._key()
        patch = [
            {"op": "add", "path": f"/{key}", "value": label},
            {"op": "test", "path": f"/{key}", "value": label},
            {"op": "copy", "from": f"/{key}", "path": "/copied"},
            {"op": "move", "from": "/copied", "path": f"/moved{self._key(3)}"},
        ]
        return Write(label, {"type": "patch", "path": ".p", "patch": patch}, ("p", key), label)

    def _increment(self, label: int) -> Write:
        path = f".n.{self._key(4)}"
        command = {"type": "increment", "path": path, "by": label}
        return Write(label, command, parse(path), label, is_added=True)

    def _append(self, label: int) -> Write:
        path = f".l.{self._key(2)}"
        return Write(label, {"type": "append", "path": path, "value": label}, parse(path), [label])

    def _empty(self, label: int) -> Write:
        path = f".l.{self._key(2)}"
        return Write(label, {"type": "set", "path": path, "value": [label]}, parse(path), [label])

    def _create(self, label: int) -> Write:
        if len(self._mine) > MOST_MADE:
            return self._remove(label)
        path = f".d.{self._name}.k{label}"
        self._mine.append(path)
        command = {"type": "set", "path": path, "value": label, "create": True}
        return Write(label, command, parse(path), label)

    def _remove(self, label: int) -> Write:
        if not self._mine:
            return self._create(label)
        # Each once, so it is known by its place. It may not be there: then it is refused.
        path = self._mine.pop(self._rng.randrange(len(self._mine)))
        return Write(label, {"type": "delete", "path": path}, parse(path), None)

    def _transaction(self, label: int) -> Write:
        first = self._set(label)
        parts = [first.command, self._increment(1).command, self._append(label).command]
        command = {"type": "batch", "atomic": True, "ops": parts}
        return Write(label, command, first.place, first.value)

    def _if(self, label: int) -> Write:
        path = f".if.{self._key(3)}"
        command = {"type": "set", "path": path, "value": label}
        if self.seen:
            command["if"] = self._rng.choice(self.seen[-30:])
        return Write(label, command, parse(path), label)

    # ── what must be refused ────────────────────────────────────────────────────────────────────

    def _no_parent(self, label: int) -> Write:
        command = {"type": "set", "path": ".none.deep", "value": label}
        return Write(label, command, ("none", "deep"), label)

    def _no_number(self, label: int) -> Write:
        command = {"type": "increment", "path": ".text", "by": label}
        return Write(label, command, ("text",), label, is_added=True)

    def _failed_test(self, label: int) -> Write:
        patch = [
            {"op": "add", "path": "/bad", "value": label},
            {"op": "test", "path": "/none", "value": label},
        ]
        return Write(label, {"type": "patch", "path": ".p", "patch": patch}, ("p", "bad"), label)

    def _half_refused(self, label: int) -> Write:
        parts = [
            {"type": "set", "path": ".s.bad", "value": label},
            {"type": "set", "path": ".none.deep", "value": label},
        ]
        command = {"type": "batch", "atomic": True, "ops": parts}
        return Write(label, command, ("s", "bad"), label)


def over_http(write: Write) -> tuple[str, str, Any] | None:
    """Method, media type and body of a write as an HTTP request; None if there is no such one."""
    kind = write.command["type"]
    if kind == "set":
        return "PUT", "application/json", write.command["value"]
    if kind == "merge":
        return "PATCH", "application/merge-patch+json", write.command["patch"]
    if kind == "patch":
        return "PATCH", "application/json-patch+json", write.command["patch"]
    if kind == "delete":
        return "DELETE", "application/json", None
    return None


def parameters(write: Write) -> dict[str, str]:
    """What goes with it into the query."""
    command = write.command
    given = {"path": command["path"]}
    if "if" in command:
        given["if"] = command["if"]
    if command.get("create"):
        given["create"] = "true"
    return given

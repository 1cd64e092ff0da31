"""The model: the part of the document that the kit writes, and what each filter is owed for it.

Written from docs/wire.md, Events, alone. The kit's filters are names, `*` and an equality
condition; its paths go through objects only, and every value it writes is unique, so that
an event is known by what it carries and the same loss can never look like two.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from typing import Any, Final, NamedTuple

from tests.behaviour.assembler import Path, View, parse, same

MISSING: Final = object()
ANY: Final = object()


class Write(NamedTuple):
    """A write that the kit asks for: `value` MISSING deletes."""

    path: Path
    value: Any

    def command(self) -> dict[str, Any]:
        """As a command of docs/wire.md, GET /ws."""
        if self.value is MISSING:
            return {"type": "delete", "path": text_of(self.path)}
        return {"type": "set", "path": text_of(self.path), "value": self.value, "create": True}


class Owed(NamedTuple):
    """An event that a filter is owed: the place of its change in the order, and what it says."""

    seq: int
    kind: str
    path: Path
    value: Any

    def key(self) -> tuple[str, Path, str]:
        """What an event is known by when it arrives."""
        return key_of(self.kind, self.path, self.value)

    def __str__(self) -> str:
        return f"{self.kind} {text_of(self.path)} of change {self.seq}"


def key_of(kind: str, path: Path, value: Any) -> tuple[str, Path, str]:
    """What an event is known by: its values are unique, its deletes come in order."""
    return kind, path, "" if value is MISSING else json.dumps(value, sort_keys=True)


def text_of(path: Path) -> str:
    """A path as the kit's names allow it to be written."""
    return "".join(f".{step}" for step in path) or "."


def position_of(text: str) -> tuple[str, int]:
    """EPOCH and SEQ. Raises ValueError when it is not a position."""
    epoch, colon, seq = text.rpartition(":")
    if not (epoch and colon and seq.isascii() and seq.isdigit()):
        raise ValueError(f"not a position: {text!r}")
    return epoch, int(seq)


class Filter:
    """A filter of the kit: `.name`, `.*`, and at its end perhaps `[name=value]`."""

    def __init__(self, text: str) -> None:
        self.text = text
        body, bracket, condition = text.partition("[")
        self._steps = [ANY if step == "*" else step for step in body.split(".")[1:]]
        self._member, self._wanted = "", None
        if bracket:
            self._member, _, wanted = condition.removesuffix("]").partition("=")
            self._wanted = json.loads(wanted)

    def select(self, document: Any) -> View:
        """The places that it selects, with their values."""
        found: View = {(): document}
        for step in self._steps:
            found = {
                (*path, name): value
                for path, holder in found.items()
                if isinstance(holder, dict)
                for name, value in holder.items()
                if step is ANY or name == step
            }
        if not self._member:
            return found
        return {path: value for path, value in found.items() if self._meets(value)}

    def _meets(self, value: Any) -> bool:
        return isinstance(value, dict) and same(value.get(self._member, MISSING), self._wanted)


def owed_for(path: Path, value: Any, before: View, after: View) -> list[tuple[str, Path, Any]]:
    """The events of one change at `path`, for a filter that selected `before` and selects `after`
    (docs/wire.md, Events): cut down from above, as it is from below.
    """
    events: list[tuple[str, Path, Any]] = []
    for place, now in after.items():
        if place == path[: len(place)]:
            inside = place in before
            kind = "delete" if inside and value is MISSING else "update"
            events.append((kind, path, value) if inside else (kind, place, now))
        elif path == place[: len(path)]:
            events.append(("update", place, now))
    events += [("delete", place, MISSING) for place in before if place not in after]
    return events


class Stream:
    """What one filter (or room) is owed, in order; indexes count it from the beginning."""

    def __init__(self) -> None:
        self.events: list[Owed] = []
        self.by_key: dict[tuple[str, Path, str], list[int]] = defaultdict(list)
        self.by_path: dict[Path, list[int]] = defaultdict(list)
        self._seqs: list[int] = []

    def append(self, event: Owed) -> None:
        """Owe one more."""
        index = len(self.events)
        self.events.append(event)
        self._seqs.append(event.seq)
        self.by_key[event.key()].append(index)
        self.by_path[event.path].append(index)

    def after(self, seq: int) -> int:
        """The index of the first event of a later change than `seq`."""
        return bisect_right(self._seqs, seq)

    def inside(self, path: Path) -> list[int]:
        """The indexes of the events at a place or inside it."""
        depth = len(path)
        found = [self.by_path[known] for known in self.by_path if known[:depth] == path]
        return sorted(index for indexes in found for index in indexes)

    def replaced_later(self, index: int) -> bool:
        """Whether the place of event `index`, or one that it lies in, changes again later."""
        path = self.events[index].path
        above = (self.by_path.get(path[:depth], []) for depth in range(len(path) + 1))
        return any(indexes[-1] > index for indexes in above if indexes)


class Model:
    """The kit's part of the document after every write that was accepted."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.epoch = ""
        self.seq = 0
        self.filters: dict[str, Filter] = {}
        self.streams: dict[str, Stream] = {}
        self.rooms: dict[str, Stream] = defaultdict(Stream)
        self._document: dict[str, Any] = {root: {}}
        self._views: dict[str, View] = {}
        # Every state it was in; they share what did not change.
        self._history: list[tuple[int, dict[str, Any]]] = []

    def watch(self, text: str) -> Stream:
        """Follow what a filter is owed, from now on."""
        if text not in self.streams:
            one = self.filters[text] = Filter(text)
            self.streams[text] = Stream()
            self._views[text] = one.select(self._document)
        return self.streams[text]

    def view(self, text: str) -> View:
        """What a filter selects now."""
        return self._views[text]

    def value(self, path: Path) -> Any:
        """What is there now; MISSING when nothing is."""
        return _look(self._document, path)

    def value_at(self, seq: int, path: Path) -> Any:
        """What was there after change `seq`; MISSING when nothing was."""
        index = bisect_right(self._history, seq, key=lambda state: state[0])
        return _look(self._history[index - 1][1], path) if index else MISSING

    def commit(self, write: Write, position: str) -> None:
        """A write was accepted: the document changes, and every filter is owed its events."""
        self.epoch, self.seq = position_of(position)
        # Along the path everything is new, so that states taken before keep what they hold.
        self._document = _with(self._document, write.path, write.value)
        self._history.append((self.seq, self._document))
        for text, one in self.filters.items():
            if not self._concerns(text, write.path):
                continue
            before, after = self._views[text], one.select(self._document)
            for kind, path, value in owed_for(write.path, write.value, before, after):
                self.streams[text].append(Owed(self.seq, kind, path, value))
            self._views[text] = after

    def publish(self, room: str, number: int, data: Any) -> None:
        """A message was accepted for a room."""
        self.rooms[room].append(Owed(number, "message", (), data))

    def adopt(self, value: Any) -> None:
        """After a restart: the kit's part is what the server says, and nothing is owed for it."""
        self._document = {} if value is MISSING else {self.root: value}
        self._views = {text: one.select(self._document) for text, one in self.filters.items()}
        self.streams = {text: Stream() for text in self.filters}
        self._history.clear()

    def _concerns(self, text: str, path: Path) -> bool:
        steps = self.filters[text]._steps
        return all(a is ANY or a == b for a, b in zip(steps, path, strict=False))


def _look(value: Any, path: Path) -> Any:
    for step in path:
        if not isinstance(value, dict) or step not in value:
            return MISSING
        value = value[step]
    return value


def _with(holder: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    copied = dict(holder) if isinstance(holder, dict) else {}
    below = _with(copied.get(str(path[0]), {}), path[1:], value)
    if below is MISSING:
        copied.pop(str(path[0]), None)
    else:
        copied[str(path[0])] = below
    return copied


__all__ = [
    "MISSING",
    "Filter",
    "Model",
    "Owed",
    "Path",
    "Stream",
    "View",
    "Write",
    "key_of",
    "parse",
    "position_of",
    "same",
    "text_of",
]

"""Replays what was answered, in the order of its positions, on a plain document
(`tests.app.naive`), beside what a client has seen of the whole document.

What was sent and not answered may be there or not. Where it is, the client has seen its change, and
it is known by its mark.
"""

from __future__ import annotations

from typing import Any

from tests.app.naive import Refused, apply
from tests.behaviour.assembler import Frame, Path, parse, same
from tests.crash.followers import Follower
from tests.crash.ledger import Ledger, Violation
from tests.crash.operations import Write

GONE = object()


class Checker:
    """The plain document, as it was at the last change that was looked at."""

    def __init__(self, ledger: Ledger, root: Any, seq: int) -> None:
        self._ledger = ledger
        self.root = root
        self.seq = seq
        self._changed: dict[Path, int] = {}
        self.found = 0

    def advance(self, follower: Follower) -> None:
        """Go on with all that a follower of the whole document has seen since. Raises
        `Violation`.
        """
        for seq, frames in follower.changes:
            if seq <= self.seq:
                raise Violation(f"{follower} got {seq} after {self.seq}")
            view = follower.play(frames)
            self._missed(seq)
            write = self._ledger.answered.pop(seq, None) or self._known_by_its_mark(seq, view)
            self._redo(seq, write)
            if not same(self.root, view):
                raise Violation(f"{seq}, {write}: {follower} has {view}, it should be {self.root}")
            self.seq = seq
        follower.changes.clear()
        self._missed(self._ledger.newest + 1)

    def _missed(self, before: int) -> None:
        """Nothing that was answered may be left out."""
        left = [seq for seq in self._ledger.answered if seq < before]
        if left:
            seq = min(left)
            raise Violation(
                f"{seq} was answered and is not there: {self._ledger.answered[seq]}; "
                f"{len(left)} in all"
            )

    def _known_by_its_mark(self, seq: int, view: Any) -> Write:
        for write in self._ledger.unanswered.values():
            if self._has_left_its_mark(write, view):
                del self._ledger.unanswered[write.label]
                self.found += 1
                return write
        for write in self._ledger.refused.values():
            if self._has_left_its_mark(write, view):
                raise Violation(f"{write} was refused, and is there as {seq}")
        raise Violation(f"{seq} is nobody's: it was {self.root}, it became {view}")

    def _has_left_its_mark(self, write: Write, view: Any) -> bool:
        before, after = look(self.root, write.place), look(view, write.place)
        if write.value is None:
            return after is GONE and before is not GONE
        if write.is_added:
            start = 0 if before is GONE else before
            return type(start) is int and bool(after == start + write.value)
        kind = write.command["type"]
        if kind == "append" and isinstance(after, list):
            return bool(after[-1:] == write.value and before != after)
        return after is not GONE and same(after, write.value) and not same(before, after)

    def _redo(self, seq: int, write: Write) -> None:
        if "if" in write.command:
            since = int(write.command["if"].rpartition(":")[2])
            if self._changed.get(write.place, 0) > since:
                raise Violation(f"{write} was done as {seq}, though its place had changed")
        try:
            self.root = apply(self.root, write.steps())
        except Refused as error:
            raise Violation(
                f"{write} was done as {seq}, which has to be refused: {error}"
            ) from None
        self._changed[write.place] = seq

    def forget_unanswered(self) -> int:
        """What has not come to light by now may not come later. How many these are."""
        count = len(self._ledger.unanswered)
        self._ledger.refused |= self._ledger.unanswered
        self._ledger.unanswered.clear()
        return count


def look(value: Any, path: Path) -> Any:
    """The value at a place, or `GONE`."""
    for step in path:
        if isinstance(value, dict) and step in value:
            value = value[step]
        else:
            return GONE
    return value


def changes_differ(one: Follower, two: Follower) -> str:
    """Where two clients of one filter saw different things; empty: nowhere."""
    ours, others = dict(one.changes), dict(two.changes)
    for seq in sorted(ours.keys() | others.keys()):
        if content(ours.get(seq)) != content(others.get(seq)):
            return f"{seq}: {one} got {ours.get(seq)}, {two} got {others.get(seq)}"
    return ""


def content(frames: list[Frame] | None) -> list[Any] | None:
    """What a change said, without what differs between transports."""
    if frames is None:
        return None
    return [(frame["type"], frame["path"], frame.get("value")) for frame in frames]


def selected(root: Any, filter: str) -> dict[Path, Any]:
    """What a filter selects: a place, or with `.*` behind it all places in it."""
    path = parse(filter.removesuffix(".*"))
    value = look(root, path)
    if value is GONE:
        return {}
    if filter.endswith(".*"):
        return {(*path, key): member for key, member in value.items()}
    return {path: value}

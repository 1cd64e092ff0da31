"""Places that end by themselves: what a write says of that, and the entry that carries it out.

marks of a plan    (path, BELOW)     the place was replaced or removed
                   (path, NO_END)    it was written, and has no time to live now
                   (path, 5000)      it ends 5000 ms later
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from triode.store.change import Edit, growth
from triode.store.deadlines import STEP_MS
from triode.store.json_type import MISSING
from triode.store.operation import Invalid, TooManyDeadlines
from triode.store.path import format_path
from triode.store.plan import BELOW, NO_END
from triode.store.resolve import get

if TYPE_CHECKING:
    from collections.abc import Iterable

    from triode.store.deadlines import Deadlines
    from triode.store.json_type import Json
    from triode.store.operation import Expire
    from triode.store.path import Path
    from triode.store.plan import Mark
    from triode.store.work import Work

# All names of a path together, and their number: what a deadline costs, to keep and to look up.
MAX_NAMES: Final = 1024
MAX_DEPTH: Final = 32
# Of one write, an atomic batch for example: they are set in one step.
MAX_AT_ONCE: Final = 1000
_NAMES_A_STEP: Final = 8


def require_lasting(root: Json, path: Path) -> None:
    """Raises Invalid for a place that can have no deadline: the root, and what lies in an array."""
    if not path:
        raise Invalid(path, "the whole document cannot have a ttl")
    node: Any = root
    for name in path:
        if type(name) is int or type(node) is list:
            raise Invalid(
                path,
                f"{format_path(path)} is in an array, whose elements move: only members of objects "
                "can have a ttl (push adds one)",
            )
        node = node.get(name, MISSING) if type(node) is dict else MISSING
    if len(path) > MAX_DEPTH:
        raise Invalid(path, f"a place more than {MAX_DEPTH} levels deep cannot have a ttl")
    if sum(len(name) for name in path if type(name) is str) > MAX_NAMES:
        raise Invalid(path, f"names of more than {MAX_NAMES} characters cannot have a ttl")


def in_effect(deadlines: Deadlines, marks: list[Mark], work: Work) -> tuple[Mark, ...]:
    """Those marks that concern a deadline that there is, or one that the same write sets. Raises
    TooManyDeadlines.
    """
    new = {path for path, ttl in marks if ttl >= 0}
    if len(new) > MAX_AT_ONCE:
        path = next(iter(new))
        raise Invalid(path, f"a write sets the ttl of {MAX_AT_ONCE} places at most; send several")
    require_room(deadlines, new)
    ways: dict[Any, Any] = {}
    for path in new:
        work.charge(1 + len(path) // _NAMES_A_STEP)
        node = ways
        for name in path:
            node = node.setdefault(name, {})
    told = []
    for mark in marks:
        work.charge(1)
        if _leads_on(ways, mark[0]) or deadlines.reaches(mark[0]):
            told.append(mark)
    return tuple(told)


def _leads_on(ways: dict[Any, Any], path: Path) -> bool:
    """Whether one of the ways begins like that."""
    node: Any = ways
    for name in path:
        node = node.get(name)
        if node is None:
            return False
    return bool(ways)


def require_room(deadlines: Deadlines, new: set[Path]) -> None:
    """Raises TooManyDeadlines when there would be more than may be."""
    most = deadlines.most
    if most is None:
        return
    more = sum(deadlines.find(path) is None for path in new)
    if more and len(deadlines) + more > most:
        raise TooManyDeadlines(
            next(iter(new)), f"{len(deadlines)} places have a ttl; {most} may have one"
        )


def carry_out(deadlines: Deadlines, root: Json, marks: Iterable[Mark], time_ms: int) -> None:
    """What these marks say holds from now on; `root` is the document after the write."""
    for path, ttl in marks:
        if ttl == BELOW:
            deadlines.take_below(path)
        elif ttl == NO_END:
            deadlines.take(path)
        elif get(root, path) is not MISSING:
            due = time_ms + ttl
            deadlines.put(path, -(-due // STEP_MS) * STEP_MS)


def plan_expire(
    root: Json, deadlines: Deadlines, op: Expire, work: Work
) -> tuple[list[Edit], int, int]:
    """The edits that remove those of the places whose time had come at `op.at_ms`: none that was
    renewed or written meanwhile. By how much the document grows, as JSON and in memory.
    """
    ended: set[Path] = set()
    for path in op.paths:
        due = deadlines.find(path)
        if due is not None and due <= op.at_ms:
            ended.add(path)
    edits: list[Edit] = []
    grown = swollen = 0
    for path in dict.fromkeys(op.paths):
        work.charge(1)
        if path not in ended or any(path[:depth] in ended for depth in range(1, len(path))):
            continue
        edit = Edit(path, get(root, path), MISSING)
        more = growth(edit, work)
        edits.append(edit)
        grown += more[0]
        swollen += more[1]
    return edits, grown, swollen

"""Coverage: whether all that one filter can select lies at or below what another selects.

This decides what a grant permits, so it must never say yes wrongly; a wrong no only costs a
permitted client a clearer filter. Both filters are walked together, from nodes that are the same
for both. Two facts shape the rules:

*Conditions change the step with the data.* ``.users[role=admin]`` goes to the elements when
``.users`` is an array and stays when it is an object. So ``.users[*].name`` does NOT cover
``.users[role=admin].name``: on ``{"users": {"role": "admin", "name": "x"}}`` the second selects
``.users.name``, the first nothing.

*Conditions read what they test.* With ``.users[*].name`` granted, being allowed to ask
``[pin<5000]`` of the users would tell every pin in a few questions although no pin is ever sent.
So a condition may be asked only on nodes which the grant gives whole, or where the grant makes
the same test.

The same two rules bound JSONPath by its fixed prefix: its conditions look at or below it (a
prefix is ``()`` when they do not), and nothing is known of its steps beyond.
"""

from __future__ import annotations

from functools import cache

from triode.store.path import Path
from triode.store.segment import (
    Conditions,
    Descent,
    Elements,
    Index,
    Members,
    Name,
    Segment,
    Slice,
    Token,
)

Segments = tuple[Segment, ...]


def covers_segments(granted: Segments, asked: Segments) -> bool:
    """Whether ``granted`` covers ``asked``; sound for every document."""

    @cache
    def inside(i: int, j: int) -> bool:
        """Whether granted[i:] covers asked[j:], both taken from the same node."""
        if i == len(granted):
            return True
        if j == len(asked):
            return False
        if isinstance(granted[i], Descent):
            return any(inside(i + 1, k + 1) for k in _reached(granted[i], asked, j))
        if not _covers_step(granted[i], asked[j], whole=i + 1 == len(granted)):
            return False
        return inside(i + 1, j + 1)

    return inside(0, 0)


def can_cover(granted: Segments, path: Path) -> bool:
    """Whether ``granted`` may cover the place that ``path`` names, in some document: in an array a
    text means an index. Never false wrongly.
    """
    for depth, step in enumerate(granted):
        if isinstance(step, Descent):
            return True
        if depth == len(path) or not _can_take(step, path[depth]):
            return False
    return True


def _can_take(granted: Segment, segment: str | int) -> bool:
    match granted:
        case Name(key):
            return key == segment
        case Members():
            return isinstance(segment, str)
        case Index(i):
            return isinstance(segment, str) or segment == i
    return True


def _reached(granted: Segment, asked: Segments, j: int) -> list[int]:
    """Where asked[j:] steps for certain to a member that the granted descent selects."""
    places: list[int] = []
    for k in range(j, len(asked)):
        step = asked[k]
        if isinstance(step, Conditions):
            break  # would read what is between, see the top
        if isinstance(step, (Name, Descent)) and Descent(step.key) == granted:
            places.append(k)
    return places


def _covers_step(granted: Segment, asked: Segment, *, whole: bool) -> bool:
    """Whether one granted step covers one asked step; ``whole``: the grant ends with it."""
    if granted == asked:
        return True
    match granted:
        case Members():
            return isinstance(asked, Name)
        case Elements():
            return isinstance(asked, (Index, Slice))
        case Token(text):
            return asked in (Name(text), Index(int(text)))
        case Slice():
            return isinstance(asked, (Index, Slice)) and _within(granted, asked)
        case Conditions(tests):
            if not isinstance(asked, Conditions):
                return False
            more = set(asked.tests) - set(tests)
            return set(tests) <= set(asked.tests) and (whole or not more)
    return False


def _within(granted: Slice, asked: Index | Slice) -> bool:
    """Whether ``asked`` lies in ``granted`` at any length; bounds from the end are not compared."""
    if isinstance(asked, Index):
        asked = Slice(asked.i, asked.i + 1)
    low, high = asked.start or 0, asked.stop
    if min(granted.start or 0, granted.stop or 0, low, high or 0) < 0:
        return False
    if low < (granted.start or 0):
        return False
    return granted.stop is None or (high is not None and high <= granted.stop)

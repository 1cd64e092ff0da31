"""I-Regexp patterns (RFC 9485): a Thompson automaton, made deterministic as far as subjects lead
into it. Patterns come from users, so they must not backtrack: the time is proportional to the
subject, whatever the pattern.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final

from triode.store.lru_cache import LruCache
from triode.store.work import Work

MAX_STATES = 1000
MAX_PATTERN_CHARS = 512
MAX_NESTING = 32
PATTERN_BYTES = 1024 * 1024
COMPILE_STEPS = 20
COMPILED_A_STEP = 2
# So many states that are gone through, or ranges that are asked, are a step.
STATES_A_STEP = 4
RANGES_A_STEP = 6

_QUANTITY = re.compile(r"\{[0-9]+(,?)[0-9]*\}", re.ASCII)

Admits = Callable[[str], bool]
# What it is; of "char" the class, and how many ranges that has; of "split" its two targets.
Code = list[tuple[str, Admits | None, int, int]]
Emit = Callable[[Code], None]


class Pattern:
    """A compiled I-Regexp; ``^`` and ``$`` are anchors, as the compliance suite has it."""

    __slots__ = ("_admits", "_known", "_one", "_other", "_sets", "_what")

    def __init__(self, code: Code) -> None:
        # In columns: a tuple for each state would be one more object for the garbage collector, a
        # thousand a pattern.
        self._what = [what for what, _, _, _ in code]
        self._admits = [admits for _, admits, _, _ in code]
        self._one = [one for _, _, one, _ in code]
        self._other = [other for _, _, _, other in code]
        self._known: dict[tuple[frozenset[int], str, bool, bool], frozenset[int] | None] = {}
        # Each set of states once: two that are equal would be compared at each character.
        self._sets: dict[frozenset[int], frozenset[int]] = {}

    @property
    def states(self) -> int:
        """How many states it has."""
        return len(self._what)

    def matches(self, text: str, work: Work, *, whole: bool) -> bool:
        """Whether ``text`` (``whole``) or some part of it matches; linear in its length."""
        at = self._set(frozenset((0,)))
        for i, char in enumerate(text):
            work.charge(1)
            key = (at, char, i == 0, whole)
            if key not in self._known:
                self._remember(key, work)
            onward = self._known[key]
            if not onward:
                return onward is None
            at = onward
        return self.states - 1 in self._closure(at, work, start=not text, end=True)

    def _set(self, states: frozenset[int]) -> frozenset[int]:
        return self._sets.setdefault(states, states)

    def _remember(self, key: tuple[frozenset[int], str, bool, bool], work: Work) -> None:
        """Work out one step: where ``char`` leads; None when a match is found already."""
        at, char, start, whole = key
        if len(self._known) * self.states > 20_000:  # bounds the memory of a pattern
            self._known.clear()
            self._sets.clear()
        reached = self._closure(at, work, start=start, end=False)
        if not whole and self.states - 1 in reached:
            self._known[key] = None
            return
        # A quantity repeats its class, with all its ranges: each is asked once.
        asked: dict[Admits, bool] = {}
        onward: set[int] = set()
        for pc in reached:
            admits = self._admits[pc]
            if admits is None:
                continue
            if admits not in asked:
                work.charge(1 + self._one[pc] // RANGES_A_STEP)
                asked[admits] = admits(char)
            if asked[admits]:
                onward.add(pc + 1)
        # A search may also begin at the next character.
        self._known[key] = self._set(frozenset(onward if whole else onward | {0}))

    def _closure(self, at: frozenset[int], work: Work, *, start: bool, end: bool) -> set[int]:
        """What can be reached without a character. It is charged when it is known how much that is:
        a pattern has a thousand states at most.
        """
        reached: set[int] = set()
        todo = list(at)
        while todo:
            pc = todo.pop()
            if pc in reached:
                continue
            reached.add(pc)
            what = self._what[pc]
            if what == "split":
                todo += (self._one[pc], self._other[pc])
            elif (what == "start" and start) or (what == "end" and end):
                todo.append(pc + 1)
        work.charge(1 + len(reached) // STATES_A_STEP)
        return reached


class _TooLarge(Exception):
    pass


# What a pattern remembers grows to about a megabyte.
PATTERNS: Final[LruCache[Pattern | str]] = LruCache(max_bytes=64 * PATTERN_BYTES)


def parse_pattern(text: str, work: Work) -> Pattern | str:
    """The pattern, or NOT_IREGEXP, or TOO_LARGE. Raises TooCostly; one that is known is free."""
    known = PATTERNS.get(text)
    if known is None:
        work.charge(COMPILE_STEPS + min(len(text), MAX_PATTERN_CHARS))
        known = _compile(text)
        is_pattern = isinstance(known, Pattern)
        PATTERNS.put(text, known, PATTERN_BYTES if is_pattern else len(text))
        # Of states there may be far more than characters, which is known only now. One that is too
        # large has had as many as there may be.
        states = known.states if isinstance(known, Pattern) else MAX_STATES * (known is TOO_LARGE)
        work.charge(states // COMPILED_A_STEP)
    return known


def _compile(text: str) -> Pattern | str:
    if len(text) > MAX_PATTERN_CHARS:
        return TOO_LARGE
    # Here, because a server that nobody sends patterns keeps the memory; JSONPath has loaded it.
    from iregexp_check import check

    # The checker refuses quantities above 9, RFC 9485 does not; their size is our matter.
    if not check(_QUANTITY.sub(r"{1\1}", text)):
        return NOT_IREGEXP
    code: Code = []
    try:
        _alternatives(_Cursor(text), 0)(code)
    except _TooLarge:
        return TOO_LARGE
    return Pattern([*code, ("match", None, 0, 0)])


NOT_IREGEXP = "not an I-Regexp"
TOO_LARGE = "too large"


class _Cursor:
    """The text of a conforming pattern; what ``check`` has seen is not checked again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def here(self) -> str:
        return self.text[self.at : self.at + 1]

    def next(self) -> str:
        self.at += 1
        return self.text[self.at - 1]

    def until(self, end: str) -> str:
        stop = self.text.index(end, self.at)
        found, self.at = self.text[self.at : stop], stop + 1
        return found


def _add(code: Code, what: str, admits: Admits | None = None, one: int = 0, other: int = 0) -> None:
    if len(code) >= MAX_STATES:
        raise _TooLarge
    code.append((what, admits, one, other))


def _alternatives(cursor: _Cursor, depth: int) -> Emit:
    if depth > MAX_NESTING:
        raise _TooLarge
    branches = [_branch(cursor, depth)]
    while cursor.here() == "|":
        cursor.next()
        branches.append(_branch(cursor, depth))

    def emit(code: Code) -> None:
        jumps: list[int] = []
        for branch in branches[:-1]:
            fork = len(code)
            _add(code, "split")
            branch(code)
            jumps.append(len(code))
            _add(code, "split")
            code[fork] = ("split", None, fork + 1, len(code))
        branches[-1](code)
        for jump in jumps:
            code[jump] = ("split", None, len(code), len(code))

    return emit


def _branch(cursor: _Cursor, depth: int) -> Emit:
    pieces: list[Emit] = []
    while cursor.here() not in ("", "|", ")"):
        piece = _atom(cursor, depth)
        pieces.append(_repeated(piece, *_quantifier(cursor)))

    def emit(code: Code) -> None:
        for piece in pieces:
            piece(code)

    return emit


def _quantifier(cursor: _Cursor) -> tuple[int, int | None]:
    simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
    if cursor.here() in simple:
        return simple[cursor.next()]
    if cursor.here() != "{":
        return 1, 1
    cursor.next()
    low, comma, high = cursor.until("}").partition(",")
    return int(low), (int(high) if high else None) if comma else int(low)


def _repeated(piece: Emit, low: int, high: int | None) -> Emit:
    if (low, high) == (1, 1):
        return piece
    if max(low, high or 0) > MAX_STATES:
        raise _TooLarge

    if high is not None and high < low:
        return lambda code: _add(code, "char", lambda c: False)

    def emit(code: Code) -> None:
        for _ in range(low):
            size = len(code)
            piece(code)
            if len(code) == size:
                break  # "()" many times
        forks: list[int] = []
        for _ in range(1 if high is None else high - low):
            forks.append(len(code))
            _add(code, "split")
            piece(code)
        if high is None:
            _add(code, "split", None, forks[0], forks[0])
        for fork in forks:
            code[fork] = ("split", None, fork + 1, len(code))

    return emit


def _atom(cursor: _Cursor, depth: int) -> Emit:
    char = cursor.next()
    if char == "(":
        inner = _alternatives(cursor, depth + 1)
        cursor.next()
        return inner
    if char in "^$":
        return lambda code: _add(code, "start" if char == "^" else "end")
    begun = cursor.at
    admits = _class(cursor) if char == "[" else _single(cursor, char)
    # No range is shorter than a character.
    ranges = cursor.at - begun
    return lambda code: _add(code, "char", admits, ranges)


def _single(cursor: _Cursor, char: str) -> Admits:
    if char == ".":
        return lambda c: c not in "\r\n"
    if char == "\\" and cursor.here() in ("p", "P"):
        return _category(cursor)
    char = _escaped(cursor, char)
    return lambda c: c == char


def _category(cursor: _Cursor) -> Admits:
    negated = cursor.next() == "P"
    cursor.next()
    name = cursor.until("}")
    return lambda c: unicodedata.category(c).startswith(name) is not negated


def _escaped(cursor: _Cursor, char: str) -> str:
    if char != "\\":
        return char
    char = cursor.next()
    return {"n": "\n", "r": "\r", "t": "\t"}.get(char, char)


def _class(cursor: _Cursor) -> Admits:
    negated = cursor.here() == "^"
    cursor.at += negated
    admits: list[Admits] = []
    while (char := cursor.next()) != "]":
        if char == "\\" and cursor.here() in ("p", "P"):
            admits.append(_category(cursor))
            continue
        low = high = _escaped(cursor, char)
        if cursor.here() == "-" and cursor.text[cursor.at + 1] != "]":
            cursor.next()
            high = _escaped(cursor, cursor.next())
        admits.append(lambda c, low=low, high=high: low <= c <= high)  # type: ignore[misc] # of a lambda with defaults
    return lambda c: any(admit(c) for admit in admits) is not negated

"""What a principal may do.

A grant is `{"read":[filter…],"write":[filter…],"rooms":[glob…],"metrics":bool,"admin":bool}`. What
is not granted is denied: an absent list is an empty one, and `metrics` and `admin` are false unless
they say true. Who may administer may read the metrics, too. Everything is said as `"*"`, alone or
in a list; for `read` and `write` also as the root, `"."`. Unknown members (a misspelt `reads`),
null and empty strings are refused.

Whether one selection lies within another is the document's business: `covers(granted, asked)` is
passed in, and everything here is as sound as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from triode.limits.known import first_unknown
from triode.store.cache import Cache, weight_of

Covers = Callable[[str, str], bool]
Scope = tuple[str, ...]

MAX_ENTRIES: Final = 256
MAX_CHARS: Final = 4_096
MAX_GLOB_CHARS: Final = 256

MEMBERS: Final = ("read", "write", "rooms", "metrics", "admin")
_LISTS = MEMBERS[:3]
_FLAGS = MEMBERS[3:]

EVERYTHING: Final = "*"
ALL: Final[Scope] = (EVERYTHING,)
# Entries of `read` and `write` that select the whole document, in each notation that has one.
_ROOTS: Final = (EVERYTHING, ".", "$")


@dataclass(frozen=True, slots=True)
class Grant:
    """What is in no list is denied. `ALL` is the scope that holds everything, and then it is
    alone in its list.
    """

    read: Scope = ()
    write: Scope = ()
    rooms: Scope = ()
    metrics: bool = False
    admin: bool = False
    # Whether it grants to read and to write everything: asked for each write.
    reaches_all: bool = field(init=False, repr=False, compare=False, default=False)

    def __post_init__(self) -> None:
        # However it was said, everything is one value: comparing it is all that is left to do.
        for member in _LISTS:
            roots = (EVERYTHING,) if member == "rooms" else _ROOTS
            if any(root in getattr(self, member) for root in roots):
                object.__setattr__(self, member, ALL)
        object.__setattr__(self, "reaches_all", self.read == self.write == ALL)

    @classmethod
    def from_json(cls, data: object, *, check: Callable[[str], object] | None = None) -> Grant:
        """The grant that a JSON object states.

        `check`, when given, is called with each filter of `read` and `write` and raises ValueError
        for a malformed one. Raises ValueError naming the member at fault.
        """
        if not isinstance(data, dict):
            raise ValueError("a grant must be an object")
        unknown = first_unknown("member", data, MEMBERS)
        if unknown is not None:
            raise ValueError(f"grant: {unknown}")
        flags = {name: data.get(name, False) for name in _FLAGS}
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise ValueError(f"grant: {name} must be true or false")
        return cls(
            read=_scope(data, "read", check),
            write=_scope(data, "write", check),
            rooms=_scope(data, "rooms", _check_glob),
            **flags,
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON object, with all of its members."""
        lists: dict[str, Any] = {member: list(getattr(self, member)) for member in _LISTS}
        return lists | {name: getattr(self, name) for name in _FLAGS}

    @property
    def may_read_metrics(self) -> bool:
        """True for an admin, too."""
        return self.metrics or self.admin

    def may_read(self, filter_text: str, covers: Covers) -> bool:
        """True when one granted filter covers all that the asked one can select."""
        return _covered(self.read, filter_text, covers)

    def may_write(self, path_text: str, covers: Covers) -> bool:
        """True when one granted filter covers the place to be written."""
        return _covered(self.write, path_text, covers)

    def may_room(self, name: str) -> bool:
        """True when a granted glob matches the whole name of the room."""
        return any(glob_matches(glob, name) for glob in self.rooms)

    def within(self, other: Grant, covers: Covers) -> bool:
        """True when nothing is granted here that `other` lacks, so its holder may issue this."""
        return (
            (other.admin or not self.admin)
            and (other.may_read_metrics or not self.metrics)
            and _scope_within(self.read, other.read, covers)
            and _scope_within(self.write, other.write, covers)
            and _scope_within(self.rooms, other.rooms, glob_covers)
        )

    def union(self, other: Grant) -> Grant:
        """All that either grants."""
        return Grant(
            read=_scope_union(self.read, other.read),
            write=_scope_union(self.write, other.write),
            rooms=_scope_union(self.rooms, other.rooms),
            metrics=self.metrics or other.metrics,
            admin=self.admin or other.admin,
        )


FULL: Final = Grant(ALL, ALL, ALL, admin=True)
NONE: Final = Grant()


# ---- scopes ----


def _scope(data: dict[str, Any], member: str, check: Callable[[str], object] | None) -> Scope:
    if member not in data:
        return ()
    entries = data[member]
    if entries == EVERYTHING:
        return ALL
    if not isinstance(entries, list):
        raise ValueError(f'grant: {member} must be a list, or "*" to grant everything')
    if len(entries) > MAX_ENTRIES:
        raise ValueError(f"grant: {member} has more than {MAX_ENTRIES} entries")
    for index, entry in enumerate(entries):
        _check_entry(f"{member}[{index}]", entry, check)
    return tuple(dict.fromkeys(entries))


def _check_entry(where: str, entry: object, check: Callable[[str], object] | None) -> None:
    if not isinstance(entry, str) or not entry:
        raise ValueError(f"grant: {where} must be a string that is not empty")
    if len(entry) > MAX_CHARS:
        raise ValueError(f"grant: {where} is longer than {MAX_CHARS} characters")
    if check is None or entry == EVERYTHING:
        return
    try:
        check(entry)
    except ValueError as exc:
        raise ValueError(f"grant: {where}: {exc}") from exc


def _check_glob(glob: str) -> None:
    if len(glob) > MAX_GLOB_CHARS:
        raise ValueError(f"a glob is at most {MAX_GLOB_CHARS} characters")


def _covered(scope: Scope, asked: str, covers: Covers) -> bool:
    return scope == ALL or any(covers(granted, asked) for granted in scope)


def _scope_within(inner: Scope, outer: Scope, covers: Covers) -> bool:
    if outer == ALL:
        return True
    return inner != ALL and all(_covered(outer, text, covers) for text in inner)


def _scope_union(one: Scope, two: Scope) -> Scope:
    return tuple(dict.fromkeys((*one, *two)))


# ---- room globs: `*` (any run, also none) and `?` (one code point), anchored at both ends ----


def glob_matches(glob: str, name: str) -> bool:
    """True when the glob matches the whole name. Linear in the name's length for a given glob."""
    if "*" not in glob and "?" not in glob:
        return glob == name
    return GLOBS[glob].fullmatch(name) is not None


def glob_covers(granted: str, asked: str) -> bool:
    """True when every name that `asked` matches is matched by `granted`.

    The asked glob is read as a name in which `?` and `*` stand for themselves: a granted `?` takes
    a literal or a `?`, a granted `*` takes anything. Never true wrongly, and always found when
    `granted` has no `?`; with one, an inclusion such as `?*a` in `??*` is missed.
    """
    return _glob_covers(_tidy(granted), _tidy(asked))


def _tidy(glob: str) -> str:
    return re.sub(r"[*?]{2,}", _tidy_run, glob)


def _tidy_run(run: re.Match[str]) -> str:
    return "?" * run[0].count("?") + "*" * ("*" in run[0])


def _glob_covers(granted: str, asked: str) -> bool:
    at = star = 0  # star: one past the last `*` seen in granted, 0 for none
    taken = 0  # where in asked that star's run ends at present
    pos = 0
    while pos < len(asked):
        if at < len(granted) and granted[at] == "*":
            at += 1
            star, taken = at, pos
        elif at < len(granted) and _takes(granted[at], asked[pos]):
            at += 1
            pos += 1
        elif star:
            taken += 1
            at, pos = star, taken
        else:
            return False
    return granted[at:].strip("*") == ""


def _takes(granted: str, asked: str) -> bool:
    return granted == asked or (granted == "?" and asked != "*")


def _compiled(glob: str) -> re.Pattern[str]:
    """The glob as a pattern that never goes back over a run once it is placed.

    The first place where a piece between two stars fits is always good enough, so each is an
    atomic group; without that, k stars cost length ** k.
    """
    head, *rest = re.split(r"\*+", glob)
    if not rest:
        return re.compile(_piece(head), re.DOTALL)
    *middle, tail = rest
    groups = "".join(f"(?>.*?{_piece(piece)})" for piece in middle)
    return re.compile(f"{_piece(head)}{groups}.*{_piece(tail)}", re.DOTALL)


def _piece(text: str) -> str:
    return "".join("." if char == "?" else re.escape(char) for char in text)


GLOBS: Final[Cache[str, re.Pattern[str]]] = Cache(
    _compiled,
    lambda glob, pattern: weight_of((glob, pattern, pattern.pattern)),
    max_bytes=4 * 1024 * 1024,
)

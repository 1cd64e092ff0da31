"""Filters: texts that select places of the document.

    .users[*].name    .positions[trader=abc][open=true]    .log[-5:]    ..price
    $.users[?@.age > 30]    /users/0

Three languages, told apart by the first character: ``$`` is RFC 9535 JSONPath
(``store/jsonpath.py``), ``/`` an RFC 6901 pointer, all else our own, which is a path
(``store/path.py``) whose steps may select many places:

    filter    = "" / "." / 1*segment              ; "." may also stand before a first bracket
    segment   = "." bare / "." "*" / ".." ( bare / quoted-in-brackets )
              / "[" ( quoted / integer / "*" / [integer] ":" [integer] / condition ) "]"
    condition = ( key / quoted ) ( "=" / "!=" / "<" / "<=" / ">" / ">=" ) ( quoted / word )
    bare      = 1*( any character but . [ ] " )    ; "*" alone is the wildcard
    key, word = as bare, a word with dots too; blanks around them do not count; for these use quotes

A word is ``true``, ``false``, ``null``, a number if it is one in JSON, else a string. An empty
word and a word that begins with ``=`` are refused: who writes ``[a==1]`` or ``[a=]`` would
otherwise wait for a match that never comes.

Parsing is cached, bounded in bytes; filters are immutable, and equal by their text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from triode.store.cache import Cache, weight_of
from triode.store.condition import OPERATORS, Literal, Test
from triode.store.coverage import covers_segments
from triode.store.lru_cache import LruCache
from triode.store.path import EMPTY, OUT_OF_RANGE, FilterError, Path, Reader, parse_pointer
from triode.store.segment import (
    Conditions,
    Descent,
    Elements,
    Index,
    Members,
    Name,
    Node,
    Segment,
    Slice,
    Token,
)
from triode.store.value import Json
from triode.store.work import FREE, Work

if TYPE_CHECKING:
    from triode.store.jsonpath import Query

__all__ = [
    "Conditions",
    "Descent",
    "Elements",
    "Filter",
    "FilterError",
    "Index",
    "Members",
    "Name",
    "Segment",
    "Slice",
    "Test",
    "Token",
    "covers",
    "parse_filter",
    "split_filters",
    "tells_elements_apart",
]

_SLICE = re.compile(r"-?[0-9]*:")
_KEY = re.compile(r'(?:[^.\[\]"=<>!]|!(?!=))*')
_BLANKS = re.compile(r" *")
_WORD = re.compile(r'[^\[\]"]*')
# What it takes to read one.
_SEGMENT_STEPS = 4
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_POINTER_INDEX = re.compile(r"0|[1-9][0-9]*", re.ASCII)
_WORDS: dict[str, Literal] = {"true": True, "false": False, "null": None}
# Where the next filter begins, also an empty one: that is refused, not passed over.
_NEXT_FILTER = re.compile(r", *(?=[.$/\[,]|$)")


class Filter:
    """A parsed filter. Immutable; equal and hashed by its text.

    ``segments``  its steps; None for JSONPath ``is_path``   it names exactly one place; then
    ``path`` is that place, as ``parse_path`` gives it ``prefix``    the longest fixed beginning:
    everything selected, and everything looked at, lies at or below it ``indexable`` only names,
    indexes from the start, ``[*]``, ``.*`` and conditions
    """

    __slots__ = ("_query", "indexable", "is_path", "path", "prefix", "segments", "text")

    text: str
    segments: tuple[Segment, ...] | None
    path: Path | None
    is_path: bool
    prefix: Path
    indexable: bool

    def __init__(self, text: str, source: tuple[Segment, ...] | Query) -> None:
        self.text = text
        self._query = None if isinstance(source, tuple) else source
        self.segments = source if isinstance(source, tuple) else None
        self.path = None if self.segments is None else _definite(self.segments)
        self.is_path = self.path is not None
        self.prefix = _fixed_prefix(source) if isinstance(source, tuple) else source.prefix
        self.indexable = self.segments is not None and all(map(_is_indexable, self.segments))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Filter({self.text!r})"

    def select(self, root: Json, work: Work = FREE) -> Iterator[Node]:
        """Yield ``(path, value)`` of every selected place, in the order of RFC 9535 nodelists.

        The values are the document's own: do not keep them, and finish before the document
        changes. JSONPath can yield a place twice (``$[0,0]``).

        Raises TooCostly when `work` has no more steps: what came before is right, but not all.
        """
        if self._query is not None:
            return self._query.select(root, work)
        nodes: Iterable[Node] = (((), root),)
        for segment in self.segments or ():
            nodes = segment.select(nodes, work)
        return iter(nodes)

    @property
    def steps(self) -> tuple[Segment, ...]:
        """The segments, for JSONPath those of its fixed prefix."""
        return _as_segments(self.prefix) if self.segments is None else self.segments

    @property
    def is_exact(self) -> bool:
        """Whether ``steps`` says all: false for a JSONPath that goes on after its prefix."""
        return self._query is None or self._query.is_fixed


# What a filter takes for each character of its text: up to a megabyte for the longest JSONPath.
_BYTES_A_CHAR = 250
FILTERS: Final[LruCache[Filter]] = LruCache(max_bytes=32 * 1024 * 1024)


def parse_filter(text: str, work: Work = FREE) -> Filter:
    """The filter that ``text`` stands for. Raises FilterError, with the column of the fault, and
    TooCostly; one that is known is free.
    """
    known = FILTERS.get(text)
    if known is None:
        known = _parse(text, work)
        FILTERS.put(text, known, 500 + _BYTES_A_CHAR * len(text))
    return known


def _parse(text: str, work: Work) -> Filter:
    if text.startswith("$"):
        from triode.store.jsonpath import parse_query  # 3 MB with its parser, for those who use it

        return Filter(text, parse_query(text, work))
    if text.startswith("/"):
        return Filter(text, _pointer_segments(text))
    reader = Reader(text, FilterError)
    if not text:
        reader.fail(EMPTY)
    segments: list[Segment] = []
    while not reader.done and text != ".":
        work.charge(_SEGMENT_STEPS)
        segment = _segment(reader)
        if isinstance(segment, Conditions) and segments and isinstance(segments[-1], Conditions):
            segment = Conditions(segments.pop().tests + segment.tests)  # type: ignore[union-attr] # so says `isinstance`
        segments.append(segment)
    return Filter(text, tuple(segments))


def _pointer_segments(text: str) -> tuple[Segment, ...]:
    tokens = parse_pointer(text, FilterError)
    return tuple(Token(t) if _POINTER_INDEX.fullmatch(t) else Name(t) for t in tokens)


def _segment(reader: Reader) -> Segment:
    opened = reader.dot_or_bracket()
    if opened == "[":
        return _bracket(reader)
    if opened == "..":
        return _descent(reader)
    name = reader.bare_name()
    return Members() if name == "*" else Name(name)


def _descent(reader: Reader) -> Descent:
    start = reader.at
    if reader.take("["):
        if reader.here() != '"':
            reader.fail("descent needs a name: ..name")
        key = reader.quoted()
        reader.close()
        return Descent(key)
    key = reader.bare_name()
    if key == "*":
        reader.fail("descent needs a name: ..name", start)
    return Descent(key)


def _bracket(reader: Reader) -> Segment:
    if reader.take("*]"):
        return Elements()
    if reader.here() == '"':
        name = reader.quoted()
        return Name(name) if reader.take("]") else _condition(reader, name)
    if _SLICE.match(reader.text, reader.at):
        return _slice(reader)
    start = reader.at
    index = reader.integer()
    if index is not None and reader.take("]"):
        return Index(index)
    reader.at = start
    return _condition(reader, _condition_key(reader))


def _slice(reader: Reader) -> Slice:
    start = reader.integer()
    if not reader.take(":"):
        reader.fail("expected ':'")
    stop = reader.integer()
    if reader.here() == ":":
        reader.fail("a slice has no step here; JSONPath has: $[::2]")
    reader.close()
    return Slice(start, stop)


def _condition_key(reader: Reader) -> str:
    start = reader.at
    reader.skip(_KEY)
    if reader.here() in (".", "[", '"') and not reader.done:
        reader.fail("a key with this character must be quoted")
    if reader.at == start:
        reader.fail("expected an index, '*', a slice, a quoted name or a condition")
    return reader.text[start : reader.at].strip(" ")


def _condition(reader: Reader, key: str) -> Conditions:
    reader.skip(_BLANKS)
    op = next((op for op in OPERATORS if reader.take(op)), None)
    if op is None:
        reader.fail("expected ']' or a comparison (= != < <= > >=)")
    reader.skip(_BLANKS)
    literal = _literal(reader)
    reader.close()
    return Conditions((Test(key, op, literal),))


def _literal(reader: Reader) -> Literal:
    if reader.here() == '"':
        text = reader.quoted()
        reader.skip(_BLANKS)
        return text
    start = reader.at
    word = reader.skip(_WORD).rstrip(" ")
    if reader.here() in ('"', "[") and not reader.done:
        reader.fail("a value with this character must be quoted")
    if not word:
        reader.fail('expected a value; the empty text is ""', start)
    if word.startswith("="):
        reader.fail("one '=' is enough; a value that begins with it must be quoted", start)
    if word in _WORDS:
        return _WORDS[word]
    number = _NUMBER.fullmatch(word)
    if number is None:
        return word
    if not math.isfinite(float(word)):
        reader.fail(OUT_OF_RANGE, start)
    is_integer = number[1] is None and number[2] is None
    return int(word) if is_integer else float(word)


def _definite(segments: tuple[Segment, ...]) -> Path | None:
    """The path, if every segment steps to one place."""
    path: list[str | int] = []
    for segment in segments:
        match segment:
            case Name(key) | Index(key) | Token(key):
                path.append(key)
            case _:
                return None
    return tuple(path)


def _fixed_prefix(segments: tuple[Segment, ...]) -> Path:
    prefix: list[str | int] = []
    for segment in segments:
        match segment:
            case Name(key):
                prefix.append(key)
            case Index(i) if i >= 0:
                prefix.append(i)
            case _:
                break
    return tuple(prefix)


def _is_indexable(segment: Segment) -> bool:
    if isinstance(segment, Index):
        return segment.i >= 0
    return isinstance(segment, (Name, Elements, Members, Conditions))


def _as_segments(path: Path) -> tuple[Segment, ...]:
    return tuple(Name(key) if isinstance(key, str) else Index(key) for key in path)


def covers(granted: str, asked: str) -> bool:
    """Whether all that ``asked`` can select, on any document, lies inside what ``granted`` selects.

    Never true wrongly; what it cannot prove is false (see ``store/coverage.py``). Raises
    FilterError.
    """
    return COVERED[granted, asked]


def _covers(pair: tuple[str, str]) -> bool:
    granted, asked = pair
    grant, ask = parse_filter(granted), parse_filter(asked)
    if granted == asked:
        return True
    return grant.is_exact and covers_segments(grant.steps, ask.steps)


COVERED: Final[Cache[tuple[str, str], bool]] = Cache(
    _covers, lambda pair, _: weight_of((pair, *pair)), max_bytes=8 * 1024 * 1024
)


def tells_elements_apart(text: str) -> bool:
    """Whether a filter selects elements of arrays by where they stand, so that an element which is
    moved can come into its selection or leave it.
    """
    return BY_PLACE[text]


def _by_place(text: str) -> bool:
    parsed = parse_filter(text)
    return not parsed.is_exact or any(
        isinstance(step, (Index, Slice, Token)) for step in parsed.steps
    )


BY_PLACE: Final[Cache[str, bool]] = Cache(
    _by_place, lambda text, _: weight_of((text,)), max_bytes=2 * 1024 * 1024
)


def split_filters(text: str) -> list[str]:
    """The filters of a comma separated list, as the query parameter ``filter`` holds it.

    A comma separates when it stands outside brackets and quotes and a filter can begin after it
    (blanks may come between), so ``.a[name=x,y]`` and ``.a,b`` are one filter each. The empty
    part between two commas, or at an end, is an empty filter. Does not judge the filters.
    """
    if "," not in text:
        return [text]
    filters: list[str] = []
    start: int | None = 0
    while start is not None:
        begin = start
        end, start = _next_comma(text, begin)
        filters.append(text[begin:end])
    return filters


def _next_comma(text: str, start: int) -> tuple[int, int | None]:
    """Where the filter at ``start`` ends and where the next one begins, None for no next one."""
    first = text[start : start + 1]
    if first == "/":  # brackets and quotes mean nothing in a pointer
        quotes, brackets = "", ""
    else:
        quotes, brackets = ("'\"" if first == "$" else '"'), "[]"
    depth, quote, at = 0, "", start
    while at < len(text):
        char = text[at]
        if quote:
            at += char == "\\"
            quote = "" if char == quote else quote
        elif char in quotes and depth:
            quote = char
        elif char in brackets:
            depth += 1 if char == "[" else -1
        elif char == "," and depth <= 0 and (found := _NEXT_FILTER.match(text, at)):
            return at, found.end()
        at += 1
    return len(text), None

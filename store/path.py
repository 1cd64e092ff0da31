"""Paths: the name of exactly one place in the document.

    .users[0].name      .prices["BTC-USD"].bid      [0]      .      /users/0/name

A text is a run of segments; each segment says one step down. ``parse_path`` reads it,
``format_path`` writes the one canonical text of a path, and ``parse_path(format_path(p)) == p``
for every path that fits the limits. The reading of names, quoted names and indexes is shared with
filters (``store/filter.py``) through ``Reader``, so a text that is a path means the same place
when it is used as a filter.

Every fault carries its column (1-based, in characters): the first character that cannot be part
of a valid text, or one past the end when the text stops too early.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final, NoReturn

from triode.store.cache import Cache, weight_of

Path = tuple[str | int, ...]

MAX_TEXT_CHARS = 4096
MAX_SEGMENTS = 256
# The largest integer that every JSON implementation holds exactly (RFC 8259 section 6).
MAX_INDEX = 2**53 - 1

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_BARE = re.compile(r'[^.\[\]"]*')
_INTEGER = re.compile(r"0|-?[1-9][0-9]*", re.ASCII)
_BAD_TILDE = re.compile(r"~(?![01])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_JSON = json.JSONDecoder()


EMPTY = "it is empty; the whole document is ."
OUT_OF_RANGE = "number out of range: no double is so large"


class Malformed(ValueError):
    """A text that is no path or filter: what is wrong, where (1-based column) and in which text."""

    def __init__(self, detail: str, column: int, text: str) -> None:
        super().__init__(f"{detail} (column {column})")
        self.detail = detail
        self.column = column
        self.text = text


class PathError(Malformed):
    """The text names no single place."""


class FilterError(Malformed):
    """The text is no filter; or selecting would cost too much (JSONPath only, column 1)."""


class Reader:
    """A cursor over the text of a path or filter; its faults are raised as ``error``."""

    __slots__ = ("at", "error", "segments", "text")

    def __init__(self, text: str, error: type[Malformed]) -> None:
        self.text = text
        self.error = error
        self.at = 0
        self.segments = 0
        if len(text) > MAX_TEXT_CHARS:
            self.fail(f"longer than {MAX_TEXT_CHARS} characters", MAX_TEXT_CHARS)
        # JSON text on the wire is UTF-8, which has no lone surrogates: such a key cannot exist.
        if not text.isascii() and (found := _SURROGATE.search(text)):
            self.fail("a lone surrogate cannot be part of a name", found.start())

    def fail(self, detail: str, at: int | None = None) -> NoReturn:
        raise self.error(detail, (self.at if at is None else at) + 1, self.text)

    @property
    def done(self) -> bool:
        return self.at >= len(self.text)

    def here(self) -> str:
        """The character at the cursor, ``""`` at the end."""
        return self.text[self.at : self.at + 1]

    def take(self, expected: str) -> bool:
        """Step over ``expected`` if it is here."""
        if not self.text.startswith(expected, self.at):
            return False
        self.at += len(expected)
        return True

    def skip(self, pattern: re.Pattern[str]) -> str:
        """Step over what ``pattern`` matches here and return it."""
        found = pattern.match(self.text, self.at)
        matched = found.group() if found else ""
        self.at += len(matched)
        return matched

    def count_segment(self) -> None:
        """Call where a segment begins; refuses the one that is too many."""
        self.segments += 1
        if self.segments > MAX_SEGMENTS:
            self.fail(f"more than {MAX_SEGMENTS} segments")

    def bare_name(self) -> str:
        """A name without quotes, up to the next ``.`` or ``[``."""
        name = self.skip(_BARE)
        if self.here() in ("]", '"') and not self.done:
            self.fail('a name with this character must be written as ["name"]')
        if not name:
            self.fail("expected a name")
        return name

    def quoted(self) -> str:
        """A JSON string; the cursor is at its opening quote."""
        start = self.at
        try:
            value, end = _JSON.raw_decode(self.text, start)
        except json.JSONDecodeError as exc:
            self.fail(f"not a JSON string: {exc.msg}", exc.pos)
        if not isinstance(value, str):
            self.fail("expected a quoted name")
        if _SURROGATE.search(value):
            self.fail("a lone surrogate cannot be part of a name", start)
        self.at = end
        return value

    def integer(self) -> int | None:
        """The canonical integer here (no leading zeros, no ``-0``, no ``+``), or None."""
        found = _INTEGER.match(self.text, self.at)
        if found is None:
            return None
        value = int(found.group())
        if abs(value) > MAX_INDEX:
            self.fail("index out of range")
        self.at = found.end()
        return value

    def close(self) -> None:
        """The bracket that ends the segment."""
        if not self.take("]"):
            self.fail("expected ']'")

    def dot_or_bracket(self) -> str:
        """Step over what begins the next segment and return it: ``"."``, ``".."`` or ``"["``.

        The dot of the root may stand before a bracket: ``.[0]`` and ``.["x"]`` are ``[0]`` and
        ``["x"]``.
        """
        first = self.at == 0
        self.count_segment()
        if self.take(".."):
            return ".."
        if self.take("["):
            return "["
        if self.take("."):
            return "[" if first and self.take("[") else "."
        self.fail("must start with a dot" if first else "expected '.' or '['")


def _parse_path(text: str) -> Path:
    """The path that ``text`` names.

    ``"."`` is the root; the empty text is refused, as mostly something was forgotten. An index may
    be negative (counted from the end); the document makes it actual. A text that starts with ``/``
    is an RFC 6901 pointer: all its tokens stay strings, because only the document knows whether
    ``0`` is an element or a member.

    Raises PathError, with the column of the fault.
    """
    if text.startswith("/"):
        return parse_pointer(text, PathError)
    reader = Reader(text, PathError)
    if text == ".":
        return ()
    if not text:
        reader.fail(EMPTY)
    path: list[str | int] = []
    while not reader.done:
        path.append(_segment(reader))
    return tuple(path)


PATHS: Final[Cache[str, Path]] = Cache(
    _parse_path, lambda text, path: weight_of((text, path, *path)), max_bytes=8 * 1024 * 1024
)
# See `_parse_path`. Every command calls it, so a known text costs a dict's own look-up.
parse_path: Final[Callable[[str], Path]] = PATHS.__getitem__


def _segment(reader: Reader) -> str | int:
    opened = reader.dot_or_bracket()
    if opened == "..":
        reader.fail("a path names one place; '..' selects many", reader.at - 2)
    if opened == ".":
        start = reader.at
        name = reader.bare_name()
        if name == "*":
            reader.fail("a path names one place; '*' selects many", start)
        return name
    key: str | int | None = reader.quoted() if reader.here() == '"' else reader.integer()
    if key is None:
        reader.fail("expected an index or a quoted name")
    reader.close()
    return key


def parse_pointer(text: str, error: type[Malformed]) -> tuple[str, ...]:
    """The tokens of an RFC 6901 pointer that starts with ``/``. Raises ``error``."""
    reader = Reader(text, error)
    if found := _BAD_TILDE.search(text):
        reader.fail("'~' must be followed by 0 or 1", found.start())
    tokens = text.split("/")[1:]
    if len(tokens) > MAX_SEGMENTS:
        fits = sum(len(token) + 1 for token in tokens[:MAX_SEGMENTS])
        reader.fail(f"more than {MAX_SEGMENTS} segments", fits)
    # ~1 first: "~01" must become "~1", not "/" (RFC 6901 section 4).
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in tokens)


def format_path(path: Path) -> str:
    """The canonical text: ``.name`` if it is an ASCII identifier, else ``["any key"]``; ``[3]``."""
    return "".join([NAMES[k] if isinstance(k, str) else f"[{k}]" for k in path]) or "."


def _format_name(name: str) -> str:
    if _PLAIN.fullmatch(name):
        return f".{name}"
    return f"[{json.dumps(name, ensure_ascii=False)}]"


NAMES: Final[Cache[str, str]] = Cache(
    _format_name, lambda name, text: weight_of((name, text)), max_bytes=4 * 1024 * 1024
)

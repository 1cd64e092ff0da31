"""JSON text to values: at once, or in slices with bounded work for each.

msgspec parses, ten times as fast as anything in Python. Some of our rules it does not know; they
are checked after it and without touching most texts again:

- Depth. A text with no more than `max_depth` opening brackets cannot be nested deeper.
- Duplicate keys (msgspec keeps the last one). The text without its strings, its *skeleton*, has one
  colon for each member; each distinct key is one member of a dict. The counts differ exactly when a
  key was there twice.
- Range. An integer beyond a double's range is read as infinity by others (RFC 8259 section 6). It
  has at least 309 digits, and no other text is looked at.
- Length. No number has more than `MAX_NUMBER` characters: msgspec reads one in one go.
- Another number that is out of range, a lone surrogate and broken UTF-8 it refuses by itself, but
  some of its words for that mislead; they are made better where it fails.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

import msgspec

from triode.store.json_type import Json, JsonError
from triode.store.untracked import WIDE, untrack

Data = bytes | bytearray | memoryview | str

_decode: Final = msgspec.json.Decoder().decode

TOO_LONG: Final = "number too long"

_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
# From either opening bracket to the closing one.
TO_CLOSER: Final = 2

# The digits of the largest integer that a double holds, 1.8e308.
LONG_DIGITS: Final = 309
# Of a number. The exact value of a double takes less than 1 100.
MAX_NUMBER: Final = 4096
_STRIDE: Final = 10
_RUN: Final = re.compile(rb"(?<![0-9])[0-9]{%d}" % LONG_DIGITS)
_SAMPLED_RUN: Final = re.compile(rb"[0-9]{%d,}" % (LONG_DIGITS // _STRIDE))
# Neither a fraction nor an exponent: those are floats, and msgspec sees to them.
_LONG_NUMBER: Final = re.compile(rb"[0-9.eE+-]{%d}" % (MAX_NUMBER + 1))
_LONG_INTEGER: Final = re.compile(rb"(?<![0-9.eE+-])-?([0-9]{%d,}+)(?![.eE])" % LONG_DIGITS)

# Escaped halves of a surrogate pair, and a text up to the first half without its other.
HIGH: Final = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"
LOW: Final = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_LONE: Final = re.compile(rb"(?:[^\\]++|" + HIGH + LOW + rb"|\\(?!u[dD][89a-fA-F]).)*+\\u", re.S)


def decode(data: Data, *, max_depth: int = 256) -> Json:
    """The value of a JSON text, which must be one value and UTF-8.

    Refused beside malformed text: duplicate keys, more than `max_depth` containers inside each
    other, lone surrogates, numbers out of range, a byte order mark. Raises JsonError.
    """
    text = data if type(data) is bytes else as_bytes(data)
    value: Json = parse(text)
    if text.count(b"[") + text.count(b"{") > max_depth:
        follow(skeleton(text), bytearray(), max_depth)
    if has_repeated(text, value):
        raise JsonError(f"duplicate key {named(repeated(text)[0][0])}")
    return value


def as_bytes(data: Data) -> bytes:
    if isinstance(data, str):
        try:
            return data.encode()
        except UnicodeEncodeError as exc:
            raise JsonError("lone surrogate", len(data[: exc.start].encode())) from None
    return data if type(data) is bytes else bytes(data)


def parse(text: bytes) -> Any:
    """msgspec's reading of a text, its errors as JsonError."""
    try:
        value = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        _explain(text, exc)
    except RecursionError:
        raise JsonError("nested too deep") from None
    if len(text) >= LONG_DIGITS and _has_long_run(text):
        _check_numbers(text)
    return value


def _has_long_run(text: bytes) -> bool:
    """Whether so many digits stand in a row that an integer could be out of range.

    Every tenth byte is enough to see most texts free of it: a tenth of the work.
    """
    for found in _SAMPLED_RUN.finditer(text[::_STRIDE]):
        start = max(0, (found.start() - 1) * _STRIDE)
        if _RUN.search(text, start, (found.end() + 1) * _STRIDE):
            return True
    return False


def _check_numbers(text: bytes) -> None:
    """Raise JsonError for a number, outside strings, that is too long, or an integer that no double
    can hold.
    """
    bones = skeleton(text)
    if _LONG_NUMBER.search(bones):
        raise JsonError(TOO_LONG)
    for found in _LONG_INTEGER.finditer(bones):
        if len(found[1]) > LONG_DIGITS or not fits_double(int(found[1])):
            raise JsonError("number out of range")


def fits_double(number: int) -> bool:
    """Whether an integer lies in a double's range."""
    try:
        float(number)
    except OverflowError:
        return False
    return True


def _explain(text: bytes, exc: Exception) -> NoReturn:
    """Raise the JsonError for what msgspec refused; offsets are into `text`."""
    try:
        text.decode()
    except UnicodeDecodeError as fault:
        raise JsonError("not UTF-8", fault.start) from None
    detail = str(exc).removeprefix("JSON is malformed: ")
    detail, _, place = detail.partition(" (byte ")
    offset = int(place[:-1]) if place else None
    if text.startswith(b"\xef\xbb\xbf"):
        raise JsonError("starts with a byte order mark", 0) from None
    if "surrogate" in detail or "truncated" in detail:
        if lone := _LONE.match(text):
            raise JsonError("lone surrogate", lone.end() - 2) from None
        detail, offset = "the text ends too early", len(text)
    raise JsonError(detail, offset) from None


def skeleton(text: bytes) -> bytes:
    """The text without its strings. Exact for a valid text; before the first fault for any."""
    return b"".join(blank(text).split(b'"')[::2])


def blank(text: bytes) -> bytes:
    """The text with escaped quotes overwritten, byte for byte: every quote left ends or begins."""
    if b"\\" not in text:
        return text
    return text.replace(b"\\\\", b"__").replace(b'\\"', b"__")


def follow(bones: bytes, opened: bytearray, max_depth: int) -> None:
    """Follow a skeleton's brackets: `opened` holds those open before it, then those open behind it.

    Stops at a bracket that does not fit. Raises JsonError where it gets deeper than `max_depth`.
    """
    for bracket in bones.translate(None, _NO_BRACKETS):
        if bracket in b"[{":
            opened.append(bracket)
            if len(opened) > max_depth:
                raise JsonError(f"nested deeper than {max_depth}")
        elif not opened or bracket != opened.pop() + TO_CLOSER:
            return


def has_repeated(text: bytes, value: Any) -> bool:
    """Whether an object of a valid text, of which `value` was made, has a key twice. On the way,
    wide containers are taken off the garbage collector's list (`store.untracked`).
    """
    if b":" not in text and text.count(b",") < WIDE:
        return False
    members = _count_members(value, text.count(b"[") + text.count(b"{"))
    return members != text.count(b":") and members != skeleton(text).count(b":")


def _count_members(value: Any, containers: int) -> int:
    """Of all objects in it. It has no more `containers`: once so many are found, it is not searched
    for others.
    """
    members = 0
    todo = [value]
    left = containers - 1
    while todo:
        node = todo.pop()
        if type(node) is dict:
            members += len(node)
            children: Any = node.values()
        elif type(node) is list:
            children = node
        else:
            continue
        if len(node) > WIDE:
            untrack(node)
        if left > 0:
            for child in children:
                if type(child) is dict or type(child) is list:
                    todo.append(child)
                    left -= 1
    return members


def repeated(text: bytes) -> tuple[list[str], set[str]]:
    """The keys that some object of a valid text has twice, in order; and all keys there are.

    Read from the text: in a decoded value a repeated key has taken what stood below it away.
    """
    twice: dict[str, None] = {}
    keys: set[str] = set()

    def look(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                twice[key] = None
            seen.add(key)
        keys.update(seen)

    json.loads(text, object_pairs_hook=look)
    return list(twice), keys


def named(key: str) -> str:
    """A key as an error shows it."""
    return json.dumps(key if len(key) <= 60 else key[:57] + "...", ensure_ascii=False)

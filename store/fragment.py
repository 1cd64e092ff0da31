"""Decode a big JSON text in slices, with bounded work for each.

A body of 20 MB takes msgspec a third of a second, in which a server sends nothing. So the text is
cut before commas that are outside strings, and each fragment is made a text of its own: in front,
one opening bracket for each container that is open at the cut, each with a stand-in for the member
in progress; behind, the brackets that close what is open.

    [{"a": [1, 2            becomes  [{"a": [1, 2]}]
    , 3], "b": 4}           becomes  [{"": [0, 3], "b": 4}]
    , {"c": 5}]             becomes  [0, {"c": 5}]

msgspec checks every fragment in full: the comma it begins with needs the stand-in before it and a
member behind it, and the brackets must fit. One thing it cannot see: `[` before a cut would be
closed to `[]`, so that a comma right behind an opening bracket is refused here. What it gives is
merged, level by level, into the containers that are already there: it is what follows the
stand-ins. The containers open behind a fragment lie along the chain of last members.

Duplicate keys within a fragment show as in `store.decode`. The stand-in `""` can look like one;
then another is taken. Duplicates across fragments show when a container is merged.

A string longer than a slice has no comma to cut at. It is decoded by itself, in pieces, and an
empty string takes its place in the fragment. Between two commas there is but one chain of
containers, so that place is found again.

What stays above a slice's time, by nature (20 MiB texts, measured): Python enlarges a dict of a
million members in one go (45 ms), and makes one `str` in one go (8 ms; 27 if one emoji widens it).
A list of millions takes 18 ms where the C library copies it, see `app/runtime/allocator.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from triode.store.decode import (
    HIGH,
    LOW,
    MAX_NUMBER,
    TO_CLOSER,
    TOO_LONG,
    as_bytes,
    blank,
    decode,
    follow,
    has_repeated,
    named,
    parse,
    repeated,
    skeleton,
)
from triode.store.json_type import Json, JsonError
from triode.store.untracked import WIDE, untrack

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from triode.store.decode import Data

# A run of a string's content that ends with a whole escape; a pair of surrogates is one.
_RUN: Final = re.compile(
    rb'(?:[^"\\]++|' + HIGH + LOW + rb'|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|\\["\\/bfnrt])*+'
)
_SPACE: Final = b" \t\n\r"
# What there can be any number of in a row, outside strings.
_NUMBER: Final = b"+-.0123456789Ee"
_UNBOUNDED: Final = _SPACE + _NUMBER
# Brackets and commas: a container that is not wide, and one that is whole.
_NEITHER: Final = bytes(set(range(256)) - set(b"[]{},"))
_NARROW: Final = re.compile(rb"[\[{],{0,%d}[\]}]" % (WIDE - 1))
_WHOLE: Final = re.compile(rb"[\[{],*[\]}]")
# So that a whole escape always fits.
_MIN_SLICE_BYTES: Final = 64


def decode_steps(
    data: Data, *, max_depth: int = 256, slice_bytes: int = 65536, is_own: bool = False
) -> Generator[None, None, Json]:
    """`decode` for big texts: a generator that yields after every slice and returns the value.

    The same texts are refused as by `decode`, with the same details as far as a slice can tell;
    `offset` can be None. `data` must not change meanwhile.

    `is_own`: `encode_steps` made the text, so no object in it has a key twice, and it is no deeper
    than it may be. To look for that takes half of the time.
    """
    text = memoryview(as_bytes(data) if isinstance(data, str) else data).cast("B")
    slice_bytes = max(slice_bytes, _MIN_SLICE_BYTES)
    if len(text) <= slice_bytes:
        return decode(text, max_depth=max_depth)
    tree = _Tree(max_depth, is_own=is_own)
    for fragment in _fragments(text, slice_bytes, max_depth):
        if fragment is not None:
            tree.add(fragment)
        yield
    return tree.root


class _Fragment(NamedTuple):
    """The text from `start` to the cut at `end`.

    `long` are the strings it lacks: each by the number of strings before it in the fragment.
    """

    start: int
    end: int
    text: bytes
    long: dict[int, str]
    last: bool


def _fragments(text: memoryview, slice_bytes: int, max_depth: int) -> Iterator[_Fragment | None]:
    """Cut the text into fragments. None stands for a slice of work before one is complete."""
    start = 0
    while len(text) - start > slice_bytes:
        fragment = yield from _cut(text, start, slice_bytes, max_depth)
        yield fragment
        if fragment.last:
            return
        start = fragment.end
    yield _Fragment(start, len(text), bytes(text[start:]), {}, True)


def _cut(
    text: memoryview, start: int, slice_bytes: int, max_depth: int
) -> Generator[None, None, _Fragment]:
    """The fragment from `start` to the last comma in reach, or else to the next one."""
    pieces: list[bytes] = []
    long: dict[int, str] = {}
    strings = others = 0
    at = start
    while at < len(text):
        piece = bytes(text[at : at + slice_bytes])
        parts = blank(piece).split(b'"')
        # A fragment of several pieces ends at the first comma: it must stay one chain.
        comma = _first_comma(parts) if pieces else _last_comma(parts, len(piece))
        if comma > 0 or (comma == 0 and pieces):
            pieces.append(piece[:comma])
            return _Fragment(start, at + comma, b"".join(pieces), long, False)
        at += len(piece)
        strings += len(parts) // 2
        if len(parts) % 2 == 0:
            piece = piece[: len(piece) - len(parts[-1]) - 1] + b'""'
            at -= len(parts[-1]) + 1
            long[strings - 1], at = yield from _long_string(text, at, slice_bytes)
        if len(piece) > MAX_NUMBER and not piece.translate(None, _NUMBER):
            raise JsonError(TOO_LONG, at)
        pieces.append(b" " if piece.isspace() else piece)
        others += len(skeleton(piece).translate(None, _UNBOUNDED))
        if max(strings, others) > 4 * max_depth + 100:
            break  # more than a chain of containers can have: malformed, and here already
        yield
    return _Fragment(start, at, b"".join(pieces), long, True)


def _first_comma(parts: list[bytes]) -> int:
    """Where the first comma outside strings stands, -1 for none; every other part is a string."""
    begin = 0
    for number, part in enumerate(parts):
        if number % 2 == 0:
            comma = part.find(b",")
            if comma >= 0:
                return begin + comma
        begin += len(part) + 1
    return -1


def _last_comma(parts: list[bytes], end: int) -> int:
    """Where the last one stands; the parts end at `end`."""
    for number in range(len(parts) - 1, -1, -1):
        begin = end - len(parts[number])
        if number % 2 == 0:
            comma = parts[number].rfind(b",")
            if comma >= 0:
                return begin + comma
        end = begin - 1
    return -1


def _long_string(
    text: memoryview, quote: int, slice_bytes: int
) -> Generator[None, None, tuple[str, int]]:
    """Decode the string that begins at `quote` in pieces; also where it ends."""
    pieces: list[str] = []
    at = quote + 1
    while True:
        chunk = bytes(text[at : at + slice_bytes])
        run = _RUN.match(chunk)
        end = run.end() if run else 0
        closed = chunk[end : end + 1] == b'"'
        if end == len(chunk):
            end = _whole_characters(chunk)
        if not closed and end == 0:
            _parse_at(b'"' + chunk, at - 1)
            raise JsonError("malformed string", at)
        pieces.append(_parse_at(b'"' + chunk[:end] + b'"', at - 1))
        at += end
        if closed:
            return "".join(pieces), at + 1
        yield


def _whole_characters(chunk: bytes) -> int:
    """The length without a UTF-8 character that begins but does not end in the chunk."""
    for back in range(1, min(4, len(chunk) + 1)):
        byte = chunk[-back]
        if byte >= 0xC0:
            needs = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(chunk) - back if needs > back else len(chunk)
        if byte < 0x80:
            break
    return len(chunk)


def _parse_at(text: bytes, start: int) -> Any:
    """Parse, with the offsets of errors moved: the text begins at `start` of the whole."""
    try:
        return parse(text)
    except JsonError as exc:
        offset = None if exc.offset is None else max(0, start + exc.offset)
        raise JsonError(exc.detail, offset) from None


class _Tree:
    """What is decoded so far. `_spine` are its open containers, the root first."""

    def __init__(self, max_depth: int, *, is_own: bool) -> None:
        self.root: Json = None
        self._max_depth = max_depth
        self._is_own = is_own
        self._spine: list[Any] = []
        self._opened = bytearray()

    def add(self, fragment: _Fragment) -> None:
        """Decode the next fragment into its place. Raises JsonError."""
        if not fragment.last and fragment.text.rstrip(_SPACE).endswith((b"[", b"{")):
            # With its closing bracket it would pass as empty.
            raise JsonError("invalid character", fragment.end)
        bones, has_wide = skeleton(fragment.text), True
        if self._is_own:
            bones, has_wide = _without_narrow(bones)
        follow(bones, self._opened, self._max_depth)
        closers = b"" if fragment.last else bytes(b + TO_CLOSER for b in reversed(self._opened))
        value, stand_in = self._decoded(fragment, closers, has_wide=has_wide)
        if fragment.long:
            value = self._restored(value, stand_in, fragment.long)
        self._merge(value, stand_in)
        self._spine = _last_chain(self.root, len(self._opened))

    def _decoded(self, fragment: _Fragment, closers: bytes, *, has_wide: bool) -> tuple[Any, str]:
        stand_in = ""
        if self._is_own and not has_wide:
            return self._decoded_own(fragment, closers)
        for _ in range(2):
            front = self._front(stand_in)
            text = front + fragment.text + closers
            value = _parse_at(text, fragment.start - len(front))
            if not has_repeated(text, value):
                return value, stand_in
            found, keys = repeated(text)
            twice = [key for key in found if key != stand_in]
            if twice:
                break
            stand_in = next(key for key in map(str, range(len(keys) + 1)) if key not in keys)
        raise JsonError(f"duplicate key {named(twice[0] if twice else '')}")

    def _decoded_own(self, fragment: _Fragment, closers: bytes) -> tuple[Any, str]:
        """The stand-in must not be a key that is there; no other one is there twice."""
        stand_in = ""
        number = 0
        while b'"%b":' % stand_in.encode() in fragment.text:
            stand_in = str(number)
            number += 1
        front = self._front(stand_in)
        return _parse_at(front + fragment.text + closers, fragment.start - len(front)), stand_in

    def _front(self, stand_in: str) -> bytes:
        if not self._spine:
            return b""
        member = b'{"%b":' % stand_in.encode()
        levels = [b"[" if type(node) is list else member for node in self._spine]
        return b"".join(levels) + b"0"

    def _restored(self, value: Any, stand_in: str, long: dict[int, str]) -> Any:
        """The value with its long strings, the first of which may be the value itself."""
        whole = [value]
        begins = whole
        if self._spine:
            begins = value
            for node in self._spine[:-1]:
                begins = begins[0 if type(node) is list else stand_in]
        _restore(begins, long)
        return whole[0]

    def _merge(self, value: Any, stand_in: str) -> None:
        if not self._spine:
            self.root = value
        for node in self._spine:
            if type(node) is list:
                below = value[0]
                del value[0]
                node.extend(value)
            else:
                below = value.pop(stand_in)
                if not node.keys().isdisjoint(value.keys()):
                    twice = next(key for key in value if key in node)
                    raise JsonError(f"duplicate key {named(twice)}")
                node.update(value)
            untrack(node)
            value = below


def _without_narrow(bones: bytes) -> tuple[bytes, bool]:
    """The brackets and commas of a skeleton without the narrow containers that begin and end in it;
    and whether a wide one does: that has to be taken off the collector's list.
    """
    left = bones.translate(None, _NEITHER)
    before = -1
    while len(left) != before:
        before = len(left)
        left = _NARROW.sub(b"", left)
    return left, _WHOLE.search(left) is not None


def _restore(node: Any, long: dict[int, str]) -> None:
    """Put the long strings back, along the chain of last members from `node` on."""
    count = 0
    while node:
        key: Any = -1
        if type(node) is dict:
            key, child = node.popitem()
            key = long.get(count, key)
            node[key] = child
            count += 1
        child = node[key]
        if type(child) is str:
            node[key] = long.get(count, child)
        if type(child) is not dict and type(child) is not list:
            return
        node = child


def _last_chain(node: Any, length: int) -> list[Any]:
    chain: list[Any] = []
    while len(chain) < length:
        chain.append(node)
        node = node[-1 if type(node) is list else next(reversed(node))]
    return chain

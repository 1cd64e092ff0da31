"""JSON in and out: `decode_steps` and `encode_steps` are held to `decode` and `encode`."""

from __future__ import annotations

import itertools
import json
import math
import tracemalloc
from collections import OrderedDict
from collections.abc import Generator
from itertools import islice
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from triode.limits.meter import Meter
from triode.store.json_type import equal_measured
from triode.store.value import (
    MISSING,
    Json,
    JsonError,
    approx_bytes,
    check,
    copy_deep,
    copy_measured,
    copy_one,
    decode,
    decode_steps,
    dismantle,
    encode,
    encode_steps,
    equal,
)

# Few and odd keys, so that duplicates and clashes with stand-ins are common.
KEYS = st.sampled_from(["", "0", "1", "a", 'q"\\', "é", "k" * 80]) | st.text(max_size=3)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["x" * 300, 'é😀\n"\\' * 40, "\\" * 99, "[,]{:}"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=60,
)

# What a text is corrupted with.
JUNK = [b"", b",", b'"', b"\\", b"]", b"}", b"[", b"{", b":", b" ", b"0", b"x", b"null", b"\n"]
JUNK += [b'"":1,', b"\\ud800", b"\xc3", b"\xff"]


def in_steps(data: bytes | str, **options: Any) -> Json:
    return result(decode_steps(data, **options))


def result(steps: Generator[None, None, Json]) -> Json:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def same(a: object, b: object) -> bool:
    """Equal down to the types (1 is not 1.0), the sign of zero and the order of members."""
    return repr(a) == repr(b)


class TestEqual:
    @pytest.mark.parametrize(
        ("a", "b", "expected"),
        [
            (1, 1.0, True),
            (1, True, False),
            (0, False, False),
            (0.0, False, False),
            (True, True, True),
            ([1, [True]], [1, [1]], False),
            ([1, [True]], [1.0, [True]], True),
            ({"a": 0, "b": {"c": False}}, {"b": {"c": False}, "a": 0.0}, True),
            ({"a": {"c": False}}, {"a": {"c": 0}}, False),
            ({"a": 1}, {"a": 1, "b": None}, False),
            ([1, 2], [2, 1], False),
            ("1", 1, False),
            (None, False, False),
            (None, MISSING, False),
            (MISSING, MISSING, True),
            (2**53 + 1, float(2**53), False),
        ],
    )
    def test_is_json_equality(self, a: Any, b: Any, expected: bool) -> None:
        assert equal(a, b) is expected
        assert equal(b, a) is expected

    @given(VALUES)
    def test_holds_for_a_copy(self, value: Json) -> None:
        assert equal(value, copy_deep(value))


class TestDecode:
    @given(VALUES)
    def test_gives_what_json_gives(self, value: Json) -> None:
        text = json.dumps(value)
        assert same(decode(text), json.loads(text))

    @pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
    def test_takes_every_kind_of_bytes(self, wrap: Any) -> None:
        assert decode(wrap(b'{"a":[1]}')) == {"a": [1]}

    def test_keeps_integers_exact(self) -> None:
        assert decode(b"[9007199254740993,1e2,-0,-0.0]") == [9007199254740993, 100.0, 0, 0.0]
        assert decode(str(2**1023)) == 2**1023

    @pytest.mark.parametrize("wrap", ["%s", "[1,%s]", '{"a":[{"b":%s}]}', '["999",%s , "x"]'])
    def test_an_integer_is_refused_just_beyond_a_double(self, wrap: str) -> None:
        # The first integer that would round to 2**1024 (IEEE 754 section 4.3.1).
        first = 2**1024 - 2**970
        for number in (first - 1, 1 - first):
            text = wrap % number
            assert decode(text) == json.loads(text)
        for number in (first, -first, 10**309, -(10**400)):
            with pytest.raises(JsonError, match="out of range"):
                decode(wrap % number)
            with pytest.raises(JsonError, match="out of range"):
                result(decode_steps(wrap % number, slice_bytes=64))
            with pytest.raises(JsonError, match="double"):
                check([number])

    @pytest.mark.parametrize(
        "text",
        ['"%s"' % ("9" * 400), "0." + "3" * 400, "9" * 400 + "e-300", "9" * 305 + "." + "9" * 400],
    )
    def test_long_digits_that_are_no_integer_are_let_be(self, text: str) -> None:
        assert decode(f"[{text}]") == json.loads(f"[{text}]")

    @pytest.mark.parametrize(
        ("text", "detail", "offset"),
        [
            (b"", "too early", 0),
            (b"  ", "too early", 2),
            (b"[1,2", "too early", 4),
            (b"tru", "too early", 3),
            (b'"abc', "too early", 4),
            (b"[1,]", "trailing comma", 3),
            (b"{,}", "keys must be strings", 1),
            (b"[1 2]", "expected", 3),
            (b"1 2", "trailing", 3),
            (b"01", "number", 1),
            (b"1e999", "out of range", None),
            (b"-1e999", "out of range", None),
            (b"9" * 5000, "out of range", None),
            (b"NaN", "invalid", 0),
            (b"\xef\xbb\xbf1", "byte order mark", 0),
            (b'["a\xff"]', "UTF-8", 3),
            (b'["\xed\xa0\x80"]', "UTF-8", 2),
            (b'["\\ud800"]', "lone surrogate", 2),
            (b'["\\\\\\ud800x"]', "lone surrogate", 4),
            (b'["\\ud83d\\ude00\\udc00"]', "lone surrogate", 14),
            (b'{"\\ud800":1}', "lone surrogate", 2),
            ('["é\ud800"]', "lone surrogate", 4),
            (b'"a\nb"', "invalid", 2),
            (b'{"a":1,"a":2}', 'duplicate key "a"', None),
            (b'{"a":1,"\\u0061":2}', 'duplicate key "a"', None),
            (b'[":",{"x":{"":1,"":1}}]', 'duplicate key ""', None),
        ],
    )
    def test_refuses(self, text: bytes | str, detail: str, offset: int | None) -> None:
        with pytest.raises(JsonError) as caught:
            decode(text)
        assert detail in caught.value.detail
        assert caught.value.offset == offset

    def test_colons_in_strings_are_no_duplicates(self) -> None:
        text = b'{"a:b":"::","c":"\\":\\\\","d\\\\":[{"a:b":":"},{"a:b":":"}]}'
        assert decode(text) == json.loads(text)

    @pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
    def test_depth_is_counted_in_containers(self, opening: bytes) -> None:
        def nested(depth: int) -> bytes:
            text = (opening * depth)[: len(opening) * depth]
            closing = opening.translate(bytes.maketrans(b"[{", b"]}"), b'"a:')[::-1]
            return text + b"1" + closing * depth

        each = 2 if opening.startswith(b"[{") else 1
        assert decode(nested(256 // each), max_depth=256) is not None
        for depth in (256 // each + 1, 5000):
            with pytest.raises(JsonError, match="nested"):
                decode(nested(depth), max_depth=256)

    def test_width_is_not_depth(self) -> None:
        assert len(decode(b"[" + b"[],{}," * 400 + b'"[[[["]', max_depth=2)) == 801  # type: ignore[arg-type]


class TestDecodeSteps:
    # The stand-in hides the object that holds "0", which must not be taken in its place.
    @example({"0": None, "1": None, "\x07\U00010000": {"": None, "0": None}, "": None}, 64, None)
    @given(VALUES, st.integers(64, 200), st.sampled_from([None, 1]))
    def test_gives_what_decode_gives(self, value: Json, size: int, indent: int | None) -> None:
        for text in (json.dumps(value, indent=indent), json.dumps(value, ensure_ascii=False)):
            assert same(in_steps(text, slice_bytes=size), decode(text))

    @example({"0": None, "1": None, "\x07\U00010000": {"": None, "0": None}, "": None}, 64)
    @example([list(range(200)), {"": list(range(64))}, [[]] * 90], 64)
    @given(VALUES, st.integers(64, 200))
    def test_gives_what_was_encoded(self, value: Json, size: int) -> None:
        text = b"".join(encode_steps(value))
        assert same(in_steps(text, slice_bytes=size, is_own=True), decode(text))

    @given(VALUES, st.integers(64, 130), st.data())
    def test_refuses_what_decode_refuses(self, value: Json, size: int, data: Any) -> None:
        text = bytearray(json.dumps([value] * 3, ensure_ascii=data.draw(st.booleans())).encode())
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(text)))
            junk = data.draw(st.sampled_from(JUNK))
            text[at : at + data.draw(st.integers(0, 2))] = junk
        assert_alike(bytes(text), size)

    @given(st.lists(st.tuples(KEYS, SCALARS), max_size=30), st.integers(64, 130))
    @example([("", 1), ("0", 2), ("x" * 64, 1), ("1", 3), ("", 4)], 64)
    def test_finds_duplicates_across_slices(self, pairs: list[Any], size: int) -> None:
        members = ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in pairs)
        assert_alike(b'[{"":{' + members.encode() + b'},"b":[1]}]', size)

    @pytest.mark.parametrize(
        "text",
        [
            b'"' + b"\\ud83d\\ude00" * 50 + b'"',
            b'["' + "é😀€".encode() * 50 + b'", 1]',
            b'{"' + b"k" * 200 + b'" : {"' + b"\\n" * 100 + b'":["' + b"v" * 200 + b'"]},"z":1}',
            b'[1,{"":1,"' + b"k" * 200 + b'":[2]},3]',
            b"[1," + b" " * 300 + b"2" + b"\t\n" * 200 + b"]" + b" " * 500,
            b"[" + b"0." + b"1" * 300 + b"," + b"9" * 300 + b"]",
            b'["' + b"\\\\" * 100 + b'","' + b'\\"' * 100 + b'"]',
            b'[["' + b"a" * 100 + b'"],"' + b"b" * 100 + b'",{"c":"' + b"c" * 100 + b'"}]',
        ],
    )
    def test_long_tokens(self, text: bytes) -> None:
        for size in range(64, 140):
            assert same(in_steps(text, slice_bytes=size), decode(text))

    @pytest.mark.parametrize(
        "text",
        [
            b'["' + b"a" * 500,
            b'["' + b"a" * 500 + b"\\",
            b'["' + b"a" * 500 + b"\\ud800" + b"b" * 500 + b'"]',
            b'["' + b"a" * 500 + b"\xff" + b"b" * 500 + b'"]',
            b'["' + b"a" * 500 + b"\n" + b"b" * 500 + b'"]',
            b"\\" * 5000,
            b'"' * 5000,
            b"[]" * 5000,
            b"[" * 5000,
            b":" * 5000,
            b"," * 5000,
            b'"a" ' * 5000,
            b"[1]," * 500,
            b"[" + b"1," * 5000 + b"]",
            b"[" + b"1," * 5000 + b"1}",
            b'[,"' + b"a" * 500 + b'"]',
            b'[{ ,"' + b"a" * 500 + b'":1}]',
            b"[1,[ \n," + b"1," * 500 + b"1]]",
            b'{"a":1}' + b" " * 500 + b"1",
            b'{"' + b"k" * 500 + b'":1,"' + b"k" * 500 + b'":2}',
        ],
    )
    def test_adversaries(self, text: bytes) -> None:
        for size in (64, 100, 1000):
            assert_alike(text, size)

    @pytest.mark.parametrize("gap", [b" " * 40, b" " * 70, b""])
    def test_every_short_sequence_of_tokens(self, gap: bytes) -> None:
        """With gaps that put a cut at every comma, and none."""
        tokens = [b"[", b"]", b"{", b"}", b",", b'"":', b"1", b'"' + b"s" * 90 + b'"']
        for length in range(1, 5):
            for sequence in itertools.product(tokens, repeat=length):
                assert_alike(gap.join([b"[", *sequence, b"]"]), 64)

    def test_errors_are_those_of_decode(self) -> None:
        text = b'[{"a":1},' * 100 + b"tru}" + b"]" * 100
        with pytest.raises(JsonError) as whole:
            decode(text)
        with pytest.raises(JsonError) as stepwise:
            in_steps(text, slice_bytes=64)
        assert stepwise.value.detail == whole.value.detail
        assert stepwise.value.offset == whole.value.offset

    def test_depth_counts_across_slices(self) -> None:
        text = b"[" + b'[1,{"a":' * 10 + b"[[" + b"1," * 200 + b"1]]" + b"}]" * 10 + b"]"
        assert in_steps(text, slice_bytes=64, max_depth=23) == json.loads(text)
        with pytest.raises(JsonError, match="deeper than 22"):
            in_steps(text, slice_bytes=64, max_depth=22)

    def test_yields_once_a_slice(self) -> None:
        text = json.dumps([{"id": n} for n in range(1000)]).encode()
        steps = decode_steps(text, slice_bytes=1024)
        assert len(text) / 1024 <= sum(1 for _ in steps) <= len(text) / 1024 * 1.2 + 1


def assert_alike(text: bytes, size: int) -> None:
    try:
        expected = decode(text)
    except JsonError:
        with pytest.raises(JsonError):
            in_steps(text, slice_bytes=size)
    else:
        assert same(in_steps(text, slice_bytes=size), expected)


class TestEncode:
    @given(VALUES)
    def test_comes_back(self, value: Json) -> None:
        assert json.loads(encode(value)) == value

    def test_is_compact_and_does_not_escape(self) -> None:
        value: Json = {"é": ["„", 1, 1.0, 2**70]}
        assert encode(value).decode() == '{"é":["„",1,1.0,1180591620717411303424]}'

    def test_is_one_line(self) -> None:
        text = "a\u0085b\u2028c\u2029d\n"
        for data in (encode({text: text}), b"".join(encode_steps([text * 9], slice_bytes=7))):
            assert len(data.decode().splitlines()) == 1
        assert decode(encode(text)) == text

    @given(VALUES, st.integers(1, 200))
    def test_steps_give_the_same_bytes(self, value: Json, size: int) -> None:
        assert b"".join(encode_steps(value, slice_bytes=size)) == encode(value)

    def test_pieces_are_bounded(self) -> None:
        value: Json = {
            "rows": [{"id": n, "tags": ["a", {"b": [n]}]} for n in range(3000)],
            "k" * 5000: "x" * 50_000,
            "wide": {f"key{n}": n for n in range(3000)},
            "empty": [[], {}, [[]]],
        }
        pieces = list(encode_steps(value, slice_bytes=1024))
        assert b"".join(pieces) == encode(value)
        assert max(map(len, pieces)) < 4096
        assert all(pieces)


class TestCheck:
    @given(VALUES)
    def test_accepts_json(self, value: Json) -> None:
        check(value)

    @pytest.mark.parametrize(
        "value",
        [
            math.nan,
            [math.inf],
            {"a": {1: 2}},
            {"\ud800": 1},
            ["\udc00"],
            (1, 2),
            {"a": {1, 2}},
            OrderedDict(a=1),
            b"bytes",
            MISSING,
            [1 << 20_000],
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_refuses(self, value: object) -> None:
        with pytest.raises(JsonError):
            check(value)

    def test_depth(self) -> None:
        value: Json = []
        for _ in range(255):
            value = [value]
        check(value)
        with pytest.raises(JsonError, match="deeper"):
            check([value])

    def test_a_cycle_is_too_deep(self) -> None:
        value: list[Any] = []
        value.append(value)
        with pytest.raises(JsonError, match="deeper"):
            check(value)


class TestCopyAndWeight:
    @given(VALUES)
    def test_a_copy_shares_no_container(self, value: Json) -> None:
        copy, values, depth = copy_measured(value)
        assert same(copy, value)
        assert not containers(copy) & containers(value)
        assert values >= len(containers(value))
        assert (depth > 0) == (type(value) in (dict, list))

    def test_is_not_limited_by_the_stack(self) -> None:
        value: Json = [True]
        for _ in range(5000):
            value = [value]
        copy, _, depth = copy_measured(value)
        assert depth == 5001
        trees = [copy, value]
        del copy, value
        while trees:
            assert approx_bytes(trees[-1], limit=10**6) > 5000
            assert sum(1 for _ in dismantle(trees.pop())) >= 1

    @given(VALUES)
    def test_weight_is_near_the_size(self, value: Json) -> None:
        weight = approx_bytes(value, limit=10**9)
        assert len(encode(value)) / 8 <= weight <= 4 * len(encode(value)) + 8

    def test_weight_stops_at_the_limit(self) -> None:
        assert approx_bytes(["x" * 100] * 1000, limit=500) < 1000
        assert approx_bytes(MISSING, limit=5) == 0

    @pytest.mark.parametrize("wide", [[0] * 10**6, {str(n): 0 for n in range(10**6)}])
    def test_a_wide_one_is_not_spread_out_to_see_that_it_is_large(self, wide: Json) -> None:
        tracemalloc.start()
        try:
            assert approx_bytes(wide, limit=500) > 500
            assert tracemalloc.get_traced_memory()[1] < 10_000
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("wide", [[0] * 10**4, {str(n): 0 for n in range(10**4)}])
    def test_wide_ones_are_compared_a_part_at_a_time(self, wide: Json) -> None:
        charged: list[int] = []

        class Recorded:
            left = 10**9

            def charge(self, steps: int) -> None:
                charged.append(steps)

        assert equal_measured(wide, copy_deep(wide), Recorded())
        assert sum(charged) >= 5_000
        assert max(charged) < 200

    @given(VALUES)
    def test_dismantle_leaves_what_others_hold(self, value: Json) -> None:
        was = copy_deep(value)
        list(dismantle([value, {"also": value}]))
        assert same(value, was)

    def test_dismantle_in_pieces(self) -> None:
        holder = [{"a": [[n] for n in range(50_000)], "b": {str(n): n for n in range(50_000)}}]
        assert sum(1 for _ in dismantle(holder.pop())) > 20


def containers(value: Any) -> set[int]:
    """The ids of all containers of a value that is kept alive by the caller."""
    if type(value) is dict:
        return {id(value)}.union(*map(containers, value.values()))
    if type(value) is list:
        return {id(value)}.union(*map(containers, value))
    return set()


@pytest.mark.parametrize("text", [b"1" * 4097, b"0." + b"1" * 4095, b"1e-" + b"9" * 4094])
def test_numbers_are_not_endless(text: bytes) -> None:
    for wrap in (b"%b", b"[0,%b]", b'{"a":%b,"b":1}'):
        for slice_bytes in (64, 16_384):
            with pytest.raises(JsonError, match="number"):
                result(decode_steps(wrap % text, slice_bytes=slice_bytes))
        with pytest.raises(JsonError, match="number"):
            decode(wrap % text)
    assert decode(b'"%b"' % text) == text.decode()


def test_an_endless_number_is_not_read_to_its_end() -> None:
    """msgspec reads one in one go: 20 million digits took 280 ms."""
    steps = decode_steps(b"0." + b"1" * 10**7, slice_bytes=16_384)
    with pytest.raises(JsonError, match="number too long"):
        list(islice(steps, 3))


@pytest.mark.parametrize("length", [0, 1, 16_383, 16_384, 16_385, 40_000])
def test_a_copy_in_slices_is_whole(length: int) -> None:
    array = [[number] for number in range(length)]
    work = Meter(10**6)
    copy = copy_one(array, work)
    assert copy == array
    assert copy is not array
    assert all(one is other for one, other in zip(copy, array, strict=True))
    assert work.spent == length // 64

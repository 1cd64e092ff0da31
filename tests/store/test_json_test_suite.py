"""JSONTestSuite (RFC 8259): what is JSON is read as Python reads it, what is none is refused, and
what is left open is decided here.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from triode.store.value import JsonError, decode

_SUITE = Path(__file__).parents[1] / "suites" / "json-test-suite" / "parsing.json"

# Valid, and refused: two readers could take two different values (docs/wire.md).
STRICTER = {"y_object_duplicated_key", "y_object_duplicated_key_and_value"}
# Left open by the RFC. Those that are not here are refused: numbers beyond a double, lone
# surrogates, a byte order mark, 500 levels.
TAKEN = {
    "i_number_double_huge_neg_exp",
    "i_number_real_underflow",
    "i_number_too_big_neg_int",
    "i_number_too_big_pos_int",
    "i_number_very_big_negative_int",
}


def suite() -> list[tuple[str, str]]:
    cases = json.loads(_SUITE.read_text("utf-8"))
    return [(case["name"].removesuffix(".json"), case["input"]) for case in cases]


def whole() -> list[tuple[str, str]]:
    """Those that are in the package as they were: bytes that are no UTF-8 got lost on the way into
    its texts.
    """
    return [(name, text) for name, text in suite() if "\N{REPLACEMENT CHARACTER}" not in text]


def test_the_suite_is_whole() -> None:
    assert len(suite()) == 318
    assert len(whole()) == 293


@pytest.mark.parametrize(("name", "text"), whole(), ids=[name for name, _ in whole()])
def test_json(name: str, text: str) -> None:
    if (name.startswith("y_") and name not in STRICTER) or name in TAKEN:
        assert decode(text.encode()) == json.loads(text)
        assert decode(text) == json.loads(text)
    else:
        with pytest.raises(JsonError):
            decode(text.encode())
        with pytest.raises(JsonError):
            decode(text)


@pytest.mark.parametrize("text", [b'["\xff"]', b'["\xed\xa0\x80"]', b'["\xc0\xaf"]', b"[\xe9]"])
def test_what_is_no_utf_8_is_no_json(text: bytes) -> None:
    """The kinds that the package has lost."""
    with pytest.raises(JsonError):
        decode(text)

"""Paths as the server prints them, and which filters name one place only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

Path = tuple[str | int, ...]

_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_STEP: Final = re.compile(
    rf"""\.(?P<name>[^.\[\]"]+) | \.?\[(?P<index>\d+)\] | \.?\[(?P<string>{_STRING})\]""",
    re.VERBOSE | re.DOTALL,
)
# Names, indexes (negative ones too) and quoted names: at most one place can be meant.
_ONE_PLACE: Final = re.compile(
    rf"""\. | (?: \.(?!\*(?:$|[.\[]))[^.\[\]"]+ | \.?\[-?\d+\] | \.?\[{_STRING}\] )+""",
    re.VERBOSE | re.DOTALL,
)
# The singular queries of RFC 9535, section 2.3.5.1.
_ONE_NODE: Final = re.compile(
    rf"""\$ (?: \s*\.[^\W\d]\w* | \s*\[\s*(?: -?\d+ | {_STRING} | '(?:[^'\\]|\\.)*' )\s*\] )*""",
    re.VERBOSE | re.DOTALL,
)


@lru_cache(maxsize=4096)
def parse_path(text: str) -> Path:
    """The steps of `.users[0].name` or `.prices["BTC-USD"]`; `.` is the root, without steps.

    Raises `ValueError` for what is no path.
    """
    return () if text == "." else tuple(_steps(text))


def _steps(text: str) -> Iterator[str | int]:
    at = 0
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None:
            raise ValueError(f"not a path: {text!r} (column {at + 1})")
        if step["index"] is not None:
            yield int(step["index"])
        elif step["string"] is not None:
            yield json.loads(step["string"])
        else:
            yield step["name"]
        at = step.end()


def is_single(filter_text: str) -> bool:
    """Whether a filter can select one place at most, whatever the document is."""
    if filter_text.startswith("/"):
        return True  # an RFC 6901 pointer
    pattern = _ONE_NODE if filter_text.startswith("$") else _ONE_PLACE
    return pattern.fullmatch(filter_text) is not None

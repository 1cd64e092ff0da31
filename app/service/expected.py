"""The `if` of a write that is about the value there: `{"equals":…}` and its like."""

from __future__ import annotations

from typing import Any, Final

from triode.app.service.entry_encoding import is_large
from triode.app.wire.refusal import bad_request
from triode.store.json_type import JsonError
from triode.store.operation import Expected
from triode.store.value import decode

_DEPTH: Final = 256


def check_expected(given: Any) -> Expected:
    """Raises `Refusal` 400 for what is no condition, or one that is too large."""
    if type(given) is not dict or len(given) != 1:
        raise bad_request('"if" must have one member: equals, exists or less', member="if")
    [(test, value)] = given.items()
    if test == "equals":
        if is_large(value):
            raise bad_request('the value of "equals" is too large for a condition', member="if")
        return Expected("equals", value)
    if test == "exists":
        if type(value) is not bool:
            raise bad_request('"exists" must be true or false', member="if")
        return Expected("exists", value)
    if test == "less":
        if type(value) not in (int, float, str) or is_large(value):
            raise bad_request('"less" must be a number or a text', member="if")
        return Expected("less", value)
    raise bad_request(f'"if" knows equals, exists and less, not {test[:64]!r}', member="if")


def read_expected(text: str) -> Expected:
    """The same from a query, where it is JSON text."""
    try:
        return check_expected(decode(text.encode(), max_depth=_DEPTH))
    except JsonError as error:
        raise bad_request(f"if is not JSON: {error.detail}") from error

"""Values of the program's own types: made from JSON, and made into JSON.

msgspec does it, or pydantic where one of its models is meant; neither is needed without types.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, get_args

from .assembly import MISSING, Json
from .errors import WrongType
from .fetch import Fetch

Convert = Callable[[Json], Any]


def converter(type: Any) -> Convert:
    """What makes JSON into a value of this type: a class of msgspec, pydantic or `dataclasses`, a
    builtin, or one of these in a `list[…]` or `dict[str, …]`. None: JSON as it is.

    It raises `WrongType`; `MISSING` and a `Fetch` stay what they are. Raises `TypeError`
    where nothing is installed that knows types.
    """
    if type is None:
        return _as_it_is
    make = _maker(type)

    def convert(value: Json) -> Any:
        if value is MISSING or isinstance(value, Fetch):
            return value
        try:
            return make(dict(value) if isinstance(value, Mapping) else value)
        except ValueError as exc:  # theirs are, both
            raise WrongType(value, f"what is there is not a {_name(type)}: {exc}") from exc

    return convert


def _as_it_is(value: Json) -> Any:
    return value


@lru_cache(maxsize=256)
def _maker(type: Any) -> Convert:
    if not _is_pydantics(type):
        try:
            import msgspec

            return lambda value: msgspec.convert(value, type)
        except ImportError:
            pass
    try:
        from pydantic import TypeAdapter
    except ImportError:
        raise TypeError("type= needs msgspec: pip install 'triode-client[typed]'") from None
    return TypeAdapter(type).validate_python


def _is_pydantics(type: Any) -> bool:
    return hasattr(type, "__pydantic_core_schema__") or any(map(_is_pydantics, get_args(type)))


def _name(type: Any) -> str:
    return type.__name__ if isinstance(type, _CLASS) and not get_args(type) else str(type)


_CLASS = type


def jsonable(value: object) -> Json:
    """JSON for an instance of a class that `converter` knows. Raises `TypeError` for others."""
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if hasattr(value, "__pydantic_core_schema__") and hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, _CLASS):
        return dataclasses.asdict(value)
    raise TypeError(f"Object of type {_CLASS(value).__name__} is not JSON serializable")

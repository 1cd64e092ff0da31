"""Tables of `triode.toml`: what is too rich for one option.

    [[socket]]    more WebSocket routes: `socket_route`

Each kind has a field of `Settings`, which holds a tuple of what was read from its tables.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from triode.app.config.socket_route import SocketRoute, read_socket

if TYPE_CHECKING:
    from triode.app.config.settings import Settings


class Kind(NamedTuple):
    """The `field` of `Settings`; `read` makes a value of one table, or raises `ValueError` with
    what to do; `faults` finds what is wrong with all of them together.
    """

    field: str
    read: Callable[[Mapping[str, object], Settings], Any]
    faults: Callable[[tuple[Any, ...]], Iterator[str]]


def tables(toml: str | None, name: str, settings: Settings, faults: list[str]) -> dict[str, Any]:
    """What stands in the tables of a file, by field. All that is wrong goes to `faults`."""
    try:
        document = tomllib.loads(toml or "")
    except tomllib.TOMLDecodeError:
        return {}  # whoever read the options has said so
    found: dict[str, Any] = {}
    for key, kind in KINDS.items():
        given = document.get(key, [])
        if not isinstance(given, list) or not all(isinstance(table, dict) for table in given):
            faults.append(f"{name}: {key} must be written as [[{key}]] tables")
            continue
        values: list[Any] = []
        for number, table in enumerate(given, start=1):
            try:
                values.append(kind.read(table, settings))
            except ValueError as error:
                faults.append(f"{name}: [[{key}]] number {number}: {error}")
        found[kind.field] = tuple(values)
        faults.extend(f"{name}: {fault}" for fault in kind.faults(tuple(values)))
    return found


def _read_socket(table: Mapping[str, object], settings: Settings) -> SocketRoute:
    return read_socket(table, settings.ws_rate)


def _same_paths(routes: tuple[SocketRoute, ...]) -> Iterator[str]:
    shapes = [re.sub(r"\{\w+\}", "{}", route.path) for route in routes]
    for path in sorted({shape for shape in shapes if shapes.count(shape) > 1}):
        yield f"two [[socket]] tables have the path {path!r}; keep one"


KINDS: Final[Mapping[str, Kind]] = {
    "socket": Kind("sockets", _read_socket, _same_paths),
}

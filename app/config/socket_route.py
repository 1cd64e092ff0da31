"""Extra WebSocket routes: `[[socket]]` tables of triode.toml, with tags and a rate of their own.

    [[socket]]
    path = "/game/{table}"        # a client of /game/7 carries the tags table=7, kind=game
    tags = { kind = "game" }
    rate = "50/100"

A placeholder is a whole segment of the path and becomes a tag of that name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from triode.app.config.readers import read_rate
from triode.limits.known import first_unknown
from triode.limits.own_tag import is_own
from triode.limits.rate import Rate

# Routes of the server's own; a socket may not hide one, nor live below it.
RESERVED: Final = frozenset({
    "client.d.ts", "client.js", "connections", "console", "docs", "events", "health", "healthz",
    "metrics", "openapi.json", "publish", "readyz", "stats", "store", "streams", "token", "tokens",
    "triode-value.js", "ws",
})  # fmt: skip
KEYS: Final = ("path", "tags", "rate")

_LITERAL = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SocketRoute:
    """One extra WebSocket route. `rate` holds for the commands of each client, None is no limit."""

    path: str
    tags: tuple[tuple[str, str], ...] = ()
    rate: Rate | None = None

    def match(self, path: str) -> dict[str, str] | None:
        """The tags of a client that asked for `path` (percent-decoded); None: another route's."""
        wanted, given = self.path.split("/"), path.split("/")
        if len(wanted) != len(given):
            return None
        tags = dict(self.tags)
        for pattern, segment in zip(wanted, given, strict=True):
            placeholder = _PLACEHOLDER.fullmatch(pattern)
            if placeholder and segment:
                tags[placeholder[1]] = segment
            elif pattern != segment:
                return None
        return tags


def read_socket(table: Mapping[str, object], default_rate: Rate | None) -> SocketRoute:
    """Make a route from a `[[socket]]` table; raises `ValueError` with what to do.

    Without a rate of its own it has the one of all other WebSocket clients.
    """
    unknown = first_unknown("key", sorted(table), KEYS)
    if unknown is not None:
        raise ValueError(unknown)
    path = _path(table.get("path"))
    tags = _tags(table.get("tags", {}))
    twice = {name for name, _ in tags} & {found[1] for found in _PLACEHOLDER.finditer(path)}
    if twice:
        raise ValueError(
            f"the tag {min(twice)!r} is given by the path already; take it out of tags"
        )
    return SocketRoute(path, tags, _rate(table["rate"]) if "rate" in table else default_rate)


def _path(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or value == "/":
        raise ValueError('path must be a text that starts with a slash, such as "/game/{table}"')
    segments = value[1:].split("/")
    for segment in segments:
        if not (_LITERAL.fullmatch(segment) or _PLACEHOLDER.fullmatch(segment)):
            raise ValueError(f"path {value!r}: {segment!r} must be a plain segment or one {{name}}")
    if segments[0] in RESERVED or _PLACEHOLDER.fullmatch(segments[0]):
        raise ValueError(
            f"path {value!r} would hide a route of the server; begin it with another name"
        )
    names = _PLACEHOLDER.findall(value)
    if len(set(names)) < len(names):
        raise ValueError(f"path {value!r} names a placeholder twice")
    return value


def _tags(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError('tags must be a table of texts, such as { kind = "game" }')
    own = next(filter(is_own, map(str, value)), None)
    if own is not None:
        raise ValueError(f"the tag {own!r} is one that a client gives itself; choose another name")
    return tuple((str(name), str(text)) for name, text in value.items())


def _rate(value: object) -> Rate | None:
    try:
        return read_rate(value)
    except ValueError as exc:
        raise ValueError(f"rate {exc}") from None

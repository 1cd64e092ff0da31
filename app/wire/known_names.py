"""The names that requests may hold: query parameters by route, members by command.

Whatever is not here is refused with `did you mean …?` (`limits.known`): a misspelt name must never
be passed over. A test holds the tables of queries and subscriptions to the OpenAPI
description.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from triode.app.wire.refusal import bad_request
from triode.limits.known import first_unknown

Names = tuple[str, ...]

# Part of each query: it is where a token may be (docs/wire.md, Tokens).
ANYWHERE: Final = ("access_token",)
TAG: Final = "tag."  # tag.NAME; `tag.` here stands for all of them

_STREAM: Final = (
    "filter", "room", "policy", "snapshot", "since", "lastEventId", "lease", "heartbeat",
    "max_event", "at", TAG
)  # fmt: skip
_WRITE: Final = ("path", "create", "if", "ttl")
_SELECTORS: Final = ("id", TAG)
# A file of the server: a new value of v makes caches ask for it anew.
_FILE: Final[Mapping[str, Names]] = {"GET": ("v",)}

# By route, as the OpenAPI description writes it, and method. What is not here has no parameters.
QUERY: Final[Mapping[str, Mapping[str, Names]]] = {
    "/store": {
        "GET": ("path", "filter", "at"),
        "PUT": _WRITE,
        "POST": (*_WRITE, "push", "touch"),
        "PATCH": _WRITE,
        "DELETE": ("path", "if"),
    },
    "/events": {"GET": _STREAM},
    "/ws": {"GET": _STREAM},
    "/connections": {"GET": (*_SELECTORS, "limit")},
    "/connections/send": {"POST": _SELECTORS},
    "/connections/tags": {"POST": _SELECTORS},
    "/connections/close": {"POST": _SELECTORS},
    "/tokens": {"GET": ("limit", "after")},
    "/stats": {"GET": ("clients", "limit")},
    "/log": {"GET": ("since", "limit")},
    "/debug/profile": {"GET": ("seconds",)},
    "/": _FILE,
    "/docs": _FILE,
    "/client.js": _FILE,
    "/client.d.ts": _FILE,
    "/triode-value.js": _FILE,
    "/console/{name}": _FILE,
}

# Members of the body of `POST /events`, beside `tag.NAME`.
SUBSCRIPTION: Final = (
    "filter", "room", "policy", "snapshot", "since", "lease", "heartbeat", "max_event",
    "at", "tags"
)  # fmt: skip

# What each command may have, beside its name and `ref`.
_NAMED: Final = ("type", "op", "cmd", "ref")
_COMMANDS: Final[Mapping[str, Names]] = {
    "get": ("filter", "path", "at"),
    "set": ("path", "value", "create", "if", "ttl", "key"),
    "merge": ("path", "patch", "value", "if", "ttl", "key"),
    "patch": ("path", "patch", "value", "if", "ttl", "key"),
    "delete": ("path", "if", "key"),
    "increment": ("path", "by", "if", "ttl", "key"),
    "append": ("path", "value", "if", "ttl", "key"),
    "push": ("path", "value", "if", "ttl", "key"),
    "touch": ("path", "ttl", "if", "key"),
    "batch": ("ops", "atomic", "key"),
    "publish": ("room", "to", "tags", "event", "data", "echo"),
    "subscribe": ("filter", "policy", "since", "snapshot", "max_event", "at"),
    "unsubscribe": ("filter",),
    "join": ("room", "since", "was"),
    "leave": ("room",),
    "tag": ("tags",),
    "auth": ("token",),
    "ping": (),
}
COMMANDS: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset((*_NAMED, *names)) for name, names in _COMMANDS.items()
}


def check_query(route: str, method: str, params: Collection[str]) -> None:
    """Raises `Refusal` 400 for a parameter that the route does not have."""
    if not params:
        return
    known = QUERY.get(route, {}).get("GET" if method == "HEAD" else method, ())
    if all(name in known for name in params):  # most requests
        return
    prefix = TAG if TAG in known else None
    named = [name for name in known if name != TAG]
    _refuse("parameter", params, [*named, *ANYWHERE], prefix)


def check_members(
    body: Mapping[str, Any], known: Collection[str], prefix: str | None = None
) -> None:
    """Raises `Refusal` 400 for a member that is not known."""
    _refuse("member", body, known, prefix)


def check_command(name: str, command: Mapping[str, Any]) -> None:
    """Raises `Refusal` 400 for a command, or a member, that does not exist."""
    known = COMMANDS.get(name)
    if known is None:
        unknown = first_unknown("command", [name], list(COMMANDS))
        raise bad_request(unknown or "unknown command", member="type")
    if command.keys() <= known:
        return
    _refuse("member", command, ["type", *_COMMANDS[name], "ref"], None, also=_NAMED)


def _refuse(
    what: str,
    given: Collection[str],
    known: Collection[str],
    prefix: str | None,
    also: Collection[str] = (),
) -> None:
    for name in given:
        if name in also:
            continue
        sentence = first_unknown(what, [name], known, prefix=prefix)
        if sentence is not None:
            raise bad_request(sentence, **{what: name[:64]})

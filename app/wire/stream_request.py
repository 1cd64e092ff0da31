"""What a client asks for when it opens a stream: filters, rooms, policy, where to begin, tags
(docs/wire.md, `GET /events` and `GET /ws`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, field

from triode.app.wire.known_names import SUBSCRIPTION, TAG, check_members
from triode.app.wire.max_event import check_max_event
from triode.app.wire.refusal import Refusal, bad_request
from triode.limits.policy import Policy, parse_policy
from triode.store.change import Position, parse_position
from triode.store.filter import split_filters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from triode.app.config.settings import Settings
    from triode.app.config.socket_route import SocketRoute
    from triode.store.filter import Filter
    from triode.store.path import FilterError

MAX_EVENT_CHARS: Final = 128
# What the server says by itself (and "message" is what all messages are).
OWN_EVENTS: Final = frozenset(
    {
        "connected",
        "snapshot",
        "update",
        "delete",
        "gap",
        "status",
        "expiring",
        "heartbeat",
        "closing",
        "ok",
        "error",
        "pong",
    }
)
MAX_ROOM_CHARS: Final = 256
MAX_TAGS: Final = 32
MAX_TAG_CHARS: Final = 256
# Shorter, and a phone that sleeps for a moment loses its stream; longer, and it is no use.
MIN_LEASE_S: Final = 5
MAX_LEASE_S: Final = 3600
SECONDS: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)
# Control characters, line separators and lone surrogates. Not "what Python cannot print": that is
# also the joiner inside an emoji, and every emoji that is newer than this Python.
CONTROL: Final = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")
TAG_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


class StreamRequest(Struct, frozen=True):
    """A checked request for a stream; `filters` are those of `texts`, when they have been parsed.
    `since` None: from now; a position that was malformed is kept as `lost`.
    """

    filters: tuple[Filter, ...] = ()
    rooms: tuple[str, ...] = ()
    policy: Policy = Policy.DROP_NEWEST
    snapshot: bool = True
    since: Position | None = None
    resume: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    route: SocketRoute | None = None
    lease_s: float | None = None
    heartbeat_events: bool = False
    max_event: int = 0
    at: str | None = None
    texts: tuple[str, ...] = ()


def from_query(
    params: Mapping[str, Sequence[str]],
    last_event_id: str | None,
    settings: Settings,
    *,
    whole: bool,
) -> StreamRequest:
    """Read the query of `/events` or `/ws`. `whole`: no filter and no room means the whole
    document.

    Raises `Refusal` 400 that names the fault, with the column for a filter.
    """
    filters = [part for text in params.get("filter", ()) for part in split_filters(text)]
    tags = {
        name.removeprefix("tag."): values[-1]
        for name, values in params.items()
        if name.startswith("tag.")
    }
    return _checked(
        filters=filters,
        rooms=list(params.get("room", ())),
        policy=_last(params, "policy"),
        snapshot=_last(params, "snapshot"),
        # In the query it comes from clients that cannot set a field (EventSource polyfills).
        since=last_event_id or _last(params, "lastEventId") or _last(params, "since"),
        tags=tags,
        lease=_last(params, "lease"),
        heartbeat=_last(params, "heartbeat"),
        max_event=_last(params, "max_event"),
        at=_last(params, "at"),
        settings=settings,
        whole=whole,
    )


def from_json(body: Any, last_event_id: str | None, settings: Settings) -> StreamRequest:
    """Read the body of `POST /events`: the members of the query as JSON; `filter` and `room` a
    string or a list.

    Tags are `{"tags": {name: value}}` or members `tag.NAME`. Raises `Refusal` 400.
    """
    if not isinstance(body, dict):
        raise bad_request("the body must be a JSON object with the members of the query")
    check_members(body, SUBSCRIPTION, TAG)
    tags = body.get("tags", {})
    if not isinstance(tags, dict):
        raise bad_request('"tags" must be an object of strings')
    tags = dict(tags)
    tags |= {k.removeprefix("tag."): v for k, v in body.items() if k.startswith("tag.")}
    since = last_event_id if last_event_id else body.get("since")
    if since is not None and not isinstance(since, str):
        raise bad_request('"since" must be a position, a string EPOCH:SEQ')
    return _checked(
        filters=texts(body, "filter"),
        rooms=texts(body, "room"),
        policy=body.get("policy"),
        snapshot=body.get("snapshot"),
        since=since,
        tags=tags,
        lease=body.get("lease"),
        heartbeat=body.get("heartbeat"),
        max_event=body.get("max_event"),
        at=body.get("at"),
        settings=settings,
        whole=True,
    )


def texts(body: Mapping[str, Any], name: str) -> list[str]:
    """A member that is a string or a list of strings. Raises `Refusal` 400 when it is neither."""
    value = body.get(name)
    if value is None:
        return []
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise bad_request(f'"{name}" must be a string or a list of strings', member=name)
    return listed


def selectors(
    params: Mapping[str, Sequence[str]],
) -> tuple[list[str], dict[str, str]]:
    """The selectors of a query: the ids of clients, and tags. Raises `Refusal` 400."""
    tags: dict[str, str] = {}
    for name, values in params.items():
        if name.startswith("tag."):
            tags[name.removeprefix("tag.")] = values[-1]
            if len(set(values)) > 1:
                raise bad_request(f"no client can have two values of {name}", member=name)
    return list(params.get("id", ())), tags


def check_limit(params: Mapping[str, Sequence[str]], default: int, most: int) -> int:
    """The parameter `limit`, 1 to `most`. Raises `Refusal` 400."""
    text = _last(params, "limit")
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 0 < int(text) <= most):
        raise bad_request(f'"limit" must be 1 to {most}', limit=most)
    return int(text)


def check_filter_text(text: Any) -> str:
    """The text of a filter, whether or not it parses. Raises `Refusal` 400."""
    if not isinstance(text, str):
        raise bad_request('"filter" must be a string such as ".users[*].name"', member="filter")
    return text


def malformed_filter(error: FilterError) -> Refusal:
    """400 for a filter that does not parse."""
    return bad_request(
        f"malformed filter: {error.detail} (column {error.column})",
        column=error.column,
        filter=error.text,
    )


def check_position(text: Any, member: str, otherwise: str = "") -> Position | None:
    """The position that a `member` of a request names; None when there is none. Raises `Refusal`
    400, which tells what it may be `otherwise`.
    """
    if text is None:
        return None
    position = parse_position(text) if type(text) is str else None
    if position is None:
        raise bad_request(
            f'"{member}" must be a position, EPOCH:SEQ, as a write or an ETag gave it{otherwise}'
        )
    return position


def check_if(text: Any) -> Position | None:
    """The position of an `if`, as `check_position`."""
    return check_position(text, "if", "; or an object with one of equals, exists and less")


def check_event(name: Any) -> str:
    """The name of a message. Raises `Refusal` 400 when it is empty, too long, or the server's own:
    whoever listens for those must not hear a peer instead.
    """
    if type(name) is not str or not 0 < len(name) <= MAX_EVENT_CHARS:
        raise bad_request(
            f'"event" must be 1 to {MAX_EVENT_CHARS} characters', limit=MAX_EVENT_CHARS
        )
    if name in OWN_EVENTS:
        raise bad_request(
            f'"event" may not be {name!r}, which is the name of an event of the server itself: '
            "choose another, such as " + repr(f"my-{name}"),
            member="event",
        )
    return name


def check_room(name: Any) -> str:
    """A room's name. Raises `Refusal` 400 when it is empty, too long or holds controls."""
    if not isinstance(name, str) or not name or len(name) > MAX_ROOM_CHARS or CONTROL.search(name):
        raise bad_request(
            f'"room" must be 1 to {MAX_ROOM_CHARS} characters, none of them a control character',
            limit=MAX_ROOM_CHARS,
            # Which of several it was: a client may know it by its name only.
            room=name[:1000] if isinstance(name, str) else None,
        )
    return name


def check_tags(tags: Mapping[str, Any], *, removable: bool = False) -> dict[str, Any]:
    """Names and values of tags; None as a value only where tags can be taken away. Raises
    `Refusal` 400.
    """
    check_tag_count(tags)
    for name, value in tags.items():
        if not TAG_NAME.fullmatch(name):
            raise bad_request(f"tag name {name[:64]!r} must be 1 to 64 of A-Z a-z 0-9 _ . -")
        if value is None and removable:
            continue
        if not isinstance(value, str) or len(value) > MAX_TAG_CHARS:
            raise bad_request(f"tag {name} must be a string of at most {MAX_TAG_CHARS} characters")
        if CONTROL.search(value):
            raise bad_request(f"tag {name} holds a control character")
    return dict(tags)


def check_tag_count(tags: Mapping[str, Any]) -> None:
    """Raises `Refusal` 400 for more tags than one client may carry."""
    if len(tags) > MAX_TAGS:
        raise bad_request(f"too many tags; {MAX_TAGS} are allowed", limit=MAX_TAGS)


def check_policy(value: Any) -> Policy:
    """An overflow policy; None is the default. Raises `Refusal` 400 with the choices."""
    if value is None:
        return Policy.DROP_NEWEST
    try:
        return parse_policy(value)
    except (ValueError, TypeError) as error:
        raise bad_request(str(error)) from error


def check_snapshot(value: Any) -> bool:
    """`full` (or None) or `none`. Raises `Refusal` 400."""
    if value not in (None, "full", "none"):
        raise bad_request('"snapshot" must be "full" or "none"')
    return bool(value != "none")


def check_heartbeat(value: Any) -> bool:
    """`event`, or `comment` (or None). Raises `Refusal` 400."""
    if value not in (None, "comment", "event"):
        raise bad_request('"heartbeat" must be "comment" or "event"')
    return bool(value == "event")


def check_lease(value: Any) -> float | None:
    """Seconds, as a number or its text; None is no lease. Raises `Refusal` 400."""
    if value is None:
        return None
    if isinstance(value, str) and SECONDS.fullmatch(value):
        value = float(value)
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not MIN_LEASE_S <= value <= MAX_LEASE_S:
        raise bad_request(
            f'"lease" must be {MIN_LEASE_S} to {MAX_LEASE_S} seconds', limit=MAX_LEASE_S
        )
    return float(value)


def _last(params: Mapping[str, Sequence[str]], name: str) -> str | None:
    values = params.get(name)
    return values[-1] if values else None


def _checked(
    *,
    filters: list[str],
    rooms: list[str],
    policy: Any,
    snapshot: Any,
    since: str | None,
    tags: dict[str, Any],
    lease: Any,
    heartbeat: Any,
    max_event: Any,
    at: Any,
    settings: Settings,
    whole: bool,
) -> StreamRequest:
    if not filters and not rooms and whole:
        filters = ["."]
    if len(filters) > settings.max_filters:
        raise bad_request(
            f"too many filters; {settings.max_filters} are allowed", limit=settings.max_filters
        )
    if len(rooms) > settings.max_rooms:
        raise bad_request(
            f"too many rooms; {settings.max_rooms} are allowed", limit=settings.max_rooms
        )
    if tags and not settings.client_tags:
        raise Refusal(403, "this server does not let clients tag themselves")
    return StreamRequest(
        texts=tuple(dict.fromkeys(filters)),
        rooms=tuple(dict.fromkeys(check_room(name) for name in rooms)),
        policy=check_policy(policy),
        snapshot=check_snapshot(snapshot),
        since=None if since is None else parse_position(since),
        resume=since is not None,
        tags=check_tags(tags),
        lease_s=check_lease(lease),
        heartbeat_events=check_heartbeat(heartbeat),
        max_event=check_max_event(max_event),
        at=at,
    )

"""JSON Schemas (2020-12, as OpenAPI 3.1 has them) of what goes over HTTP."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    """A reference to a schema of the description."""
    return {"$ref": f"#/components/schemas/{name}"}


def text(description: str, **more: Any) -> Schema:
    """A string."""
    return {"type": "string", "description": description, **more}


def integer(description: str, **more: Any) -> Schema:
    """A whole number."""
    return {"type": "integer", "description": description, **more}


def number(description: str, **more: Any) -> Schema:
    """A number."""
    return {"type": "number", "description": description, **more}


def array(items: Schema, description: str = "") -> Schema:
    """An array of one kind."""
    return {
        "type": "array",
        "items": items,
        **({"description": description} if description else {}),
    }


def object_(members: Schema, required: list[str] | None = None, **more: Any) -> Schema:
    """An object; all members are required unless `required` says which."""
    wanted = list(members) if required is None else required
    schema: Schema = {"type": "object", "properties": members, **more}
    return schema | {"required": wanted} if wanted else schema


ANY: Final[Schema] = {"description": "Any JSON value"}
POSITION: Final = text(
    "A place in the log of changes, EPOCH:SEQ", examples=["k3f9q2:1842"], pattern="^[^:]+:[0-9]+$"
)
TAGS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
NODES: Final[Schema] = {"type": "object", "description": "Other Triodes: `answered`, `missing`"}
POLICY: Final[Schema] = {"enum": ["drop-newest", "drop-oldest", "latest", "disconnect"]}
SCOPE: Final = 'what is not listed is denied; "*" is everything'


def _scope(entry: str, about: str) -> Schema:
    return {"description": about, "anyOf": [array(text(entry)), {"const": "*"}], "default": []}


_grant = {
    "read": _scope("A filter", f"What may be read; {SCOPE}"),
    "write": _scope("A filter", f"What may be written; {SCOPE}"),
    "rooms": _scope("A glob such as chat-*", f"Rooms that may be used; {SCOPE}"),
    "metrics": {"type": "boolean", "default": False, "description": "`GET /metrics`"},
    "admin": {"type": "boolean", "default": False},
}
_secret = text("The `secret` of the event `connected`, which only this stream was given")
_token = {
    "id": text("Names the token in DELETE /tokens/{token_id}"),
    "label": text("For people"),
    "grant": ref("Grant"),
    "created_at": number("Unix seconds"),
    "expires_at": {"type": ["number", "null"], "description": "Unix seconds; null is never"},
}
_check = object_(
    {"status": {"enum": ["ok", "degraded", "failed"]}}, ["status"], additionalProperties=True
)

SCHEMAS: Final[dict[str, Schema]] = {
    "Problem": object_(
        {
            "type": text("A URI, about:blank when the status says it all", format="uri-reference"),
            "title": text("The kind of problem"),
            "status": integer("The HTTP status"),
            "detail": text("What is wrong, and what to do about it"),
            "column": integer("Where in a path or filter, from 1", minimum=1),
            "offset": integer("Where in the body, in bytes", minimum=0),
            "limit": integer("The bound that was passed"),
            "retry_after": number("Seconds to wait"),
        },
        ["type", "title", "status", "detail"],
        description="RFC 9457; further members say what helps",
        additionalProperties=True,
    ),
    "Expected": object_(
        {
            "equals": ANY,
            "exists": {"type": "boolean"},
            "less": {"type": ["number", "string"]},
        },
        [],
        minProperties=1,
        maxProperties=1,
        additionalProperties=False,
        description="What a write wants to find at its place",
    ),
    "Written": object_(
        {"id": POSITION, "key": text("The name that a push gave")},
        ["id"],
        description="The write is in the log at this position",
    ),
    "Item": object_({"path": text("A path", examples=[".users[0].name"]), "value": ANY}),
    "Items": array(ref("Item"), "The selected places"),
    "JsonPatch": array(
        object_(
            {
                "op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]},
                "path": text("A JSON Pointer, relative to the place", format="json-pointer"),
                "from": text("A JSON Pointer", format="json-pointer"),
                "value": ANY,
            },
            ["op", "path"],
        ),
        "RFC 6902; all or nothing",
    ),
    "Command": object_(
        {
            "type": {
                "enum": [
                    *("get", "set", "merge", "patch", "delete", "increment", "append"),
                    *("push", "touch", "batch", "publish"),
                ]
            },
            "ref": {"type": ["string", "number", "boolean", "null"]},
            "path": text("A path"),
            "filter": text("A filter, for get"),
            "at": POSITION,
            "value": ANY,
            "patch": ANY,
            "by": number("For increment", default=1),
            "if": {"anyOf": [POSITION, ref("Expected")]},
            "key": text("The name of this write: it is done once", minLength=1, maxLength=255),
            "create": {"type": "boolean", "default": False},
            "ttl": {
                "type": ["number", "null"],
                "exclusiveMinimum": 0,
                "description": "The place ends so many seconds later; null and none: never",
            },
            "ops": array({"type": "object"}, "For batch"),
            "atomic": {"type": "boolean", "default": False},
        },
        ["type"],
        additionalProperties=True,
        examples=[{"type": "set", "path": ".a", "value": 1, "ref": 7}],
    ),
    "Answer": object_(
        {
            "ref": {"type": ["string", "number", "boolean", "null"]},
            "type": {"enum": ["ok", "error"]},
            "ok": {"type": "boolean"},
            "id": POSITION,
            "items": ref("Items"),
            "positions": array({"type": ["string", "null"]}),
            "reached": integer("Clients", minimum=0),
            "error": ref("Problem"),
        },
        ["type", "ok"],
        additionalProperties=True,
    ),
    "Message": object_(
        {
            "room": {"oneOf": [text("A room"), array(text("A room"))]},
            "to": text("The id of a client"),
            "tags": TAGS,
            "event": text("The name of the message", default="message", maxLength=128),
            "data": ANY,
        },
        [],
        description="Exactly one of room, to and tags; tags are for admins",
        additionalProperties=False,
    ),
    "Reached": object_({"reached": integer("To how many", minimum=0), "nodes": NODES}, ["reached"]),
    "Client": object_(
        {
            "client": text("The id, c_…"),
            "transport": {"enum": ["sse", "websocket"]},
            "lane": {"enum": ["native", "asgi"]},
            "ip": text("The address that limits count"),
            "name": {"type": ["string", "null"], "description": "Whose token; null is nobody's"},
            "tags": TAGS,
            "rooms": array(text("A room")),
            "filters": array(object_({"filter": text("A filter"), "policy": POLICY})),
            "state": {
                "enum": ["flowing", "slow", "healing"],
                "description": "healing: it has lost something and is not repaired yet",
            },
            "queued": integer("Events that wait for it", minimum=0),
            "queued_bytes": integer("Bytes that wait for it", minimum=0),
            "oldest_s": number("Seconds that the oldest of it has waited"),
            "connected_s": number("Seconds since it connected"),
            "sent": integer("Events sent to it, heartbeats not among them", minimum=0),
            "sent_bytes": integer("Bytes sent to it", minimum=0),
            "dropped": integer("Events lost", minimum=0),
            "drops": {
                "type": "object",
                "description": "The same by reason",
                "additionalProperties": {"type": "integer"},
            },
            "heals": integer("How often it was repaired", minimum=0),
        },
        description="A connection, as it is now",
    ),
    "Clients": object_(
        {
            "connections": array(ref("Client"), "The oldest first of each Triode, `limit` in all"),
            "total": integer("How many were selected", minimum=0),
            "nodes": NODES,
        },
        ["connections", "total"],
    ),
    "Content": object_(
        {"data": ANY, "text": text("Sent as it is")},
        [],
        description="Either of the two. A WebSocket gets it alone as a text frame, data as JSON; "
        "an event stream gets it as the `data` of a `message`",
        additionalProperties=False,
    ),
    "TagChange": object_(
        {
            "tags": {
                "type": "object",
                "description": "null takes a tag away",
                "additionalProperties": {"type": ["string", "null"]},
            }
        },
        additionalProperties=False,
    ),
    "Grant": object_(_grant, [], additionalProperties=False),
    "TokenRequest": object_(
        {
            "grant": ref("Grant"),
            **_grant,
            "ttl_s": {"type": ["number", "null"], "default": 86400, "exclusiveMinimum": 0},
            "label": text("For people", maxLength=200),
        },
        [],
        description="The grant whole, or by its members. ttl_s null: until revoked",
        additionalProperties=False,
    ),
    "Token": object_(_token),
    "IssuedToken": object_({"token": text("The secret, shown this once"), **_token}),
    "Tokens": object_(
        {
            "tokens": array(ref("Token")),
            "next": text("To be given as `after`; null on the last page")
            | {"type": ["string", "null"]},
        }
    ),
    "Renewal": object_(
        {"secret": _secret, "token": text("The new token; or send it as Authorization: Bearer")},
        ["secret"],
        additionalProperties=False,
    ),
    "Proof": object_({"secret": _secret}, additionalProperties=False),
    "OwnToken": object_(
        {
            "name": text("The label or id of the token, or the sub of the JWT"),
            "source": {"enum": ["token", "jwt", "anonymous"]},
            "id": {"type": ["string", "null"], "description": "Of a token of the server's own"},
            "grant": ref("Grant"),
            "expires_at": {"type": ["number", "null"], "description": "Unix seconds; null: never"},
        }
    ),
    "Health": object_(
        {
            "status": {"enum": ["healthy", "degraded", "unhealthy"]},
            "connections": integer("Clients connected"),
            "uptime": number("Seconds"),
            "memory": object_({"rss_bytes": integer("Resident memory")}),
            "checks": {"type": "object", "additionalProperties": _check},
        }
    ),
    "Log": object_(
        {
            "position": POSITION,
            "entries": array(
                object_(
                    {
                        "id": POSITION,
                        "time": integer("Unix milliseconds"),
                        "who": text("Who wrote it; empty: the server itself"),
                        "op": text("The command"),
                        "path": text("A path"),
                        "bytes": integer("Its length in the log, in place of a long content"),
                    },
                    ["id", "time", "who", "op"],
                    additionalProperties=True,
                )
            ),
            "next": POSITION,
            "more": {"type": "boolean", "description": "There are more: ask with since=next"},
        },
        ["position", "entries", "next", "more"],
    ),
    "Stats": object_(
        {
            "position": POSITION,
            "checksum": {
                "type": ["string", "null"],
                "description": "Of all that the log brought about: alike where the position is. "
                "Null without a log",
            },
            "counters": {"type": "object", "description": "Since the start; nested by label"},
            "rates": {
                "type": "object",
                "description": "Per second, over the last window_s seconds",
                "additionalProperties": {"type": "number"},
            },
            "gauges": {"type": "object", "additionalProperties": {"type": "number"}},
            "log": object_(
                {
                    "kept": {"enum": ["memory", "disk", "shared", "elsewhere"]},
                    "durability": {"enum": ["full", "relaxed"]},
                    "full": {"type": "boolean", "description": "No room: writes are refused"},
                    "snapshot": {"type": ["object", "null"], "description": "seq, and when (ms)"},
                },
                ["kept"],
            ),
            "cluster": {"type": "object", "description": "Who shares the log, and what to do"},
            "workers": {"type": "object", "description": "With `--workers`: who has answered"},
            "memory": {"type": "object", "description": "The ledger: what is held, in bytes"},
            "cpu": object_(
                {
                    "share_s": number("Seconds of a minute that one may cause; 0 is off"),
                    "filters": array(
                        object_({"filter": text("A filter"), "s": number("Seconds")}),
                        "Those evaluated for each write that have taken most, in all",
                    ),
                    "principals": array(
                        object_({"key": text("Token or address"), "owes_s": number("Seconds")}),
                        "Those who have caused most work of late",
                    ),
                },
                ["share_s", "filters", "principals"],
            ),
            "ends_log": array(
                object_(
                    {
                        "time": integer("Unix milliseconds"),
                        "client": text("The id that it had"),
                        "transport": {"enum": ["sse", "websocket"]},
                        "reason": text("Why it ended"),
                        "ip": text("Its address"),
                    }
                ),
                "The last connections that ended, at most 200, the newest first",
            ),
            "clients": array(ref("Client"), "With ?clients=: the furthest behind first"),
        },
        ["position", "counters", "rates", "gauges", "memory", "cpu", "ends_log"],
    ),
    "Subscription": object_(
        {
            "filter": {"oneOf": [text("A filter"), array(text("A filter"))]},
            "room": {"oneOf": [text("A room"), array(text("A room"))]},
            "policy": POLICY,
            "snapshot": {"enum": ["full", "none"]},
            "since": POSITION,
            "at": POSITION,
            "tags": TAGS,
            "lease": number(
                "Seconds after which the stream ends unless POST /streams/{client_id}/alive "
                "comes; event streams only",
                minimum=5,
                maximum=3600,
            ),
            "heartbeat": {
                "enum": ["comment", "event"],
                "description": "As what a heartbeat comes; event streams only",
            },
            "max_event": integer(
                "Bytes of the longest event of the document: a value that does not fit is "
                "replaced by `fetch`, where it is to be had",
                minimum=1024,
            ),
        },
        [],
    ),
    "Change": object_(
        {
            "filter": text("The filter that selected it"),
            "path": text("Names the value that is delivered"),
            "value": ANY,
            "fetch": text("In place of the value: where to GET it, see `max_event`"),
            "time": integer("Unix milliseconds"),
        },
        ["filter", "path", "time"],
        description="The data of the events `update` and `delete` (which has no value)",
    ),
}

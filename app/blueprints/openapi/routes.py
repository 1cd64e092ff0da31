"""The routes of the HTTP side as OpenAPI describes them; a test holds them to the real ones."""

from __future__ import annotations

from typing import Final

from triode.app.blueprints.openapi.parts import OPEN, content, field, in_path, ok, query, route
from triode.app.blueprints.openapi.schemas import (
    ANY,
    POSITION,
    SCHEMAS,
    Schema,
    array,
    integer,
    ref,
    text,
)
from triode.app.blueprints.request_body import JSON, JSON_PATCH, MERGE_PATCH, NDJSON

READ: Final = (400, 401, 403, 404, 429)
WRITE: Final = (400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 429)
ADMIN: Final = (401, 403, 429)
CONTROL: Final = (400, *ADMIN, 408, 413, 415)

PLACE: Final = query("path", text("A path; . is the whole document"), required=True)
WHOLE: Final = query("path", text("A path", default="."))
CREATE: Final = query("create", {"type": "boolean", "description": "Make missing parents"})
PUSH: Final = query(
    "push", {"type": "boolean", "description": "Add it to the object there, under a new name"}
)
TOUCH: Final = query(
    "touch", {"type": "boolean", "description": "Write nothing, only say how long it stays: ttl"}
)
TTL: Final = query("ttl", text("Seconds after which the place ends; null is never"))
IF: Final = query(
    "if",
    text("A position: write only if unchanged since. Or JSON as in Expected: if that is there now"),
)
IF_MATCH: Final = field("If-Match", "A position in quotes: write only if unchanged since")
IF_NONE: Final = field("If-None-Match", "A position in quotes; on writes only *")
KEY: Final = field(
    "Idempotency-Key",
    "The name of this write, such as a UUID: sent again with it, it is not done again and answered "
    "as the first time. 422 if it was given to another write before",
)
CONDITIONS: Final = [IF_MATCH, IF_NONE, IF, KEY]
FILTERS: Final = query("filter", text("A filter; several are OR"), many=True)
TAGS_GIVEN: Final[Schema] = {
    "name": "tag",
    "in": "query",
    "description": "tag.NAME=VALUE; all of several. One that a client gave itself is client.NAME",
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}
AT: Final = query(
    "at", POSITION | {"description": "Wait until this server has come to this position"}
)
VERSION: Final = query("v", text("Any text; a new one passes caches by"))
STREAM: Final = [
    FILTERS,
    query("room", text("A room to hear"), many=True),
    query("policy", SCHEMAS["Subscription"]["properties"]["policy"]),
    query("snapshot", {"enum": ["full", "none"]}),
    query("since", POSITION),
    query("lastEventId", POSITION),
    query("max_event", SCHEMAS["Subscription"]["properties"]["max_event"]),
    AT,
    TAGS_GIVEN,
]
SELECTORS: Final = [
    query("id", text("The id of a client; any of several"), many=True),
    TAGS_GIVEN,
]
SENT: Final = content(ref("Content")) | content(
    {"type": "string", "format": "binary"}, "application/octet-stream"
)
REACHED: Final = ok("How many were selected", ref("Reached"))
LEASE: Final = SCHEMAS["Subscription"]["properties"]["lease"]
HEARTBEAT: Final = SCHEMAS["Subscription"]["properties"]["heartbeat"]
LIMIT: Final = integer("At most so many clients", minimum=1)
WRITTEN: Final = ok("Written", ref("Written"))
TEXT: Final[Schema] = {"type": "string"}
ANSWERS: Final = content(ref("Answer"), NDJSON) | content(array(ref("Answer")))
EVENTS: Final = ok("Events until either side ends it", TEXT, "text/event-stream")


def _page(summary: str, answer: Schema, fails: tuple[int, ...] = (), *parameters: Schema) -> Schema:
    """A page or a file for people and their browsers, to whom it is open."""
    return {
        "get": route(
            "pages",
            summary,
            answer,
            fails,
            parameters=[*parameters, VERSION],
            security=OPEN,
        )
    }


PATHS: Final[Schema] = {
    "/store": {
        "get": route(
            "document",
            "Read a place (bare value), or what a pattern or filters select (a list)",
            ok("The value, or the selected places", {"anyOf": [ANY, ref("Items")]}),
            (304, *READ, 412, 503),
            parameters=[
                query("path", text("A path, or one filter")),
                FILTERS,
                IF_NONE,
                AT,
                field("If-Position", "As `at`"),
            ],
        ),
        "put": route(
            "document",
            "Set a place",
            WRITTEN,
            WRITE,
            parameters=[PLACE, CREATE, TTL, *CONDITIONS],
            body=content(ANY),
        ),
        "post": route(
            "document",
            "Set the whole document, or a place; or add a member to an object",
            WRITTEN,
            WRITE,
            parameters=[WHOLE, CREATE, TTL, PUSH, TOUCH, *CONDITIONS],
            body=content(ANY),
        ),
        "patch": route(
            "document",
            "Set (JSON), merge (RFC 7396) or patch (RFC 6902) a place",
            WRITTEN,
            WRITE,
            parameters=[PLACE, CREATE, TTL, *CONDITIONS],
            body=content(ANY, JSON, MERGE_PATCH) | content(ref("JsonPatch"), JSON_PATCH),
        ),
        "delete": route(
            "document",
            "Remove a place",
            WRITTEN,
            (400, 401, 403, 404, 412, 422, 429),
            parameters=[PLACE, *CONDITIONS],
        ),
    },
    "/store/batch": {
        "post": route(
            "document",
            "Carry out many commands, each by itself; an answer for each, in order",
            {"200": {"description": "An answer per command", "content": ANSWERS}},
            (400, 401, 408, 413, 415, 429),
            parameters=[KEY],
            body=content(ref("Command"), NDJSON) | content(array(ref("Command"))),
        )
    },
    "/events": {
        "get": route(
            "streams",
            "Server-Sent Events: the state, then every change of it",
            EVENTS,
            (400, 401, 403, 429, 503),
            parameters=[
                *STREAM,
                query("lease", LEASE),
                query("heartbeat", HEARTBEAT),
                field("Last-Event-ID", "Resume after this position"),
            ],
        ),
        "post": route(
            "streams",
            "As GET, for subscriptions too long for a URL",
            EVENTS,
            (400, 401, 403, 413, 415, 429, 503),
            body=content(ref("Subscription")),
        ),
    },
    "/ws": {
        "get": route(
            "streams",
            "WebSocket: the same and commands, as JSON text frames",
            ok("The protocol is switched", status=101),
            (400, 401, 403, 429, 503),
            parameters=STREAM,
        )
    },
    "/streams/{client_id}/token": {
        "post": route(
            "tokens",
            "Renew the token of a living stream",
            ok("Renewed", status=204),
            (400, 401, 403, 404, 413, 415, 429),
            parameters=[in_path("client_id", "The `client` of the event `connected`")],
            body=content(ref("Renewal")),
            security=OPEN,
        )
    },
    "/streams/{client_id}/alive": {
        "post": route(
            "streams",
            "Renew the lease of a stream that was opened with one",
            ok("Renewed", status=204),
            (400, 403, 404, 409, 413, 415, 429),
            parameters=[in_path("client_id", "The `client` of the event `connected`")],
            body=content(ref("Proof")),
            security=OPEN,
        )
    },
    "/publish": {
        "post": route(
            "messages",
            "Send a message to a room, to a client, or to the clients with certain tags",
            ok("Sent", ref("Reached")),
            (400, 401, 403, 408, 413, 415, 429),
            body=content(ref("Message")),
        )
    },
    "/connections": {
        "get": route(
            "operations",
            "List clients: those selected, or all (admin)",
            ok("As they are now", ref("Clients")),
            (400, *ADMIN),
            parameters=[*SELECTORS, query("limit", LIMIT | {"default": 1000, "maximum": 10_000})],
        )
    },
    "/connections/send": {
        "post": route(
            "messages",
            "Send text, JSON or bytes to the selected clients; no selector selects nobody (admin)",
            REACHED,
            CONTROL,
            parameters=SELECTORS,
            body=SENT,
        )
    },
    "/connections/tags": {
        "post": route(
            "operations",
            "Set and take away tags of the selected clients (admin)",
            REACHED,
            CONTROL,
            parameters=SELECTORS,
            body=content(ref("TagChange")),
        )
    },
    "/connections/close": {
        "post": route(
            "operations",
            "End the selected clients with 1000, after sending them the body, if any (admin)",
            REACHED,
            CONTROL,
            parameters=SELECTORS,
            requestBody={"content": SENT},
        )
    },
    "/token": {
        "get": route(
            "tokens",
            "Who the caller is, and what it may do",
            ok("The caller, also when it is anonymous", ref("OwnToken")),
            (400, 401, 429),
        )
    },
    "/tokens": {
        "post": route(
            "tokens",
            "Issue a token; its secret is shown this once (admin)",
            ok("Issued", ref("IssuedToken"), status=201),
            (400, *ADMIN, 409, 413, 415),
            body=content(ref("TokenRequest")),
        ),
        "get": route(
            "tokens",
            "List the tokens, the oldest first (admin)",
            ok("A page of them", ref("Tokens")),
            (400, *ADMIN),
            parameters=[
                query("limit", integer("At most so many", minimum=1, default=1000, maximum=1000)),
                query("after", text("`next` of the page before")),
            ],
        ),
    },
    "/tokens/{token_id}": {
        "delete": route(
            "tokens",
            "Revoke a token and end the streams it opened (admin)",
            ok("Revoked", status=204),
            (*ADMIN, 404),
            parameters=[in_path("token_id", "The id of the token, not its secret")],
        )
    },
    "/health": {
        "get": route(
            "operations",
            "How the server is, check by check",
            ok("Healthy or degraded", ref("Health")) | ok("Unhealthy", ref("Health"), status=503),
            security=OPEN,
        )
    },
    "/healthz": {
        "get": route(
            "operations",
            "Liveness",
            ok("Alive", TEXT, "text/plain") | ok("To be restarted", TEXT, "text/plain", status=503),
            security=OPEN,
        )
    },
    "/readyz": {
        "get": route(
            "operations",
            "Readiness",
            ok("Ready", TEXT, "text/plain") | ok("Not now", TEXT, "text/plain", status=503),
            security=OPEN,
        )
    },
    "/stats": {
        "get": route(
            "operations",
            "Counters, rates, gauges; clients that are behind (admin)",
            ok("Now", ref("Stats")),
            (400, *ADMIN),
            parameters=[
                query("clients", {"enum": ["slow", "all"], "description": "Add clients to it"}),
                query("limit", LIMIT | {"default": 100, "maximum": 1000}),
            ],
        )
    },
    "/metrics": {
        "get": route(
            "operations",
            "The same for Prometheus (admin, or the grant `metrics`)",
            ok("Now", TEXT, "text/plain", "application/openmetrics-text"),
            ADMIN,
        )
    },
    "/log": {
        "get": route(
            "operations",
            "What was written last, when, by whom (admin; where a log is kept)",
            ok("Entries, the oldest first", ref("Log")),
            (400, *ADMIN, 404),
            parameters=[
                query("since", POSITION),
                query("limit", integer("At most so many", minimum=1, default=100, maximum=1000)),
            ],
        )
    },
    "/backup": {
        "get": route(
            "operations",
            "A copy of all that is kept, for triode restore (admin; where a log is kept)",
            ok("A SQLite file", {"type": "string", "format": "binary"}, "application/vnd.sqlite3"),
            (*ADMIN, 404, 503, 507),
        )
    },
    "/openapi.json": {
        "get": route(
            "pages", "This description", ok("OpenAPI 3.1", {"type": "object"}), security=OPEN
        )
    },
    "/docs": _page("This description, to read", ok("A page", TEXT, "text/html")),
    "/": _page("The console", ok("A page", TEXT, "text/html")),
    "/console/{name}": _page(
        "A part of the console: style, script or picture",
        ok("A file", TEXT, "text/javascript"),
        (404,),
        in_path("name", "The name of a file, such as main.js"),
    ),
    "/client.js": _page("The browser client", ok("JavaScript", TEXT, "text/javascript")),
    "/triode-value.js": _page(
        "The element `<triode-value>`, for pages without a framework",
        ok("JavaScript", TEXT, "text/javascript"),
    ),
    "/client.d.ts": _page(
        "The types of the browser client", ok("TypeScript", TEXT, "application/typescript")
    ),
}

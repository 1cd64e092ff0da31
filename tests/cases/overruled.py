"""Cases that docs/wire.md overrules: what it says instead, and what is checked in their place.

Where a case contradicts docs/wire.md (names of events, refused syntax that Triode supports),
docs/wire.md
wins; what the case is about still has to hold. The rules that touch whole areas:

- Bodies. Writes answer `{"id": position}` and refusals are problem objects (docs/wire.md, HTTP), so
  the seed's `json` of an answer is never compared; its status is.
- `initial_data` is `snapshot`, `init` is an `update` of the root (docs/wire.md, Events).
- `delivered` with the filtered array of the seed is one `update` per selected element
(docs/wire.md, Events);
  what is compared is the assembled selection.
- `not_found` is 404, `invalid_path` is 400 with a column, `size_bytes`, `uuid` and the like are not
  compared.
"""

from __future__ import annotations

from typing import Final

# Case id → (why, the expectation that holds instead, in the terms of the case).
OVERRULED: Final[dict[str, tuple[str, dict[str, object]]]] = {
    "cplug.authorize.003": (
        "docs/wire.md, Tokens: what is not granted is denied; everything is said as *",
        {"ok": False, "code": "permission_denied/403"},
    ),
    "gosse.http.store.001": (
        "docs/wire.md, Paths: the root is .; an empty path is an error",
        {
            "status": 200,
            "then_get": {
                "path": ".",
                "value": {"users": [{"id": 1, "name": "Alice", "status": "online"}]},
            },
        },
    ),
    "gosse.filter.query.007": (
        "docs/wire.md, HTTP: unknown query parameters are refused",
        {"status": 400, "filters": []},
    ),
    "gosse.path.delete.003": (
        "docs/wire.md, Events: removal from an array moves its elements",
        {"data_after": {"users": [], "config": {"maxUsers": 100}}},
    ),
    "gosse.path.get.009": (
        "docs/wire.md, HTTP: with wildcards a path answers items",
        {
            "items": [
                {"path": ".users[0]", "value": {"id": 1, "name": "Alice", "status": "online"}},
                {"path": ".users[1]", "value": {"id": 2, "name": "Bob", "status": "offline"}},
            ]
        },
    ),
    "gosse.path.parse.011": (
        "docs/wire.md, Paths: [-1] is a path",
        {"segments": [{"type": "root"}, {"type": "property", "value": "users"}, {"type": "last"}]},
    ),
    "gosse.path.parse.013": (
        "docs/wire.md, Paths: ..name is descent",
        {"segments": [{"type": "root"}, {"type": "descent", "value": "name"}]},
    ),
    "gosse.path.parse.015": (
        "docs/wire.md, Paths: .* is every member",
        {
            "segments": [
                {"type": "root"},
                {"type": "property", "value": "config"},
                {"type": "members"},
            ]
        },
    ),
    "gosse.path.set.007": (
        "docs/wire.md, Paths: the document is any JSON value",
        {"get": {".": [1]}},
    ),
    "gosse.http.store.007": (
        "docs/wire.md, Paths: the document is any JSON value",
        {"status": 200, "then_get": {"path": ".", "value": [1]}},
    ),
    "gosse.http.store.015": (
        "docs/wire.md, HTTP: DELETE removes",
        {"status": 200, "then_get": {"path": ".", "value": {"users": [{"status": "x"}]}}},
    ),
    "gosse.sse.003": (
        "docs/wire.md, GET /events: no-store; CORS is for the same origin by default",
        {
            "first_event": {"event": "connected"},
            "headers": {"content-type": "text/event-stream", "cache-control": "no-store"},
        },
    ),
    "gosse.sse.007": (
        "docs/wire.md, Events: a snapshot always follows, if need be one without items",
        {"snapshot_items": []},
    ),
    "gosse.sse.013": (
        "docs/wire.md, GET /events: POST /events subscribes by its body; without JSON it is 415",
        {"status": 415},
    ),
    "nano.server.015": (
        "docs/wire.md, GET /ws: binary frames are JSON in bytes; others are an error, not an end",
        {"answered": "error"},
    ),
}

# Cases about a part that the running server does not have, or not as a message on the wire.
ELSEWHERE: Final[dict[str, str]] = {
    "nano.server.009": "rooms vanish with their last member; there is no command that deletes one",
}

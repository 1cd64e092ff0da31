"""The description of the HTTP side, an OpenAPI 3.1 document.

By hand, since what matters to a user (which statuses, which fields, what a parameter means) stands
in no signature. The routes are in `openapi_routes`, what goes through them in `schemas`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from triode.app.blueprints.openapi.parts import OPEN
from triode.app.blueprints.openapi.routes import PATHS
from triode.app.blueprints.openapi.schemas import SCHEMAS, Schema
from triode.app.runtime.build import version

if TYPE_CHECKING:
    from triode.app.config.settings import Settings

TAGS: Final = {
    "document": "Read and write the document",
    "streams": "Hear of changes and messages",
    "messages": "Messages that are not state",
    "tokens": "Who may do what",
    "operations": "How the server is",
    "pages": "For people",
}


def describe(base: str, settings: Settings | None = None) -> Schema:
    """The whole document for a server whose routes begin at the URL path `base`.

    `settings` tell what this server asks for: without authentication no token is wanted.
    """
    authenticated = settings is None or settings.auth
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Triode",
            "version": version(),
            "summary": "One signal in, thousands out",
            "description": "One JSON document; read it, write it, and watch parts of it change.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": base}],
        "security": [{"bearer": []}, {"key": []}, {"query": []}] if authenticated else OPEN,
        "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
        "paths": PATHS,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "query": {"type": "apiKey", "in": "query", "name": "access_token"},
            },
        },
    }

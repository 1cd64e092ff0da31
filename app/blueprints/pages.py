"""What a browser opens: the console at `/`, the description at `/docs` with `/openapi.json` behind
it, the client library at `/client.js` with its types at `/client.d.ts`, and its element for plain
pages at `/triode-value.js`.

The pages use nothing from elsewhere, and say so in their Content-Security-Policy: it allows files
of this server, the one script and the one style that a page holds itself by their hash, and
requests to this server. Addresses in them are relative, so they also work under an `url_prefix`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from triode.app.blueprints.gated import gated
from triode.app.blueprints.json_answer import json_response
from triode.app.blueprints.openapi.document import describe
from triode.app.wire.refusal import Refusal

if TYPE_CHECKING:
    from triode.app.service.triode import Triode

STATIC: Final = Path(__file__).resolve().parent.parent / "static"
# Made by `npm run build` in clients/js.
CLIENT: Final = STATIC / "client.js"
ELEMENT: Final = STATIC / "triode-value.js"
# The wheel brings the types along, a checkout has them where they are written.
_PACKED, _WRITTEN = STATIC / "client.d.ts", STATIC.parents[1] / "clients" / "js" / "triode.d.ts"
CLIENT_TYPES: Final = _PACKED if _PACKED.exists() else _WRITTEN
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ts": "application/typescript; charset=utf-8",
}
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def blueprint(triode: Triode) -> Blueprint:
    """The routes of the pages.

    They need no token: what they show, they ask for with the visitor's own.
    """
    bp = gated("triode_pages", triode, token=False)
    console, docs = Page(STATIC / "index.html"), Page(STATIC / "docs.html")
    # Where Deno and some editors look for the types of what they import from an address.
    client = Page(CLIENT, {"X-TypeScript-Types": "./client.d.ts"})
    client_types, element = Page(CLIENT_TYPES), Page(ELEMENT)
    # Read once: what is asked for is looked up in a table and never becomes a path of the system.
    parts = {path.name: Page(path) for path in (STATIC / "console").iterdir()}

    @bp.get("/")
    async def index() -> Response:
        return console.answer()

    @bp.get("/console/<name>")
    async def part(name: str) -> Response:
        if name not in parts:
            raise Refusal(404, f"the console has no part {name}")
        return parts[name].answer()

    @bp.get("/docs")
    async def documentation() -> Response:
        return docs.answer()

    @bp.get("/openapi.json")
    async def openapi() -> Response:
        base = request.path.removesuffix("/openapi.json")
        return json_response(
            describe(request.root_path + base or "/", triode.settings),
            headers={"Cache-Control": "no-cache"},
        )

    @bp.get("/client.js")
    async def client_js() -> Response:
        return client.answer()

    @bp.get("/client.d.ts")
    async def client_d_ts() -> Response:
        return client_types.answer()

    @bp.get("/triode-value.js")
    async def triode_value_js() -> Response:
        return element.answer()

    return bp


class Page:
    """One static file, read once, with its type, its tag and, if it is a page, its policy."""

    def __init__(self, path: Path, headers: dict[str, str] | None = None) -> None:
        text = path.read_text(encoding="utf-8")
        self._body = text.encode()
        self._etag = hashlib.sha256(self._body).hexdigest()[:32]
        self._type = TYPES[path.suffix]
        self._headers = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        self._headers |= headers or {}
        if path.suffix == ".html":
            self._headers["Content-Security-Policy"] = content_policy(text)

    @cached_property
    def _compressed(self) -> bytes:
        # When it is first asked for: most servers that tests start never are.
        return gzip.compress(self._body, 9, mtime=0)

    def answer(self) -> Response:
        """The file, compressed for who takes that, or 304 for who has it."""
        is_compressed = request.accept_encodings.quality("gzip") > 0
        # Other bytes need another tag (RFC 9110, 8.8.3.3).
        etag = f"{self._etag}-gzip" if is_compressed else self._etag
        headers = {"Cache-Control": "no-cache", "ETag": f'"{etag}"', "Vary": "Accept-Encoding"}
        if request.if_none_match.contains_weak(etag):
            return Response(b"", status=304, headers=headers)
        if is_compressed:
            headers["Content-Encoding"] = "gzip"
        body = self._compressed if is_compressed else self._body
        return Response(body, headers=headers | self._headers, content_type=self._type)


def content_policy(page: str) -> str:
    """The Content-Security-Policy of a page: files of this server, and its own inline script and
    style by hash.
    """
    sources: dict[str, list[str]] = {"script": ["'self'"], "style": ["'self'"]}
    for kind, text in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        sources[kind].append(f"'sha256-{digest}'")
    rules = [f"{kind}-src {' '.join(found)}" for kind, found in sources.items()]
    fixed = (
        "img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return "; ".join(["default-src 'none'", *rules, fixed])

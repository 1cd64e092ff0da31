"""What a person opens in a browser: the console at `/`, the description at `/docs`, and
`/openapi.json` behind it.

The pages are single files without anything from elsewhere, and say so in their
Content-Security-Policy: it allows the one script and the one style they hold, by hash, and requests
to this server. Addresses in them are relative, so they also work under an `url_prefix`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from app.blueprints._answer import json_response
from app.blueprints._request import gated
from app.openapi import describe
from app.problem import Refusal

if TYPE_CHECKING:
    from app.triode import Triode

STATIC: Final = Path(__file__).resolve().parent.parent / "static"
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def blueprint(triode: Triode) -> Blueprint:
    """The routes of the pages.

    They need no token: what they show, they ask for with the visitor's own.
    """
    bp = gated("triode_pages", triode, token=False)
    console, docs = Page("index.html"), Page("docs.html")

    @bp.get("/")
    async def index() -> Response:
        return console.answer()

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
        raise Refusal(404, "the browser client is not part of this build")

    return bp


class Page:
    """One static page, read once, with its policy and its tag."""

    def __init__(self, name: str) -> None:
        self._text = (STATIC / name).read_text(encoding="utf-8")
        self._etag = hashlib.sha256(self._text.encode()).hexdigest()[:32]
        self._policy = content_policy(self._text)

    def answer(self) -> Response:
        """The page, or 304 for who has it."""
        headers = {"Cache-Control": "no-cache", "ETag": f'"{self._etag}"'}
        if request.if_none_match.contains_weak(self._etag):
            return Response(b"", status=304, headers=headers)
        headers["Content-Security-Policy"] = self._policy
        headers["Referrer-Policy"] = "no-referrer"
        return Response(self._text, headers=headers, content_type="text/html; charset=utf-8")


def content_policy(page: str) -> str:
    """The Content-Security-Policy of a page: its own inline script and style, by hash."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    rules = [f"{kind}-src {' '.join(found)}" for kind, found in hashes.items() if found]
    fixed = "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return "; ".join(["default-src 'none'", *rules, fixed])

"""The HTTP side, as a client sees it; small tools that all tests share.

Nothing here retries or forgives: a refusal that is not a problem object fails the test that
caused it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import trio

from .server import Server


def query(filters: Iterable[str] = (), **options: Any) -> str:
    """`?filter=…&filter=…&name=value`, percent-encoded, a list repeats its name; "" when there is
    nothing.
    """
    text = urlencode({"filter": list(filters), **options}, doseq=True, quote_via=quote)
    return "?" + text if text else ""


class Api:
    """The HTTP side. Every answer from 400 on must be a problem object (RFC 9457)."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """One request, checked to be well-formed if refused."""
        response = await self.client.request(method, url, **options)
        if response.status_code >= 400 and method != "HEAD":
            check_problem(response)
        return response

    async def get(self, path: str) -> Any:
        """The value at `path`; it must be there."""
        response = await self.request("GET", "/store", params={"path": path})
        assert response.status_code == 200, response.text
        return response.json()

    async def select(self, filter_text: str) -> list[dict[str, Any]]:
        """`GET /store?filter=`: the items."""
        response = await self.request("GET", "/store", params={"filter": filter_text})
        assert response.status_code == 200, response.text
        items: list[dict[str, Any]] = response.json()
        assert isinstance(items, list)
        return items

    async def reset(self, document: Any) -> str:
        """`POST /store`: the whole document. Returns the position."""
        content = json.dumps(document).encode()
        headers = {"Content-Type": "application/json"}
        return position(await self.request("POST", "/store", content=content, headers=headers))

    async def put(self, path: str, value: Any, **params: Any) -> str:
        """Set; returns the position."""
        content = json.dumps(value).encode()
        return position(await self.write("PUT", path, content, "application/json", **params))

    async def delete(self, path: str) -> str:
        """Remove; returns the position."""
        return position(await self.request("DELETE", "/store", params={"path": path}))

    async def merge(self, path: str, patch: Any) -> str:
        """RFC 7396; returns the position."""
        content = json.dumps(patch).encode()
        return position(await self.write("PATCH", path, content, "application/merge-patch+json"))

    async def patch(self, path: str, *operations: dict[str, Any]) -> str:
        """RFC 6902; returns the position."""
        content = json.dumps(operations).encode()
        return position(await self.write("PATCH", path, content, "application/json-patch+json"))

    async def write(
        self,
        method: str,
        path: str,
        content: bytes,
        content_type: str,
        *,
        headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> httpx.Response:
        """A write as bytes; not checked beyond the form of a refusal."""
        fields = {"Content-Type": content_type, **(headers or {})}
        parameters = {"path": path, **params}
        return await self.request(
            method, "/store", params=parameters, content=content, headers=fields
        )


def check_problem(response: httpx.Response) -> dict[str, Any]:
    """The refusal as an RFC 9457 object: `type`, `title`, `status`, `detail`."""
    kind = response.headers.get("content-type", "").partition(";")[0]
    asked = f"{response.request.method} {response.request.url}"
    context = f"{asked}: {response.status_code} {response.text[:300]!r}"
    assert kind == "application/problem+json", context
    problem: dict[str, Any] = response.json()
    assert problem["status"] == response.status_code, context
    for member in ("type", "title", "detail"):
        assert isinstance(problem[member], str), context
        assert problem[member], context
    return problem


def position(response: httpx.Response) -> str:
    """The position that an accepted write answers with."""
    assert response.status_code == 200, f"{response.status_code} {response.text[:500]}"
    answer = response.json()
    text: str = answer["id"]
    sequence(text)
    return text


def sequence(text: str) -> int:
    """SEQ of `EPOCH:SEQ`."""
    epoch, colon, seq = text.rpartition(":")
    assert epoch, text
    assert colon, text
    assert seq.isdigit(), text
    return int(seq)


async def eventually(check: Callable[[], Awaitable[bool]], patience_s: float = 30.0) -> float:
    """Poll until `check` holds, and return the seconds it took. Raises `trio.TooSlowError`."""
    began = trio.current_time()
    with trio.fail_after(patience_s):
        while True:
            if await check():
                return trio.current_time() - began
            await trio.sleep(0.003)


@contextlib.asynccontextmanager
async def open_api(
    server: Server, *, token: str | None = None, source: str | None = None
) -> AsyncIterator[Api]:
    """An HTTP client with one kept-alive pool, presenting `token`, connecting from the address
    `source`.
    """
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    transport = httpx.AsyncHTTPTransport(local_address=source, verify=False)
    base = f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(
        transport=transport, base_url=base, headers=headers, timeout=30.0
    ) as client:
        yield Api(client)

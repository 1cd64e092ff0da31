"""Tokens of the tests: the settings of a server that asks for them, and how to get one."""

from __future__ import annotations

from typing import Any

import jwt

from .api import Api, open_api
from .server import Server, Settings

ADMIN = "admin-token-of-the-behaviour-tests-0123456789"
SECRET = "a-shared-secret-of-the-behaviour-tests-0123456789"
GUARDED: Settings = {"admin_token": ADMIN, "jwt_key": f"hs256:{SECRET}"}

DOCUMENT: dict[str, Any] = {
    "users": [{"name": "Ann", "mail": "a@x"}, {"name": "Bob", "mail": "b@x"}],
    "prices": {"A": 1},
    "fence": "",
}
READ = "/store?path=.prices"


async def issue(api: Api, /, **request: Any) -> dict[str, Any]:
    """A new token: its `id` and, this once, its secret as `token`."""
    response = await api.request("POST", "/tokens", json=request)
    assert response.status_code in (200, 201), response.text
    issued: dict[str, Any] = response.json()
    return issued


def bearer(token: str) -> list[tuple[str, str]]:
    """The field that presents `token`."""
    return [("Authorization", f"Bearer {token}")]


def signed(claims: dict[str, Any], *, secret: str = SECRET, algorithm: str = "HS256") -> str:
    """A JWT."""
    return jwt.encode({"sub": "ann", **claims}, secret, algorithm=algorithm)


async def status(server: Server, token: str | None, method: str, url: str, **options: Any) -> int:
    """The status of one request that presents `token`."""
    async with open_api(server, token=token) as api:
        return (await api.request(method, url, **options)).status_code

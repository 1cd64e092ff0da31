"""A server that is a function, for the commands of the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from click.testing import CliRunner, Result

from triode.app.cli import main

SECRET = "kept-out-of-every-output"

Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


@dataclass
class FakeServer:
    """Remembers what it was asked, and answers what it was told to."""

    answer: Answer = field(default_factory=lambda: httpx.Response(200, json={}))
    requests: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if isinstance(self.answer, httpx.Response) else self.answer(request)

    def triode(
        self, *arguments: str, stdin: str | bytes | None = None, token: str | None = None
    ) -> Result:
        """Run `triode ARGUMENTS` against this server."""
        environ = {"TRIODE_TOKEN": token, "TRIODE_URL": None}
        return CliRunner().invoke(
            main,
            arguments,
            obj={"transport": httpx.MockTransport(self)},
            env=environ,
            input=stdin,
        )

    @property
    def asked(self) -> tuple[str, str]:
        """Method and target of the one request."""
        (request,) = self.requests
        return request.method, request.url.raw_path.decode()


def problem(status: int, detail: str, **extra: object) -> httpx.Response:
    """A refusal."""
    body = {"type": "about:blank", "title": "No", "status": status, "detail": detail} | extra
    return httpx.Response(status, json=body, headers={"Triode": "refused"})

"""nginx before a Unix socket: who comes through it, and what its addresses count for."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from tests.behaviour.server import Server, Settings
from tests.herd.nginx import NGINX, nginx

CLIENT = "127.0.0.2"  # of nginx; the address of a proxy would be taken for one
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


class UnixServer(Server):
    """A server at a Unix socket."""

    @property
    def path(self) -> Path:
        return self.home / "t.sock"

    def probe(self) -> HTTPConnection:
        return UnixConnection(self.path)


class UnixConnection(HTTPConnection):
    """HTTP through a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[UnixServer]:
    settings: Settings = {
        "unix": str(tmp_path / "t.sock"),
        "admin_token": "a" * 32,
        "anonymous_read": ".",
        "trusted_proxies": "127.0.0.1",
        "control_from": f"127.0.0.1,{CLIENT}",
        "max_clients_per_ip": 1,
        "http_rate": "0",
    }
    server = UnixServer("native", settings, tmp_path)
    server.start()
    yield server
    server.stop()
    assert not server.path.exists()


def stream(connection: HTTPConnection, forwarded: str | None = None) -> HTTPResponse:
    """The answer to a request for an event stream; the stream lives as long as it is kept."""
    fields = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    connection.request(
        "GET", "/events?filter=.", headers={"Accept": "application/problem+json", **fields}
    )
    return connection.getresponse()


def test_through_nginx_and_without_it(server: UnixServer, tmp_path: Path) -> None:
    with nginx(f"unix:{server.path}", tmp_path / "nginx") as port, ExitStack() as held:
        here, again, back_end = (
            HTTPConnection("127.0.0.1", port, timeout=10, source_address=(CLIENT, 0))
            for _ in range(3)
        )
        there, directly = server.probe(), server.probe()
        for connection in (here, again, back_end, there, directly):
            held.callback(connection.close)
        # nginx adds the address of its client, and is believed: it counts. What a client adds
        # itself stands before that and is not looked at.
        back_end.request("GET", "/connections", headers={"X-Forwarded-For": "203.0.113.1"})
        assert back_end.getresponse().status == 200, f"{CLIENT} may control, and nginx says so"
        one = stream(here)
        assert one.status == 200
        assert stream(again, "203.0.113.5").status == 503, "one of each address"
        # A proxy of ours may be anybody that can open the file, so it may name others.
        other = stream(there, "203.0.113.9")
        assert other.status == 200
        directly.request("GET", "/connections")
        answer = directly.getresponse()
        assert answer.status == 200, "who has no address counts as this machine"
        ips = {client["ip"] for client in json.loads(answer.read())["connections"]}
        assert ips == {CLIENT, "203.0.113.9"}
        one.close()
        other.close()


def test_the_pages_of_the_project_are_served(server: UnixServer) -> None:
    """The other lane, too: it asks for the peer's address itself."""
    connection = server.probe()
    connection.request("GET", "/docs")
    assert connection.getresponse().status == 200
    connection.close()

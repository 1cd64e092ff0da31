"""`EventSource` and `WebSocket` as browsers have them, with no library: what the wire promises to
whoever writes ten lines of script.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.behaviour.auth import ADMIN, DOCUMENT
from tests.behaviour.server import Server
from tests.herd.nginx import NGINX, nginx

from .chromium import LOST, Log, refused, until
from .conftest import PageFactory, ServerFactory, http, restart, url_of
from .line import line_to

if TYPE_CHECKING:
    from playwright.sync_api import Page

# A page of the server that opens no stream of its own.
BLANK = "/docs"
# All that comes is kept in `seen`, in order.
SOURCE = """(address) => {
  window.seen = [];
  window.source = new EventSource(address);
  const types = ['connected', 'snapshot', 'update', 'delete', 'gap', 'expiring', 'closing'];
  for (const type of types) {
    source.addEventListener(type, (event) =>
      seen.push({ type, id: event.lastEventId, ...JSON.parse(event.data) }));
  }
}"""
SOCKET = """(address) => {
  window.seen = [];
  window.socket = new WebSocket(address);
  socket.onmessage = ({ data }) => seen.push(JSON.parse(data));
  socket.onclose = ({ code, reason }) => seen.push({ type: 'closed', code, reason });
  return new Promise((opened) => (socket.onopen = opened));
}"""


def wait_for(page: Page, n: int, **members: Any) -> list[dict[str, Any]]:
    """All that has come once `n` of it have these members."""
    script = """([n, members]) => {
      const meets = (one) => Object.entries(members).every(([key, value]) => one[key] === value);
      return seen.filter(meets).length >= n && seen;
    }"""
    found: list[dict[str, Any]] = until(page, script, [n, members])
    return found


def put(server: Server, path: str, value: object, token: str | None = None) -> None:
    with http(server, token) as client:
        client.put("/store", params={"path": path}, json=value).raise_for_status()


def test_an_event_source_gets_the_state_and_then_every_change(
    plain: Server, open_page: PageFactory
) -> None:
    put(plain, ".", {"n": 0, "other": 0})
    page = open_page(url_of(plain) + BLANK)
    page.evaluate(SOURCE, "/events?filter=.n")
    wait_for(page, 1, type="snapshot")
    for n in range(1, 51):
        put(plain, ".n", n)
        put(plain, ".other", n)
    seen = wait_for(page, 50, type="update")
    assert [one["type"] for one in seen[:2]] == ["connected", "snapshot"]
    assert seen[1]["items"] == [{"path": ".n", "value": 0}]
    assert [one["value"] for one in seen[2:]] == list(range(1, 51))


def test_an_event_source_that_was_cut_resumes_by_itself(
    plain: Server, open_page: PageFactory, log: Log
) -> None:
    log.expect(LOST)
    put(plain, ".", {"n": 0})
    with line_to(plain.port) as line:
        page = open_page(line.url + BLANK)
        page.evaluate(SOURCE, "/events?filter=.n")
        wait_for(page, 1, type="snapshot")
        line.refuse(True)
        line.cut()
        for n in range(1, 6):
            put(plain, ".n", n)
        line.refuse(False)
        seen = wait_for(page, 5, type="update")
    again = [one for one in seen if one["type"] == "connected"][-1]
    assert again["resumed"] is True, "by the Last-Event-ID that the browser sends"
    assert [one["value"] for one in seen if one["type"] == "update"] == [1, 2, 3, 4, 5]
    assert len([one for one in seen if one["type"] == "snapshot"]) == 1, "nothing was repeated"


def test_an_event_source_gets_the_state_anew_after_a_restart(
    serve: ServerFactory, open_page: PageFactory, log: Log
) -> None:
    log.expect(LOST)
    server = serve()
    put(server, ".", {"n": 1})
    page = open_page(url_of(server) + BLANK)
    page.evaluate(SOURCE, "/events?filter=.n")
    wait_for(page, 1, type="snapshot")
    restart(server)
    put(server, ".", {"n": 2})
    seen = wait_for(page, 2, type="connected")
    first, closing, second = (one for one in seen if one["type"] in ("connected", "closing"))
    assert closing["reason"]
    assert closing["retry_ms"] > 0
    assert second["epoch"] != first["epoch"]
    assert second["resumed"] is False
    until(page, "() => JSON.stringify(seen.at(-1)).includes('\"value\":2')")


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_an_event_source_behind_nginx_outlives_the_servers_absence(
    serve: ServerFactory, open_page: PageFactory, log: Log, tmp_path: Path
) -> None:
    """With what docs/proxies.md says; else it is closed for good by nginx's 502."""
    log.expect(LOST)
    server = serve()
    with nginx(server.port, tmp_path / "nginx") as port:
        page = open_page(f"http://127.0.0.1:{port}{BLANK}")
        page.evaluate(SOURCE, "/events?filter=.")
        page.evaluate("() => { window.away = 0; source.onerror = () => { away += 1; }; }")
        wait_for(page, 1, type="snapshot")
        server.stop()
        until(page, "() => away >= 3")  # the end of the stream, and nginx in the server's stead
        server.start(server.port)
        wait_for(page, 2, type="snapshot")


def test_a_web_socket_speaks_commands_and_is_told_when_to_come_back(
    serve: ServerFactory, open_page: PageFactory, log: Log
) -> None:
    server = serve()
    page = open_page(url_of(server) + BLANK)
    page.evaluate(SOCKET, url_of(server).replace("http", "ws") + "/ws")
    page.evaluate(
        """() => {
          for (const command of [
            { type: 'set', path: '.', value: { n: 0 }, ref: 1 },
            { type: 'subscribe', filter: '.n', ref: 2 },
            { type: 'increment', path: '.n', by: 5, ref: 3 },
            { type: 'join', room: 'lobby', ref: 4 },
            { type: 'publish', room: 'lobby', event: 'say', data: 'hi', echo: true, ref: 5 },
            { type: 'set', path: '.n[', value: 0, ref: 6 },
          ]) socket.send(JSON.stringify(command));
        }"""
    )
    seen = wait_for(page, 1, ref=6)
    answers = {one["ref"]: one for one in seen if "ref" in one}
    assert [answers[ref]["type"] for ref in range(1, 7)] == ["ok"] * 5 + ["error"]
    assert answers[6]["column"] >= 1
    assert answers[5]["reached"] == 1
    seen = wait_for(page, 1, type="message")
    assert [one["data"] for one in seen if one["type"] == "message"] == ["hi"]
    assert [one["value"] for one in seen if one["type"] == "update"] == [5]
    server.stop()
    closed = wait_for(page, 1, type="closed")[-1]
    assert closed["code"] == 1012
    assert "retry_ms" in closed["reason"]


def test_an_event_source_lives_on_with_a_new_token(
    guarded: Server, open_page: PageFactory, log: Log
) -> None:
    # The second attempt of the one that does not renew is refused.
    log.expect(refused(401))
    renewing, careless = (open_page(url_of(guarded) + BLANK) for _ in range(2))
    with http(guarded, ADMIN) as client:
        client.post("/store", json=DOCUMENT).raise_for_status()
        grant = {"read": [".prices"], "ttl_s": 3}
        short, long = (
            client.post("/tokens", json=one).raise_for_status().json()["token"]
            for one in (grant, grant | {"ttl_s": 60})
        )
    for page in (renewing, careless):
        page.evaluate(SOURCE, f"/events?filter=.prices.A&access_token={short}")
        wait_for(page, 1, type="expiring")
    status = renewing.evaluate(
        """async (token) => (await fetch(`/streams/${seen[0].client}/token`, {
          method: 'POST', body: JSON.stringify({ secret: seen[0].secret, token }),
          headers: { 'Content-Type': 'application/json' },
        })).status""",
        long,
    )
    assert status in (200, 204)
    assert "token" in wait_for(careless, 1, type="closing")[-1]["reason"]
    until(careless, "() => source.readyState === EventSource.CLOSED")
    put(guarded, ".prices.A", 7, ADMIN)
    seen = wait_for(renewing, 1, type="update")
    assert [one["type"] for one in seen if one["type"] in ("closing", "update")] == ["update"]
    assert renewing.evaluate("source.readyState") == 1

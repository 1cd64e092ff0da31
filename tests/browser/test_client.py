"""The JavaScript client (`/client.js`) in Chromium: through restart, drain, the end of a token and
a lost network, and exact all the while.
"""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any

import httpx

from tests.behaviour.auth import ADMIN, DOCUMENT, signed
from tests.behaviour.server import Server

from .chromium import LOST, Log, until
from .conftest import PageFactory, ServerFactory, http, restart, url_of
from .line import Line, line_to

if TYPE_CHECKING:
    from playwright.sync_api import Page

# The client's own choice, and without WebSockets.
TRANSPORTS: tuple[dict[str, Any], ...] = ({}, {"WebSocket": None})
BLANK = "/docs"  # a page of the server that opens no stream of its own
# Views of the whole and of a part; `fault` is the first thing seen that must never be.
OPEN = """async ({ filters, options, renews }) => {
  const { triode } = await import('/client.js');
  if (renews) options.token = window.newToken;
  window.t = triode('/', { delayMs: 50, maxDelayMs: 500, ...options });
  window.views = filters.map((filter) => t.watch(filter));
  window.states = [];
  window.fault = null;
  window.changes = 0;
  window.gaps = 0;
  t.on('state', (state) => states.push(state));
  t.on('error', (error) => states.push(`error ${error.status}`));
  for (const view of views) view.on('gap', () => (gaps += 1));
  views[0].on('change', () => {
    changes += 1;
    const pair = views[0].value?.pair;
    // Written together, so nobody may ever see them apart.
    if (pair && pair[0] !== -pair[1]) fault ??= JSON.stringify(pair);
  });
}"""
SAME = """([i, expected]) => {
  const same = (a, b) =>
    typeof a !== 'object' || a === null || typeof b !== 'object' || b === null
      ? a === b
      : Array.isArray(a) === Array.isArray(b) &&
        Object.keys(a).length === Object.keys(b).length &&
        Object.keys(a).every((key) => Object.hasOwn(b, key) && same(a[key], b[key]));
  const view = views[i];
  const plain = expected.items
    ? [...view.items].map(([path, value]) => ({ path, value }))
    : view.value;
  return !view.stale && same(plain, expected.items ?? expected.value);
}"""


def watch(page: Page, *filters: str, renews: bool = False, **options: Any) -> None:
    """Open the client in the page, with a view of each filter."""
    page.evaluate(OPEN, {"filters": filters, "options": options, "renews": renews})


def shows(page: Page, i: int, **expected: Any) -> None:
    """Wait until view `i` has this `value`, or these `items`, and is not stale."""
    until(page, SAME, [i, expected], timeout_ms=15_000)


def test_it_survives_restarts_on_both_transports(
    serve: ServerFactory, open_page: PageFactory, log: Log
) -> None:
    log.expect(LOST)
    server = serve()
    pages = []
    for options in TRANSPORTS:
        page = open_page(url_of(server) + BLANK)
        watch(page, ".", **options)
        pages.append(page)
    with http(server) as client:
        client.post("/store", json={"n": 1})
    for page in pages:
        shows(page, 0, value={"n": 1})
    # In order, with a goodbye that says when to come back.
    server.stop()
    for page in pages:
        until(page, "() => views[0].stale && t.state !== 'open'")
    server.start(server.port)
    with http(server) as client:
        client.post("/store", json={"n": 2})
    for page in pages:
        shows(page, 0, value={"n": 2})
    # And without one.
    server.kill()
    server.start(server.port)
    with http(server) as client:
        client.post("/store", json={"n": 3})
    for page in pages:
        shows(page, 0, value={"n": 3})
    assert pages[0].evaluate("t.transport") == "websocket"
    assert pages[1].evaluate("t.transport") == "sse"


def test_it_renews_its_token_before_it_ends(guarded: Server, open_page: PageFactory) -> None:
    with http(guarded, ADMIN) as client:
        client.post("/store", json=DOCUMENT).raise_for_status()
    pages: list[Page] = []
    given = [0, 0]
    for i, options in enumerate(TRANSPORTS):

        def new_token(i: int = i) -> str:
            given[i] += 1
            # The first is short, so that one has to follow.
            ends_at = int(time.time()) + (60 if given[i] > 1 else 3)
            return signed({"exp": ends_at, "triode": {"read": [".prices"]}})

        page = open_page(url_of(guarded) + BLANK)
        page.expose_function("newToken", new_token)
        watch(page, ".prices", renews=True, **options)
        shows(page, 0, value=DOCUMENT["prices"])
        pages.append(page)
    pages[0].wait_for_timeout(4500)  # the first token's life and the server's look at it
    with http(guarded, ADMIN) as client:
        client.put("/store", params={"path": ".prices.A"}, json=5).raise_for_status()
    for page in pages:
        shows(page, 0, value={"A": 5})
        assert "waiting" not in page.evaluate("states"), "it never lost the connection"
    assert given == [2, 2]


def test_it_gives_up_when_its_token_ends_for_good(
    guarded: Server, open_page: PageFactory, log: Log
) -> None:
    log.expect(LOST)
    log.expect("responded with a status of 401")
    with http(guarded, ADMIN) as client:
        grant = {"read": [".prices"], "ttl_s": 1}
        token = client.post("/tokens", json=grant).raise_for_status().json()["token"]
    page = open_page(url_of(guarded) + BLANK)
    watch(page, ".prices", token=token)
    until(page, "() => t.state === 'closed'")
    assert "error 401" in page.evaluate("states")


def test_it_comes_back_when_the_network_does(
    plain: Server, open_page: PageFactory, log: Log
) -> None:
    log.expect(LOST)
    with http(plain) as client, line_to(plain.port) as line:
        client.post("/store", json={"n": 1})
        page = open_page(line.url + BLANK)
        watch(page, ".n")
        shows(page, 0, value=1)
        page.context.set_offline(True)
        line.cut()
        until(page, "() => views[0].stale")
        for n in range(2, 12):
            client.put("/store", params={"path": ".n"}, json=n)
        page.wait_for_timeout(300)
        assert page.evaluate("views[0].value") == 1
        # Written while offline: it waits, and is sent.
        page.evaluate("() => { window.written = t.set('.written', true) }")
        page.context.set_offline(False)
        shows(page, 0, value=11)
        page.evaluate("written")
        assert client.get("/store", params={"path": ".written"}).json() is True


def test_a_page_stays_exact_through_restarts_cuts_and_bursts(
    serve: ServerFactory, open_page: PageFactory, log: Log
) -> None:
    """Its object equals `GET /store` after each of twenty disturbances, and what was written
    together was never seen apart in between.
    """
    log.expect(LOST)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    # Buffers so small that a line which is frozen is felt at once.
    # Several bursts in a row double the pause of a heal; a page is waited for 15 s.
    server = serve(send_buffer_bytes=4096, queue_items=20, heal_wait_max=4)
    with line_to(server.port) as line:
        fill(server, chance)
        pages = [open_page(line.url + BLANK) for _ in range(2)]
        for page, options in zip(pages, TRANSPORTS, strict=True):
            watch(page, ".", ".items[on=true].v", "..name", **options)
        steps = ["drain", "drain", "crash", "crash", "crash"] + ["cut"] * 7 + ["burst"] * 8
        chance.shuffle(steps)
        for step in steps:
            begun_s = time.monotonic()
            disturb(step, server, line, chance)
            for page in pages:
                compare(page, server, step)
            print(f"{step} {time.monotonic() - begun_s:.1f} s")
        for page in pages:
            assert page.evaluate("fault") is None
            assert page.evaluate("changes") > 100
            assert page.evaluate("gaps") > 0, "no burst was more than a queue holds"


def fill(server: Server, chance: random.Random) -> None:
    """A document of some breadth."""
    items = [{"id": i, "name": f"item {i}", "on": i % 2 == 0, "v": i} for i in range(20)]
    document = {"pair": [0, 0], "items": items, "deep": {"er": {"name": "x"}}, "n": chance.random()}
    with http(server) as client:
        client.post("/store", json=document).raise_for_status()


def disturb(step: str, server: Server, line: Line, chance: random.Random) -> None:
    """Something happens while others write."""
    write(server, chance, 20)
    if step == "drain":
        restart(server)
        fill(server, chance)
    elif step == "crash":
        server.kill()
        server.start(server.port)
        fill(server, chance)
    elif step == "cut":
        line.cut()
    else:
        # More than a queue holds: some of it is dropped, announced and healed.
        line.freeze()
        write(server, chance, 400)
        line.thaw()
    write(server, chance, 20)


def write(server: Server, chance: random.Random, n: int) -> None:
    """`n` random changes, half of them elements that come, go and move."""
    ops: list[dict[str, Any]] = []
    for _ in range(n):
        i = chance.randrange(12)
        k = chance.randrange(1, 10**6)
        ops.append(
            chance.choice(
                [
                    {"type": "set", "path": ".pair", "value": [k, -k]},
                    {"type": "set", "path": f".items[{i}].v", "value": k},
                    {"type": "set", "path": f".items[{i}].on", "value": k % 2 == 0},
                    {"type": "set", "path": ".deep.er.name", "value": f"name {k}"},
                    {"type": "append", "path": ".items", "value": {"on": True, "v": k, "name": k}},
                    {"type": "delete", "path": f".items[{i + 3}]"},
                    {"type": "merge", "path": ".deep", "patch": {f"k{i}": {"name": k}}},
                    {"type": "delete", "path": f".deep.k{i}"},
                ]
            )
        )
    with http(server) as client:
        client.post("/store/batch", json=ops).raise_for_status()


def compare(page: Page, server: Server, step: str) -> None:
    """What the page has is what the server has."""
    with http(server) as client:
        whole = client.get("/store", params={"path": "."}).json()
        parts = [
            client.get("/store", params={"filter": wanted}).json()
            for wanted in (".items[on=true].v", "..name")
        ]
    try:
        shows(page, 0, value=whole)
        # A view's places have no order of their own.
        until(page, SORTED, [1, by_path(parts[0])])
        until(page, SORTED, [2, by_path(parts[1])])
    except Exception:
        print(
            step,
            json.dumps(whole),
            page.evaluate("JSON.stringify(views.map((v) => [v.stale, ...v.items]))"),
        )
        print(httpx.get(url_of(server) + "/stats").text)
        raise


SORTED = """([i, expected]) => {
  const items = [...views[i].items].sort(([a], [b]) => (a < b ? -1 : 1));
  return !views[i].stale && JSON.stringify(items) === JSON.stringify(expected);
}"""


def by_path(items: list[dict[str, Any]]) -> list[list[Any]]:
    return sorted([[one["path"], one["value"]] for one in items], key=lambda one: str(one[0]))


FRAMED = """() => {
  history.replaceState(0, '', '/app/page/');
  const frame = document.createElement('iframe');
  frame.srcdoc = `<script type="module">
    import { triode } from '${location.origin}/client.js';
    const view = triode().watch('.n');
    view.on('change', () => parent.postMessage(view.value));
  </` + `script>`;
  const told = new Promise((tell) =>
    addEventListener('message', (event) => tell(event.data), { once: true }),
  );
  document.body.append(frame);
  return told;
}"""


def test_without_an_address_it_asks_where_it_came_from(
    serve: ServerFactory, open_page: PageFactory, log: Log
) -> None:
    """Wherever the page is, and though `about:srcdoc` is no address to begin with."""
    log.expect("status of 404")  # the icon of a page that names none
    server = serve()
    with http(server) as client:
        client.put("/store?path=.n", json=17).raise_for_status()
    assert open_page(url_of(server) + "/healthz").evaluate(FRAMED) == 17

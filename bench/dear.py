"""`dear`: what subscribers with dear filters cost the healthy ones: their p99 beside 50 of them, as
many times as without them.

Each write concerns the healthy and the dear filters alike. A filter may be dear in three ways: it
fits into a write, but not 50 of its kind; it never fits; it takes more than any request may. Like
`slow`: one server gets the healthy alone and with dear ones in turn, and what counts is the median
of the ratios of neighbours.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote
from urllib.request import Request, urlopen

from bench.machine import LOAD_CORE, Server, build, load, serving, triode
from bench.pairs import Ratios, Results, draw, ratio_of, show
from bench.report import chart, keep, progress

HEALTHY: Final = 100
DEAR: Final = 50
RATE: Final = 500
# How many objects there are, and the filters of the dear ones.
KINDS: Final[dict[str, tuple[int, Callable[[int], str]]]] = {
    "fits alone": (800, lambda i: f"$.a[?@.x>{i}]"),
    "never fits": (20_000, lambda i: f".a[0:][x>{15_000 + i}]"),
    "is refused": (2_200, lambda i: f"$.a[?count($.a[*])>{i}]"),
}


class Readers:
    """Event streams that are read and thrown away, by one thread."""

    def __init__(self, port: int, filters: list[str]) -> None:
        self._selector = selectors.DefaultSelector()
        self._ended = False
        for text in filters:
            sock = socket.create_connection(("127.0.0.1", port))
            target = f"/events?filter={quote(text)}"
            sock.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            if b" 200 " not in sock.recv(4096):
                raise RuntimeError(f"no stream for {text}")
            self._selector.register(sock, selectors.EVENT_READ, sock)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        os.sched_setaffinity(0, {LOAD_CORE})  # of this thread alone
        while not self._ended:
            for key, _ in self._selector.select(0.1):
                if not key.data.recv(1 << 20):
                    self._selector.unregister(key.data)

    def close(self) -> None:
        """Disconnect them."""
        self._ended = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.data.close()
        self._selector.close()


@contextmanager
def _dear(server: Server, filters: list[str]) -> Iterator[None]:
    readers = Readers(server.port, filters)
    try:
        yield
    finally:
        readers.close()


def _once(server: Server, filters: list[str], seconds: float) -> dict[str, Any]:
    with _dear(server, filters):
        return load(
            "fanout",
            server,
            clients=HEALTHY,
            rate=RATE,
            size=100,
            seconds=seconds,
            warmup=1.5,
            transport="sse",
            path="/events?filter=.a[0].bench",
            pub_text='{"type":"set","path":".a[0].bench","value":"%s"}',
        )


def _put(server: Server, objects: int) -> None:
    document = {"a": [{"x": i, "bench": ""} for i in range(objects)]}
    request = Request(
        f"http://127.0.0.1:{server.port}/store",
        json.dumps(document).encode(),
        {"Content-Type": "application/json"},
    )
    with urlopen(request) as answer:
        assert answer.status == 200


def run(*, quick: bool = False, repeats: int = 3) -> Results:
    """Measure, print, keep, draw. The healthy are as many in each case."""
    build()
    seconds, pairs = (2.0, 2) if quick else (3.0, repeats + 2)
    results: Results = defaultdict(list)
    ratios: Ratios = defaultdict(list)
    with progress() as shown:
        task = shown.add_task("dear", total=pairs * len(KINDS))
        for number in range(pairs):
            for name, (objects, filter_of) in KINDS.items():
                filters = [filter_of(i) for i in range(DEAR)]
                command, port = triode()
                with serving(command, port) as server:
                    _put(server, objects)
                    both = [[], filters] if number % 2 == 0 else [filters, []]
                    found = {len(each): _once(server, each, seconds) for each in both}
                results["none"].append(found[0])
                results[name].append(found[DEAR])
                shown.advance(task)
                ratio = ratio_of(found[DEAR], found[0])
                if ratio is not None:
                    ratios[name].append(ratio)
    show(
        f"{HEALTHY} healthy clients, {RATE} writes/s, and {DEAR} with a filter each that",
        "",
        results,
        ratios,
    )
    keep("dear", results, against_none=ratios)
    title = f"What {DEAR} dear filters cost the healthy"
    chart("dear", lambda fig: draw(fig, ratios, whom="dear filters", title=title, aim=1.3))
    return results

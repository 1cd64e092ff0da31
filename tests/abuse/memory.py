"""What a client can make the server hold: resident memory against the bound (`--memory`).

Each row acts on a `triode serve` of its own, with plain blocking sockets: whoever does not read is
a socket that nobody reads from. Between the acts the peak of the server's resident memory is told.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from tests.behaviour.server import OPEN, Server, Settings
from tests.behaviour.websocket import upgrade

MIB: Final = 1024 * 1024
LIMIT: Final = 384 * MIB
# Resident memory is more than what is held: the program itself, and what the allocator keeps.
SLACK: Final = 1.2
# What is refused because it would be more than a bound leaves a rest of it free.
FULL: Final = 0.9
SAMPLE_S: Final = 0.05
# The ledger is read once a second.
SETTLE_S: Final = 3.0
PATIENCE_S: Final = 60.0
# Filters that remember more than the bound, together; and the pause after which a write may spend
# enough for one of them.
REMEMBERING: Final = 30
EVALUATED_S: Final = 1.0


class Hoarder:
    """One ordinary client with as many connections as it likes."""

    def __init__(self, server: Server, http: httpx.Client) -> None:
        self.server = server
        self.http = http
        self._sockets: list[socket.socket] = []

    def write(self, method: str, path: str, value: Any, kind: str = "application/json") -> int:
        """A write: the status, 0 when the server hung up."""
        fields = {"Content-Type": kind}
        body = json.dumps(value).encode()
        with contextlib.suppress(httpx.TransportError):
            return self.http.request(
                method, "/store", params={"path": path}, content=body, headers=fields
            ).status_code
        return 0

    def publish(self, room: str, value: Any) -> int:
        """A message to a room: the status."""
        with contextlib.suppress(httpx.TransportError):
            return self.http.post("/publish", json={"room": room, "data": value}).status_code
        return 0

    def open(self, head: bytes, *, small: bool = False) -> socket.socket:
        """A connection that has sent this. `small`: its own buffer takes next to nothing."""
        sock = socket.socket()
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(PATIENCE_S)
        sock.connect(("127.0.0.1", self.server.port))
        self._sockets.append(sock)
        self.send(sock, head)
        return sock

    def send(self, sock: socket.socket, data: bytes) -> None:
        """Send, as far as the server takes it."""
        with contextlib.suppress(OSError):
            sock.sendall(data)

    def get(self, target: str, *, small: bool = True) -> socket.socket:
        """A `GET` whose answer nobody reads."""
        head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{self.server.port}\r\n\r\n"
        return self.open(head.encode(), small=small)

    def ws(self, *, deflates: bool = False) -> socket.socket:
        """A WebSocket; its answers are not read."""
        offer = ("Sec-WebSocket-Extensions: permessage-deflate",) if deflates else ()
        return self.open(upgrade("/ws", *offer, host=f"127.0.0.1:{self.server.port}"), small=True)

    def close(self) -> None:
        """Close all."""
        for sock in self._sockets:
            sock.close()


def masked(first: int, payload: bytes, size: int | None = None) -> bytes:
    """A client's frame with a mask of zeros; `size` says more than comes."""
    return bytes((first, 0xFF)) + struct.pack("!Q", size or len(payload)) + bytes(4) + payload


@dataclass(frozen=True)
class Hoard:
    """A way to make the server hold much."""

    name: str
    act: Callable[[Hoarder], None]
    settings: Settings = field(default_factory=dict)
    # The account that it has to fill to its bound: else it shows nothing.
    fills: str = ""


def document_doubled(client: Hoarder) -> None:
    client.write("PUT", ".a", [{"x": number} for number in range(20_000)])
    for number in range(25):
        copies = [{"op": "copy", "from": "", "path": f"/b{number}"}]
        client.write("PATCH", ".", copies, "application/json-patch+json")


def document_appended(client: Hoarder) -> None:
    client.write("PUT", ".a", [])
    some = [{"x": number, "y": "abc"} for number in range(50_000)]
    for number in range(120):
        if client.write("PUT", f".b{number}", some) != 200:
            return


def history_of_long_paths(client: Hoarder) -> None:
    for number in range(300):
        many = {f"{number}-{each}-" + "k" * 200: each + 1000 for each in range(400)}
        client.write("PATCH", ".", many, "application/merge-patch+json")
        client.write("PATCH", ".", dict.fromkeys(many), "application/merge-patch+json")


def long_names(client: Hoarder) -> None:
    for number in range(300):
        client.write("PUT", ".", {f"{number}" + "n" * 1_900_000: 1})
    client.write("PUT", ".", {})


def long_filters(client: Hoarder) -> None:
    for number in range(1_200):
        text = f"$.a{number}[?" + " || ".join(f"@.{'b' * 30} == {each}" for each in range(90)) + "]"
        with contextlib.suppress(httpx.TransportError):
            client.http.get("/store", params={"filter": text})


def unfinished_messages(client: Hoarder) -> None:
    for _ in range(300):
        client.send(client.ws(), masked(0x01, b"x" * 1_000_000))


def unfinished_bodies(client: Hoarder) -> None:
    size = 20 * MIB
    head = (
        f"PUT /store?path=.a HTTP/1.1\r\nHost: 127.0.0.1:{client.server.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    )
    for _ in range(60):
        client.open(head.encode() + b" " * (size - MIB))


def slow_clients(client: Hoarder) -> None:
    client.write("PUT", ".a", "")
    for _ in range(600):
        client.get("/events?filter=.a")
    for number in range(40):
        client.write("PUT", ".a", str(number % 10) * 250_000)


def large_messages(client: Hoarder) -> None:
    for _ in range(60):
        client.get("/events?room=r")
    for _ in range(3):
        client.publish("r", "x" * (19 * MIB))


def pinned_documents(client: Hoarder) -> None:
    client.write("PUT", ".", {f"key{number}": number for number in range(300_000)})
    for number in range(40):
        client.get("/store?path=.")
        client.write("PUT", f".key{number}", number + 1)


def remembered_places(client: Hoarder) -> None:
    remember(client, "$.a{}[?@ >= 0]", list(range(20_000)))


def remember(client: Hoarder, filter: str, value: Any) -> None:
    """Have places remembered: each filter by a write that concerns no other. What one write may
    spend on evaluating bounds what filters of one place remember to a few megabytes.
    """
    for number in range(REMEMBERING):
        client.write("PUT", f".a{number}", value)
    sock = client.ws()
    for number in range(REMEMBERING):
        command = {"type": "subscribe", "filter": filter.format(number), "snapshot": "none"}
        client.send(sock, masked(0x81, json.dumps(command).encode()))
    for number in range(REMEMBERING):
        read_on(sock, EVALUATED_S)
        client.write("PUT", f".a{number}[0]", number)


def read_on(sock: socket.socket, seconds: float) -> None:
    """Read until it is quiet for so long: who does not is ended, and its filters with it."""
    sock.settimeout(seconds)
    with contextlib.suppress(TimeoutError):
        while sock.recv(MIB):
            pass


TABLE: Final = (
    Hoard("a document doubled by copies", document_doubled),
    Hoard("a document of small records", document_appended),
    Hoard("a history of long paths", history_of_long_paths),
    Hoard("300 writes with long names", long_names),
    Hoard("1200 long filters", long_filters),
    Hoard("300 unfinished messages", unfinished_messages),
    Hoard("60 unfinished bodies of 20 MiB", unfinished_bodies),
    Hoard("600 slow clients", slow_clients),
    Hoard("messages of 19 MiB to 60 members", large_messages),
    Hoard("40 downloads while it is written", pinned_documents),
    Hoard("30 filters of 20 000 places", remembered_places, {"match_work": 200_000}, "remembered"),
)


@contextlib.contextmanager
def peak_of(server: Server) -> Iterator[Callable[[], int]]:
    """The most resident memory that the server was seen to have."""
    most = server.memory()
    stopped = threading.Event()

    def look() -> None:
        nonlocal most
        while not stopped.wait(SAMPLE_S):
            most = max(most, server.memory())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield lambda: most
    finally:
        stopped.set()
        looking.join()


class Weight(NamedTuple):
    """The peak of resident memory, what it is at the end, what the ledger says then, and what there
    was most of in it: an account's name and its peak. `stopped`: what said that it is enough.
    `filled`: the part of its bound that was reached in the account that it should fill.
    """

    peak: int
    now: int
    held: int
    most: tuple[str, int]
    stopped: list[str]
    filled: float = 1.0


def play(hoard: Hoard) -> Weight:
    """One hoard, on a server of its own."""
    everybody: Settings = {**OPEN, "memory": LIMIT, "max_clients_per_ip": 2_000}
    with tempfile.TemporaryDirectory() as home:
        server = Server("native", {**everybody, **hoard.settings}, Path(home))
        server.start()
        try:
            url = f"http://127.0.0.1:{server.port}"
            with httpx.Client(base_url=url, timeout=PATIENCE_S) as http, peak_of(server) as peak:
                client = Hoarder(server, http)
                hoard.act(client)
                threading.Event().wait(SETTLE_S)
                book = http.get("/stats").json()["memory"]
                now = server.memory()
                client.close()
                accounts: dict[str, dict[str, int]] = book["accounts"]
                stopped = [name for name, one in accounts.items() if one["refused"]]
                stopped += [f"{name} let go" for name in book["relieved"]]
                most = max(accounts, key=lambda name: accounts[name]["peak"])
                filled = 1.0
                if hoard.fills:
                    account = accounts[hoard.fills]
                    filled = account["peak"] / account["bound"]
                heaviest = (most, accounts[most]["peak"])
                return Weight(peak(), now, book["held"], heaviest, stopped, filled)
        finally:
            server.kill()

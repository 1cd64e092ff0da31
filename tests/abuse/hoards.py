"""More ways to make the server hold much: siblings of those in `memory`."""

from __future__ import annotations

import json
import threading
import zlib
from typing import Any, Final

from tests.abuse.memory import Hoard, Hoarder, masked, remember

# What is asked for in vain has a moment to come.
WAIT_S: Final = 5.0


def say(client: Hoarder, sock: Any, **command: Any) -> None:
    client.send(sock, masked(0x81, json.dumps(command).encode()))


def wait(seconds: float = WAIT_S) -> None:
    threading.Event().wait(seconds)


def many_filters(client: Hoarder) -> None:
    for number in range(100):
        sock = client.ws()
        for each in range(100):
            say(client, sock, type="subscribe", filter=f".k{number}_{each}{'n' * 2000}.x.y.z")
    wait()


def many_conditions(client: Hoarder) -> None:
    for number in range(100):
        sock = client.ws()
        for each in range(100):
            text = f".a[x={number}][y={each}][z={'v' * 1000}].w"
            say(client, sock, type="subscribe", filter=text)
    wait()


def many_descents(client: Hoarder) -> None:
    remember(client, "$.a{}..[0]", [[number] for number in range(20_000)])


def big_snapshots(client: Hoarder) -> None:
    client.write("PUT", ".a", [f"{number}" * 100 for number in range(10_000, 40_000)])
    for number in range(300):
        client.get(f"/events?filter=.a[{number}:]")
    wait()


def big_snapshots_while_it_is_written(client: Hoarder) -> None:
    client.write("PUT", ".a", [f"{number}" * 10 for number in range(100_000, 300_000)])
    for number in range(60):
        client.get("/events?filter=.a[*]")
        client.write("PUT", f".a[{number}]", "new")
    wait()


def unread_answers(client: Hoarder) -> None:
    client.write("PUT", ".a", ["x" * 1000 for _ in range(3_000)])
    for _ in range(300):
        sock = client.ws()
        for _ in range(40):
            say(client, sock, type="get", filter=".a[*]")
    wait()


def large_refs(client: Hoarder) -> None:
    for _ in range(300):
        sock = client.ws()
        sock.settimeout(0.1)  # the server stops reading when nobody reads it
        command = {"type": "get", "filter": ".", "ref": "r" * 200_000}
        client.send(sock, masked(0x81, json.dumps(command).encode()) * 40)
    wait()


def unread_batches(client: Hoarder) -> None:
    client.write("PUT", ".a", "x" * 200_000)
    line = b'{"type":"get","filter":".a"}\n' * 2_000
    head = (
        f"POST /store/batch HTTP/1.1\r\nHost: 127.0.0.1:{client.server.port}\r\n"
        f"Content-Type: application/x-ndjson\r\nContent-Length: {len(line)}\r\n\r\n"
    )
    for _ in range(60):
        client.open(head.encode() + line, small=True)
    wait()


def many_rooms(client: Hoarder) -> None:
    for number in range(200):
        sock = client.ws()
        names = [f"{number}-{each}-" + "r" * 100 for each in range(100)]
        say(client, sock, type="join", room=names)
    for number in range(200):
        for each in range(5):
            client.publish(f"{number}-{each}-" + "r" * 100, "x" * 100_000)
    wait()


def many_tags(client: Hoarder) -> None:
    for number in range(600):
        sock = client.ws()
        tags = {f"t{each}": f"{number}-{each}-" + "v" * 200 for each in range(32)}
        say(client, sock, type="tag", tags=tags)
    wait()


def unfinished_compressed(client: Hoarder) -> None:
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    small = pack.compress(b" " * 900_000) + pack.flush(zlib.Z_SYNC_FLUSH)
    for _ in range(300):
        client.send(client.ws(deflates=True), masked(0x41, small))
    wait()


def history_of_large_values(client: Hoarder) -> None:
    for number in range(150):
        client.write("PUT", ".a", [f"{number}-{each}" for each in range(100_000)])
    client.write("PUT", ".a", 0)


def names_of_wide_objects(client: Hoarder) -> None:
    for number in range(60):
        client.write("PUT", f".a{number}", {f"{number}_{each}": each for each in range(100_000)})


def long_replays(client: Hoarder) -> None:
    client.write("PUT", ".", {"a": "", "b": 0})
    first = client.http.put("/store", params={"path": ".b"}, json=1).json()["id"]
    for number in range(400):
        client.write("PUT", ".a", f"{number}" * 20_000)
    for _ in range(300):
        client.get(f"/events?filter=.a&since={first}")
        client.get(f"/events?filter=.a,.b&since={first}")
    wait()


def patterns(client: Hoarder) -> None:
    client.write("PUT", ".", {"a": [{"s": "x" * 100}]})
    for number in range(1_500):
        text = f"$.a[?search(@.s, '[a-z{number}]{{0,200}}[0-9]{{0,100}}')]"
        client.http.get("/store", params={"filter": text})


TABLE: Final = (
    Hoard("10 000 filters with long names", many_filters),
    Hoard("10 000 filters with conditions", many_conditions),
    Hoard("30 filters with descent", many_descents, {"match_work": 200_000}, "remembered"),
    Hoard("300 big snapshots, read slowly", big_snapshots),
    Hoard("60 of them while it is written", big_snapshots_while_it_is_written),
    Hoard("12 000 large answers, unread", unread_answers),
    Hoard("12 000 large refs, unread", large_refs),
    Hoard("60 batches of gets, unread", unread_batches),
    Hoard("20 000 rooms", many_rooms),
    Hoard("19 200 tags", many_tags),
    Hoard("300 unfinished messages, deflated", unfinished_compressed),
    Hoard("a history of large values", history_of_large_values),
    Hoard("6 million names", names_of_wide_objects),
    Hoard("600 long replays, unread", long_replays),
    Hoard("1500 patterns", patterns),
)

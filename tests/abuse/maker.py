"""Hostile inputs out of a seed: what nobody thought of.

Made from docs/wire.md and the standards alone, so it knows nothing of what the server looks at
first. Most inputs are well-formed, and large, deep or odd; some are broken anywhere.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from tests.behaviour.websocket import RawWs

NAMES: Final = ("a", "b", "items", "x", "s", "n", "k0", "k1", "é", "a b", "")
ODD: Final = (
    "\u200d",
    "\u2028",
    "\x85",
    "😀",
    "\x00",
    "\x1b",
    "\ufeff",
    "ﷺ",
    "'",
    '"',
    "\\",
    "%00",
)
NUMBERS: Final = (
    "0", "-0", "1", "-1", "1.5", "1e308", "-1e308", "1e-400", "9007199254740993", "1e2", "1E+2",
    "01", "1.", ".5", "+1", "1e309", "NaN", "Infinity",
)  # fmt: skip
PATTERNS: Final = (
    "(a|b){0,%d}", "([a-z]{1,%d})*", "(((a*)*)*)*", "[^%d]+", ".{%d}", "(.*)(.*)(.*)x",
    r"\p{L}{%d}",
    "a|b|c|" * 20, "(", "[", "a{%d,1}", r"\d", "(a{1,9}){1,9}", "[a-z0-9é-ﷺ]{0,%d}",
)  # fmt: skip
COMMANDS: Final = (
    "get", "set", "merge", "patch", "delete", "increment", "append", "push", "batch", "publish",
    "subscribe", "unsubscribe", "join", "leave", "tag", "auth", "ping", "", "sett",
)  # fmt: skip
POINTERS: Final = ("", "/a", "/a/0", "/a/-", "/items/0", "/k1", "/~2", "a", "/b", "/b/0")
# A message over WebSocket has at most 1 MiB, a body 20 MiB by default; what is this long takes
# half a minute to try.
MOST: Final = 5.3


class Input(NamedTuple):
    """Bytes for a new connection (`http`, `frames` behind a handshake), or one message."""

    door: str
    about: str
    data: bytes


class Maker:
    """Draws one input from its seed. What is drawn first decides what it is."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)

    def input(self) -> Input:
        """One."""
        kinds: tuple[Callable[[], Input], ...] = (
            self.message, self.message, self.message, self.write, self.write, self.read, self.head,
            self.batch, self.frames,
        )  # fmt: skip
        return self.rng.choice(kinds)()

    # ── small things ────────────────────────────────────────────────────────────────────────────

    def size(self, most: float = MOST) -> int:
        """1 to 10 ** most; small ones are as likely as large ones."""
        return int(10 ** self.rng.uniform(0, most))

    def seldom(self) -> bool:
        return self.rng.random() < 0.1

    def name(self) -> str:
        rng = self.rng
        if self.seldom():
            return rng.choice(ODD) * rng.randrange(1, 30)
        return rng.choice(NAMES)

    # ── JSON ────────────────────────────────────────────────────────────────────────────────────

    def json(self, most: float = MOST) -> str:
        """A text that is JSON as a rule."""
        rng = self.rng
        text = rng.choice(
            (self.scalar, self.wide, self.deep, self.comb, self.twice, self.records, self.scalar)
        )(most)
        if self.seldom():
            at = rng.randrange(len(text))
            text = text[:at] + rng.choice((*ODD, ",", "]", "}", "\\ud800", "")) + text[at + 1 :]
        return text

    def scalar(self, most: float) -> str:
        rng, size = self.rng, self.size(most)
        return rng.choice(
            (
                rng.choice(NUMBERS),
                "1" * size,
                "0." + "1" * size,
                "1e" + "9" * size,
                json.dumps(rng.choice(ODD) * (size // 6 + 1)),
                json.dumps("x" * size),
                '"' + rng.choice(("\\u0041", "\\n", "\\ud83d\\ude00")) * (size // 6) + '"',
                "null",
                "true",
            )
        )

    def wide(self, most: float) -> str:
        one = self.rng.choice(("0", "[]", "{}", '""', "1.5", "true", '"x"', "[[0]]"))
        size = self.size(most - 0.7)
        if self.rng.random() < 0.5:
            return "[" + ",".join([one] * size) + "]"
        return "{" + ",".join(f'"k{number}":{one}' for number in range(size)) + "}"

    def deep(self, most: float) -> str:
        depth = self.size(min(most - 1, 3.0))
        begin, end = self.rng.choice((("[", "]"), ('{"a":', "}"), ("[0,", ",0]")))
        return begin * depth + "0" + end * depth

    def comb(self, most: float) -> str:
        """Deep, and wide at each level."""
        text, depth = "0", self.rng.randrange(1, 200)
        beside = ",".join(["0"] * max(1, self.size(most - 0.5) // depth))
        for _ in range(depth):
            text = f'{{"b":[{beside}],"a":{text}}}'
        return text

    def twice(self, most: float) -> str:
        size = self.size(most - 1)
        keys = [f'"k{self.rng.randrange(size * 3)}":0' for _ in range(size)]
        return "{" + ",".join(keys) + "}"

    def records(self, most: float) -> str:
        size = self.size(most - 1.7)
        return json.dumps([{"x": n, "s": "ab" * (n % 50), "items": [n]} for n in range(size)])

    # ── places ──────────────────────────────────────────────────────────────────────────────────

    def path(self) -> str:
        rng = self.rng
        if self.seldom():
            return rng.choice((".", "", "..", ".a.", "[0", '["a', "/a/~2", ".[0]", "." * 5000))
        steps = (
            rng.choice((f".{self.name()}", f"[{rng.randrange(-3, 9)}]", f"[{'9' * self.size(3)}]"))
            if self.seldom()
            else rng.choice((".a", ".b", ".items", "[0]", ".k1"))
            for _ in range(rng.choice((1, 1, 2, 3, self.size(2.6))))
        )
        return "".join(steps)

    def filter(self) -> str:
        rng = self.rng
        if rng.random() < 0.5:
            return self.query()
        parts = (".a", ".*", "..a", "..*", "[0]", "[-1:]", "[::2]", "[x>3]", "[x=1]", '[s="ab"]',
                 "[a.b=1]", ".items", "[?@.x>1]", "[::0]", "[x~1]", "[")  # fmt: skip
        one = "".join(rng.choice(parts) for _ in range(rng.choice((1, 2, 3, self.size(2.5)))))
        return ",".join([one] * rng.choice((1, 1, 1, self.size(2.5))))

    def query(self) -> str:
        """A JSONPath."""
        rng = self.rng
        steps = "".join(
            rng.choice(
                (
                    "['" + "','".join(["a"] * self.size(2.6)) + "']",
                    "[*]",
                    "..*",
                    "..a",
                    "[" + ",".join(["0", "1:", "::-1", "*"] * self.size(1.5)) + "]",
                    f"[?{self.test(0)}]",
                )
            )
            for _ in range(rng.choice((1, 2, 3, 5)))
        )
        return "$" + steps

    def test(self, depth: int) -> str:
        rng = self.rng
        if depth < 4 and rng.random() < 0.4:
            more = " && ", " || "
            inner = rng.choice(more).join(self.test(depth + 1) for _ in range(self.size(1.2)))
            return rng.choice((f"({inner})", f"!({inner})", f"@[?{inner}]"))
        pattern = rng.choice(PATTERNS)
        if "%d" in pattern:
            pattern %= self.size(3.5)
        return rng.choice(
            (
                "@.x > 1",
                "count(@..*) > 1",
                "count($..*) > 1",
                f"search(@.s, {json.dumps(pattern)})",
                f"match(@.s, {json.dumps(pattern)})",
                "length(@) == 2",
                "value(@..a) == $.a",
                "@ == $",
                "@..a",
            )
        )

    def position(self) -> str:
        rng = self.rng
        return rng.choice(
            ("abcdef:1", "abcdef:" + "9" * self.size(4), ":", "a:1:2", "*", "😀:1", "x" * 5000)
        )

    def patch(self) -> list[Any]:
        """JSON Patch, of operations that are alike or not."""
        rng = self.rng
        count = self.size(3.3)
        if rng.random() < 0.5:
            return [self.operation()] * count
        return [self.operation() for _ in range(count)]

    def operation(self) -> dict[str, Any]:
        """One of JSON Patch."""
        rng = self.rng
        op = rng.choice(("add", "add", "remove", "replace", "move", "copy", "test", "nope"))
        value = rng.choice((0, [], {}, [0] * self.size(2), {"a": {"a": 1}}))
        return {
            "op": op, "path": rng.choice(POINTERS), "from": rng.choice(POINTERS), "value": value,
        }  # fmt: skip

    # ── messages ────────────────────────────────────────────────────────────────────────────────

    def command(self) -> dict[str, Any]:
        """A command; what it does not need is left out as a rule."""
        rng = self.rng
        kind = rng.choice(COMMANDS)
        value = rng.choice((1, "x" * self.size(4), [0] * self.size(4), {"a": {"b": [1]}}))
        room = rng.choice(("r", [f"r{n}" for n in range(self.size(2.2))], ["r"] * self.size(), ""))
        drawn: dict[str, Any] = {
            "path": self.path(),
            "filter": self.filter(),
            "value": value,
            "patch": self.patch() if kind == "patch" else value,
            "room": room,
            "tags": {f"t{n}": "v" * self.size(2.5) for n in range(self.size(2))},
            "token": rng.choice(("a.b.c", "x" * self.size(5))),
            "ops": [{"type": "set", "path": ".a", "value": n} for n in range(self.size(4.2))],
        }
        needs = {
            "get": "filter", "subscribe": "filter", "unsubscribe": "filter", "set": "path value",
            "append": "path value", "push": "path value", "merge": "path patch",
            "patch": "path patch", "delete": "path",
            "increment": "path", "publish": "room", "join": "room", "leave": "room", "tag": "tags",
            "auth": "token", "batch": "ops",
        }.get(kind, "")  # fmt: skip
        said: dict[str, Any] = {"type": kind, **{name: drawn[name] for name in needs.split()}}
        more = {
            "if": self.position(),
            "since": rng.choice((self.position(), {"r": self.position()}, 5)),
            "key": rng.choice(("k1", "k" * 300, "é")),
            "create": True,
            "atomic": rng.random() < 0.5,
            "max_event": rng.choice((1, 0, -1, 10**9, 1.5)),
            "policy": rng.choice(("latest", "drop-oldest", "nope")),
            "was": "w" * self.size(4),
            "event": self.name(),
            "data": value,
            "by": rng.choice((1, 1.7e308, 10**300, "1")),
            **{f"m{n}": n for n in range(self.size(3) if self.seldom() else 0)},
        }
        said |= {name: one for name, one in more.items() if self.seldom()}
        return said

    def message(self) -> Input:
        """A message over WebSocket."""
        if self.seldom():
            return Input("message", "JSON", self.json().encode("utf-8", "replace"))
        command = self.command()
        return Input("message", str(command["type"]), json.dumps(command).encode())

    def frames(self) -> Input:
        """Frames behind a handshake, in any order."""
        rng = self.rng
        out = bytearray()
        for _ in range(self.size(3.5)):
            payload = rng.choice(
                (b"", b"x", b'{"type":"ping"}', bytes(rng.randrange(200)), b"\xff")
            )
            opcode = rng.choice((0, 1, 1, 2, 8, 9, 9, 10, 10, 3, 11))
            fin, rsv = rng.random() < 0.8, rng.choice((0, 0, 0, 4, 2, 1))
            out += RawWs.frame(opcode, payload, fin=fin, rsv=rsv, mask=not self.seldom())
        return Input("frames", "frames", bytes(out))

    # ── requests ────────────────────────────────────────────────────────────────────────────────

    def write(self) -> Input:
        """A write with a body."""
        rng = self.rng
        method = rng.choice(("PUT", "PATCH", "PATCH", "POST"))
        kind = "application/json"
        if method == "PATCH":
            kind = rng.choice(("application/json-patch+json", "application/merge-patch+json"))
        body = json.dumps(self.patch()) if "patch+json" in kind else self.json()
        if rng.random() < 0.3:
            body = self.json()
        path = rng.choice((".a", ".b", self.path()))
        return self.request(method, f"/store?path={quote(path)}", body, kind)

    def batch(self) -> Input:
        """Commands in one body."""
        commands = [self.command() for _ in range(self.size(1.3))] * self.size(1)
        if self.rng.random() < 0.5:
            kind, body = "application/x-ndjson", "\n".join(map(json.dumps, commands))
            body = body.replace("\n", "\n" * (self.size(4) if self.seldom() else 1))
        else:
            kind, body = "application/json", json.dumps(commands)
        return self.request("POST", "/store/batch", body, kind)

    def read(self) -> Input:
        """A `GET` with a filter."""
        name = self.rng.choice(("filter", "filter", "path"))
        text = self.filter() if name == "filter" else self.path()
        return self.request("GET", f"/store?{name}={quote(text)}")

    def request(self, method: str, target: str, body: str = "", kind: str = "") -> Input:
        """A request that is well-formed, with a body in one piece or in chunks."""
        rng = self.rng
        data = body.encode("utf-8", "replace")
        fields = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
        fields += [f"Content-Type: {kind}"] if kind else []
        fields += [f"If-Match: {self.tags()}"] if self.seldom() else []
        fields += [f"If-None-Match: {self.tags()}"] if self.seldom() else []
        fields += [f"Idempotency-Key: k{rng.randrange(5)}"] if self.seldom() else []
        if data and rng.random() < 0.2:
            fields.append("Transfer-Encoding: chunked")
            data = self.chunks(data)
        elif data:
            fields.append(f"Content-Length: {len(data)}")
        head = "\r\n".join([*fields, "", ""]).encode("utf-8", "replace")
        return Input("http", f"{method} {target[:60]} {kind}", head + data)

    def chunks(self, data: bytes) -> bytes:
        step = self.size(4)
        out = [b"%x\r\n%b\r\n" % (len(one), one)
               for at in range(0, min(len(data), 2000 * step), step)
               if (one := data[at : at + step])]  # fmt: skip
        return b"".join(out) + b"0\r\n\r\n"

    def tags(self) -> str:
        return ",".join(f'"{self.position()}"' for _ in range(self.size(1.5))).replace("\x00", "")

    def head(self) -> Input:
        """Any head."""
        rng = self.rng
        method = rng.choice(("GET", "GET", "GET", "HEAD", "OPTIONS", "DELETE", "FOO", "get", "PUT"))
        route = rng.choice(
            ("/store", "/events", "/stats", "/ws", "/health", "/publish", "/%ff", "//", "/../x",
             "/console/", "/docs", "/store/batch", "/tokens", "/connections", "/metrics", "*")
        )  # fmt: skip
        names = ("path", "filter", "room", "tag.a", "since", "limit", "clients", "access_token",
                 "if", "snapshot", "policy", "max_event", "v", "nope", "tag.")  # fmt: skip
        values = self.path, self.filter, self.position
        asked = [
            f"{rng.choice(names)}={quote(rng.choice(values)())}"
            for _ in range(rng.choice((0, 1, 1, 2, self.size(2.5))))
        ]
        fields = ["Host: 127.0.0.1", "Connection: close"]
        for _ in range(rng.choice((0, 1, 2, self.size(2.3)))):
            name = rng.choice(
                ("Accept", "Origin", "Cookie", "Last-Event-ID", "Authorization", "X-Forwarded-For",
                 "Range", "Expect", "Upgrade", "Sec-WebSocket-Extensions", "X")
            )  # fmt: skip
            value = rng.choice(
                ("*/*", "text/event-stream", "Bearer a.b.c", "1", "x" * self.size(4), "a," * 200,
                 "bytes=0-1", "100-continue", "websocket", self.position(), "1\x00", "\xe9")
            )  # fmt: skip
            fields.append(f"{name}: {value}")
        target = route + ("?" + "&".join(asked) if asked else "")
        text = "\r\n".join([f"{method} {target} HTTP/1.1", *fields, "", ""])
        data = text.encode("utf-8", "replace")
        if self.seldom():
            data = data[: rng.randrange(len(data))]
        return Input("http", f"{method} {target[:60]}", data)

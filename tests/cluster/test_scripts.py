"""The scripts on real servers decide as the model does: the same commands, the same replies, the
same state.

Time in a script is the server's, and what other run of the server it was is in `meta`: so here the
text of the scripts gets its time from the test, and a restart is a changed `srv`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import cache
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.cluster.server import Server
from tests.log import model_valkey
from tests.log.model_valkey import Data, Refused
from triode.app.log.shared.resp import Connection, ServerError, connect
from triode.app.log.shared.scripts import Name, script
from triode.app.log.shared.terms import as_of, format_terms, parse_terms, stream_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

KEYS = ["tri:{d}:meta", "tri:{d}:log", "tri:{d}:nodes", "tri:{d}:bids"]
NODES = ("a", "b", "c")
STEPS = 1800


@cache
def timed(name: Name) -> str:
    """The script, with a time that the test says as the last argument."""
    text = script(name)
    text = text.replace("local now = redis.call('TIME')", "local now = NOW")
    assert "'TIME'" not in text
    head, _, body = text.partition("\n")
    return (
        f"{head}\nlocal TOLD = tonumber(table.remove(ARGV))\n"
        f"local NOW = {{math.floor(TOLD / 1000), TOLD % 1000 * 1000}}\n{body}"
    )


@pytest.fixture
async def real(each_server: Server) -> AsyncIterator[Connection]:
    connection = await connect(each_server.address)
    yield connection
    await connection.aclose()


def plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


async def both_of(real: Connection, seed: int = 0) -> Both:
    info = (await real.call("INFO", "replication")).decode()
    return Both(real, info.partition("master_replid:")[2].split("\r\n")[0], Random(seed))


class Both:
    """The real server and the model, told the same."""

    def __init__(self, real: Connection, replication_id: str, random: Random) -> None:
        self.real = real
        self.random = random
        self.model = model_valkey.Server(replication_id)
        self.now_ms = 1_000_000_000_000_000
        self.names = 0

    def name(self) -> str:
        self.names += 1
        return f"n{self.names}"

    async def run(
        self, name: Name, args: Sequence[str | bytes], pieces: Sequence[str] = ()
    ) -> list[str | int]:
        """Run one script on both. Both say the same, and are the same then."""
        said = self.model.run(name, args, self.now_ms, pieces)
        keys = [*KEYS, *pieces]
        real = plain(
            await self.real.call("EVAL", timed(name), len(keys), *keys, *args, str(self.now_ms))
        )
        assert isinstance(real, list)
        if name == "attach" and said[0] != "format":
            # The bytes of the log.
            real[-1] = said[-1]
        assert real == said, (name, args)
        await self.compare()
        return said

    async def compare(self) -> None:
        data = self.model.data
        assert await self._pairs("HGETALL", KEYS[0]) == data.meta
        assert await self._pairs("HGETALL", KEYS[3]) == data.bids
        nodes = await self._pairs("ZRANGE", KEYS[2], "0", "-1", "WITHSCORES")
        assert {name: int(float(score)) for name, score in nodes.items()} == data.nodes
        log = [
            [f"{e.term}-{e.seq}",
             ["n", e.nonce, "c", str(e.ops), "t", str(e.time_ms), "e", e.epoch, "b",
              e.body.decode()]]
            for e in data.log
        ]  # fmt: skip
        assert plain(await self.real.call("XRANGE", KEYS[1], "-", "+")) == log

    async def _pairs(self, *command: str) -> dict[str, str]:
        flat = plain(await self.real.call(*command))
        assert isinstance(flat, list)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    # ── what is drawn ───────────────────────────────────────────────────────────────────────────

    async def step(self) -> str:
        """Something that a node may say, sensible or not; or something that befalls the server."""
        self.now_ms += self.random.choice((0, 1, 30, 300, 1000, 3000) * 20 + (90_000_000,))
        steps: tuple[tuple[Callable[[], Awaitable[str]], int], ...] = (
            (self.attach, 40), (self.append, 30), (self.salvage, 30), (self.snapshot, 8),
            (self.restart, 3), (self.befall, 4),
        )  # fmt: skip
        choice = self.random.choices([s for s, _ in steps], [w for _, w in steps])[0]
        return await choice()

    def _terms(self) -> tuple[str, int]:
        meta = self.model.data.meta
        return meta.get("lineage", ""), int(meta.get("seq", "0"))

    async def attach(self) -> str:
        draw = self.random
        lineage, seq = self._terms()
        terms = parse_terms(lineage)
        at = max(0, seq + draw.choice((-9, -2, -1, 0, 0, 0, 1, 4)))
        known = as_of(terms, at)
        term, epoch = (known[-1].number, known[-1].epoch) if known else (0, "")
        if draw.random() < 0.1:
            term, epoch = term + 1, "other"
        rosters = ("", "", "a", "a,b", "a,b,c", "b,z")
        reply = await self.run(
            "attach",
            (
                draw.choice(NODES), str(term), epoch, str(at), draw.choice("11110"),
                draw.choice(rosters), self.name(), "500", "10000",
            ),
        )  # fmt: skip
        return f"attach {reply[0]} {'elected' if reply[5] else ''}"

    async def append(self) -> str:
        draw = self.random
        node, meta = draw.choice(NODES), self.model.data.meta
        last = int(meta.get(f"p:{node}", "0 0 0").split(" ")[0])
        no = max(1, last + draw.choice((1, 1, 1, 1, 0, -1, 5)))
        epoch = draw.choice([meta.get("epoch", "x")] * 9 + ["other"])
        reply = await self.run("append", (node, str(no), epoch, str(draw.randint(1, 4)), b"body"))
        return f"append {reply[0]}"

    async def salvage(self) -> str:
        draw, meta = self.random, self.model.data.meta
        lineage, seq = self._terms()
        node = meta.get("elected") or draw.choice(NODES)
        bid = self.model.data.bids.get(node, "0 0 ").split(" ")
        terms = parse_terms(lineage)
        number = max(int(bid[0]), terms[-1].number if terms else 0)
        if not terms or number > terms[-1].number:
            lineage = ";".join(filter(None, (lineage, f"{max(number, 1)} {self.name()} {seq}")))
            terms = parse_terms(lineage)
        replaces = draw.random() < 0.3
        base = max(0, seq - draw.randint(0, 5)) if replaces else seq + draw.choice((0, 0, 0, 1))
        entries: list[str | bytes] = []
        at = base
        for _ in range(draw.randint(0, 3)):
            ops = draw.randint(1, 3)
            at += ops
            id_ = f"{terms[-1].number}-{at}"
            entries += [id_, f"{draw.choice(NODES)}:{at}", str(ops), "7", terms[-1].epoch, b"given"]
        round_ = meta.get("round", "0") if draw.random() < 0.9 else "99"
        piece = await self._put_piece() if replaces else ""
        named = f"{piece} {at} {terms[-1].number} 1" if replaces else ""
        reply = await self.run(
            "salvage",
            (
                node, round_, "1" if replaces else "0", str(base), format_terms(terms), str(at),
                named, *entries,
            ),
            (piece,) if replaces else (),
        )  # fmt: skip
        return f"salvage {reply[0]} {replaces}"

    async def _put_piece(self) -> str:
        name = self.name()
        if self.random.random() < 0.9:
            await self.real.call("SET", name, "piece", "EX", "100")
            self.model.put_piece(name, "piece")
        return name

    async def snapshot(self) -> str:
        draw, meta = self.random, self.model.data.meta
        lineage, seq = self._terms()
        at = max(0, seq - draw.choice((-1, 0, 0, 1, 5)))
        epoch = draw.choice([meta.get("epoch", "x")] * 9 + ["other"])
        piece = await self._put_piece()
        term = stream_id(parse_terms(lineage), at).partition("-")[0]
        reply = await self.run("snapshot", (epoch, f"{piece} {at} {term} 1"), (piece,))
        if reply[0] == "ok":
            assert await self.real.call("TTL", piece) == -1
        return f"snapshot {reply[0]}"

    async def restart(self) -> str:
        """Another run of the server began what is there."""
        data = self.model.data
        if data.meta:
            await self.real.call("HSET", KEYS[0], "srv", "gone")
            self.model.put(replace(data, meta={**data.meta, "srv": "gone"}))
        return "restart"

    async def befall(self) -> str:
        what = self.random.choice(("flush", "no meta", "clock", "clock", "clock", "trim"))
        data = self.model.data
        if what == "flush":
            await self.real.call("FLUSHALL")
            self.model.put(Data())
        elif what == "no meta":
            await self.real.call("DEL", KEYS[0])
            self.model.put(replace(data, meta={}))
        elif what == "clock":
            self.now_ms -= 5000
        elif len(data.log) > 1:
            await self.real.call("XDEL", KEYS[1], f"{data.log[0].term}-{data.log[0].seq}")
            self.model.put(replace(data, log=data.log[1:]))
        return what


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_scripts_decide_as_the_model_does(real: Connection, seed: int) -> None:
    both = await both_of(real, seed)
    seen = {await both.step() for _ in range(STEPS)}
    expected = {
        "attach open ", "attach recovering ", "attach recovering elected", "append ok",
        "append old", "append attach",
        "salvage ok True", "salvage ok False", "salvage missing True",
        "salvage attach False", "snapshot ok", "snapshot old", "snapshot missing",
        "snapshot attach",
    }  # fmt: skip
    assert not expected - seen


async def test_so_many_terms_are_remembered(real: Connection) -> None:
    both = await both_of(real)
    for number in range(70):
        await both.restart()
        for _ in range(2):
            args = ("a", "0", "", "0", "1", "", f"e{number}", "500", "10000")
            said = await both.run("attach", args)
            both.now_ms += 2000
        assert said[0] == "open"
        if not number:
            assert await both.run("snapshot", ("e0", "first 0 1 0")) == ["ok", ""]
    assert isinstance(said[1], str)
    terms = parse_terms(said[1])
    assert [term.epoch for term in terms] == [f"e{number}" for number in range(6, 70)]


async def test_a_batch_that_arrives_late_is_not_a_new_one(real: Connection) -> None:
    both = await both_of(real)
    for _ in range(2):
        await both.run("attach", ("a", "0", "", "0", "0", "", "x", "500", "10000"))
        both.now_ms += 2000
    batch = ("a", "1", "x", "1", b"body")
    first = await both.run("append", batch)
    # Its lease is over, and two snapshots have its entry.
    both.now_ms += 60_000
    for number in range(2):
        await both.run("append", ("b", str(number + 1), "x", "1", b"body"))
        named = f"snap{number} {number + 2} 1 0"
        assert (await both.run("snapshot", ("x", named)))[0] == "ok"
    await both.run("attach", ("b", "0", "", "0", "0", "", "x", "500", "10000"))
    assert await both.run("append", batch) == first


async def test_a_log_of_another_format_is_left_alone(real: Connection) -> None:
    both = await both_of(real)
    await real.call("HSET", KEYS[0], "format", "2")
    both.model.put(Data({"format": "2"}))
    args = ("a", "0", "", "0", "1", "", "x", "500", "10000")
    assert await both.run("attach", args) == ["format", "2"]


async def test_a_full_server_refuses_batches_and_nothing_else(real: Connection) -> None:
    both = await both_of(real)
    args = ("a", "0", "", "0", "0", "", "x", "500", "10000")
    await both.run("attach", args)
    both.now_ms += 2000
    assert (await both.run("attach", args))[0] == "open"
    await real.call("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(ServerError, match=r"^OOM"):
        await real.call("EVAL", script("append"), 4, *KEYS, "a", "1", "x", "1", "body")
    both.model.is_full = True
    with suppress(Refused):
        both.model.run("append", ("a", "1", "x", "1", b"body"), both.now_ms)
    await both.compare()
    assert (await both.run("attach", args))[0] == "open"


async def test_a_server_without_a_replication_id_is_no_place_for_a_log(real: Connection) -> None:
    text = script("attach").replace("master_replid", "hidden")
    with pytest.raises(ServerError, match=r"NOFENCE"):
        await real.call("EVAL", text, 4, *KEYS, "a", 0, "", 0, 1, "", "x", 500, 10000)


async def test_a_replica_runs_nothing(real: Connection) -> None:
    await real.call("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(ServerError, match=r"^READONLY"):
        await real.call(
            "EVAL", script("attach"), 4, *KEYS, "a", "0", "", "0", "0", "", "x", "500", "10000"
        )

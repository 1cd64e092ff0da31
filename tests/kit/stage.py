"""The stage: a writer, subscribers, and how they are brought to rest.

A scenario gets a stage of its own, with a root of its own in the document. It writes, lets
subscribers read or not read, and at the end `settle`s them: each reads on until all it is owed has
come, then sees one more change, so that whatever came too much shows as well.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import trio

from tests.behaviour.assembler import Assembler

from .ledger import Ledger
from .model import MISSING, Model, Path, Write
from .violation import SHOWN, Frame, Violation
from .wire import SMALL_BUFFER, Address, Connection, Ended
from .writer import Writer, open_writer, patient_stream

FENCE: Final = "fence"


class Skipped(Exception):
    """The scenario needs what it was not given."""


@dataclass
class Options:
    """What the kit is told about the server beside its URL."""

    restart: Callable[[], Awaitable[None]] | None = None
    write_deadline_s: float | None = None
    # Whether a server that is restarted can tell its clients so: under Hypercorn alone it cannot.
    says_goodbye: bool = True
    # How long what is owed may take to come.
    patience_s: float = 20.0
    # More than the system buffers for one connection (up to about 3 MB on Linux) and the queue.
    flood_bytes: int = 5 * 1024 * 1024


class Subscriber:
    """One who subscribes, through all its connections. Made by `Stage.subscribe`."""

    def __init__(
        self, stage: Stage, transport: str, filters: Iterable[str], options: dict[str, Any]
    ) -> None:
        self.stage = stage
        self.transport = transport
        self.filters = [*filters]
        self.policy: str = options.get("policy", "drop-newest")
        self.rooms: tuple[str, ...] = tuple(options.get("room", ()))
        self.views = Assembler()
        self.ledgers: list[Ledger] = []
        self.connection: Connection | None = None
        self.ended: Frame | None = None  # `closing`, or the close frame
        self._options = options

    def __str__(self) -> str:
        return f"{self.transport} {self.policy} {' '.join(self.filters)}"

    @property
    def ledger(self) -> Ledger:
        """That of the connection now, or of the last."""
        return self.ledgers[-1]

    @contextlib.asynccontextmanager
    async def connect(self, *, since: str | None = None, **more: Any) -> AsyncIterator[Connection]:
        """A connection that resumes from the last position seen (or `since`), until left.

        On the way out what came on it is checked, as far as a part can be.
        """
        since = since if since is not None else self.ledgers[-1].last_id if self.ledgers else ""
        token = self._options.get("token")
        where: dict[str, Any] = {"since": since}
        # As `EventSource` does, sometimes; a header field has no spaces around it.
        fits = self.transport == "sse" and since.strip() == since != ""
        if fits and self.stage.rng.random() < 0.5:
            where = {"headers": [("Last-Event-ID", since)]}
        query = {"filter": self.filters, **self._options, **where, **more}
        query.pop("token", None)
        address = self.stage.address if token is None else replace(self.stage.address, token=token)
        async with patient_stream(address, self.transport, **query) as connection:
            if self.ledgers:  # what came without a position comes once more
                self.views = Assembler(strict=False)
                self.views.views = self.ledgers[-1].views.views
            self.ledgers.append(
                Ledger(
                    self.stage.model,
                    filters=dict.fromkeys(self.filters, self.policy),
                    rooms=self.rooms,
                    since=since,
                    views=self.views,
                )
            )
            self.connection = connection
            self.ended = None
            yield connection
        self.connection = None

    async def next(self) -> Frame:
        """The next frame, entered into the ledger. Raises `Violation`, and `Ended`."""
        assert self.connection is not None
        frame = await self.connection.frame()
        self.enter(frame)
        return frame

    def enter(self, frame: Frame) -> None:
        """Enter a frame; the model must have all that it may tell of."""
        if frame["type"] in ("closing", "close"):
            self.ended = frame
        self.ledger.take(frame)

    async def until(self, kind: str) -> Frame:
        """Read to the next frame of a type."""
        while True:
            frame = await self.next()
            if frame["type"] == kind:
                return frame

    async def read_all(self) -> None:
        """Read until all has come that is owed now. Raises `Violation` when that does not come."""
        patience_s = self.stage.options.patience_s
        with trio.move_on_after(patience_s):
            try:
                while self.ledger.owes():
                    await self.next()
                return
            except Ended:
                detail = f"the stream ended ({self.ended}) with {self.ledger.owes()}"
                raise Violation("sum", f"{self}: {detail}", self.ledger.frames[-SHOWN:]) from None
        detail = f"{self}: nothing more in {patience_s} s, but {self.ledger.owes()}"
        raise Violation("sum", detail, self.ledger.frames[-SHOWN:])

    async def read_to_end(self) -> None:
        """Read until the server has ended the stream. Raises `Violation` when it does not."""
        patience_s = self.stage.options.patience_s
        with trio.move_on_after(patience_s):
            with contextlib.suppress(Ended):
                while True:
                    await self.next()
            return
        raise Violation("end", f"{self}: still open after {patience_s} s", self.ledger.frames[-1:])

    async def caught_up(self) -> None:
        """Wait until it, being `reading`, has what the model knows of."""
        assert self.connection is not None
        patience_s = self.stage.options.patience_s
        with trio.move_on_after(patience_s):
            while self.connection.seq_seen < self.stage.model.seq:
                await self.connection.wait_read()
            return
        seen, seq = self.connection.seq_seen, self.stage.model.seq
        raise Violation("healthy", f"{self} reads, but is at {seen} of {seq} after {patience_s} s")

    async def read_slowly(self, bytes_per_s: float) -> None:
        """Read at a pace, until cancelled; frames wait to be entered. `Ended` is no fault here."""
        assert self.connection is not None
        step = max(64, int(bytes_per_s / 20))
        with contextlib.suppress(Ended):
            while True:
                got = await self.connection.read_some(step)
                await trio.sleep(got / bytes_per_s)


class Stage:
    """A writer and what it has written. Made by `open_stage`."""

    def __init__(
        self,
        address: Address,
        options: Options,
        seed: int,
        writer: Writer,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self.address = address
        self.options = options
        self.rng = random.Random(seed)
        self.writer = writer
        self.model = writer.model
        self.root = self.model.root
        self.subscribers: list[Subscriber] = []
        self._stack = stack
        self._numbers = itertools.count(1)

    # ── writing ─────────────────────────────────────────────────────────────────────────────────

    def place(self, *names: str) -> Path:
        """A path below the root."""
        return (self.root, *names)

    def filter(self, text: str) -> str:
        """A filter below the root."""
        return f".{self.root}{text}"

    def value(self, size: int = 20, **members: Any) -> dict[str, Any]:
        """A value like no other, of about that many bytes."""
        return {"n": next(self._numbers), **members, "pad": "x" * max(0, size - 20)}

    def some_write(self, size: int = 20, names: int = 12) -> Write:
        """A random write to `.rows.*`: set whole or below, delete."""
        rng = self.rng
        name = f"k{rng.randrange(names)}"
        path = self.place("rows", name)
        there = self.model.value(path) is not MISSING
        kind = rng.random()
        if there and kind < 0.1:
            return Write(path, MISSING)
        if there and kind < 0.4:
            return Write((*path, "deep"), self.value(size))
        return Write(path, self.value(size, on=rng.random() < 0.6))

    async def write(self, count: int, size: int = 20) -> None:
        """So many random writes, one after another."""
        for _ in range(count):
            await self.writer.write(self.some_write(size))

    async def flood(self, *healthy: Subscriber, size: int = 8000) -> None:
        """More than any buffer and queue holds, no faster than the healthy ones take it."""
        for _ in range(max(1, self.options.flood_bytes // size // 4)):
            writes: list[Write] = []
            for _ in range(4):  # deletes must know what was written before: no two of one place
                write = self.some_write(size)
                if all(write.path[:3] != other.path[:3] for other in writes):
                    writes.append(write)
            await self.writer.write(*writes)
            for one in healthy:
                await one.caught_up()

    def totals(self) -> dict[str, int]:
        """Counts over all connections, for the report."""
        counts: Counter[str] = Counter()
        for one in self.subscribers:
            for ledger in one.ledgers:
                counts.update(ledger.totals())
        return dict(counts)

    # ── subscribing ─────────────────────────────────────────────────────────────────────────────

    def subscriber(self, transport: str, *filters: str, **options: Any) -> Subscriber:
        """One that has not connected yet. Every filter's events are followed from now on."""
        texts = [self.filter(text) for text in (*filters, f".{FENCE}")]
        for text in texts:
            self.model.watch(text)
        one = Subscriber(self, transport, texts, options)
        self.subscribers.append(one)
        return one

    @contextlib.asynccontextmanager
    async def subscribe(
        self, transport: str, *filters: str, small: bool = False, **options: Any
    ) -> AsyncIterator[Subscriber]:
        """Subscribed, the state has come. `small`: with a small receive buffer."""
        if small:
            options["receive_buffer"] = SMALL_BUFFER
        elif transport == "ws":  # what is alike would be nothing to a queue: only for who reads
            options["deflate"] = self.rng.random() < 0.5
        one = self.subscriber(transport, *filters, **options)
        async with one.connect():
            await one.read_all()
            yield one

    @contextlib.asynccontextmanager
    async def reading(self, *subscribers: Subscriber) -> AsyncIterator[None]:
        """They read all the time, as healthy ones do, while the block runs.

        What comes waits in the connection: the model learns of a write only after it was answered.
        """
        async with trio.open_nursery() as nursery:
            for one in subscribers:
                nursery.start_soon(one.read_slowly, 1e9)
            yield
            nursery.cancel_scope.cancel()

    async def settle(self, *subscribers: Subscriber) -> None:
        """All read all they are owed, then one more change; then everything must be right."""
        for is_last in (False, True):
            async with trio.open_nursery() as nursery:
                for one in subscribers:
                    nursery.start_soon(one.read_all)
            for one in subscribers:
                one.ledger.check()
            if not is_last:
                await self.fence()

    async def reopen(self) -> None:
        """After a restart: a new writer, and the model takes over what the server still has."""
        self.writer = await self._stack.enter_async_context(open_writer(self.address, self.model))
        self.model.epoch = ""
        self.model.adopt(await self.writer.read())

    async def fence(self) -> None:
        """A change that everybody sees."""
        await self.writer.write(Write(self.place(FENCE), next(self._numbers)))


@contextlib.asynccontextmanager
async def open_stage(
    address: Address, options: Options, seed: int, name: str
) -> AsyncIterator[Stage]:
    """A root of its own in the document, removed again on the way out."""
    # Two runs of one seed may meet on one server.
    root = f"kit_{name.replace('-', '_')}_{seed}_{random.SystemRandom().randrange(10**6)}"
    model = Model(root)
    async with contextlib.AsyncExitStack() as stack:
        writer = await stack.enter_async_context(open_writer(address, model))
        stage = Stage(address, options, seed, writer, stack)
        await stage.fence()
        try:
            await stage.write(20)
            yield stage
        finally:
            with trio.move_on_after(3, shield=True), contextlib.suppress(Exception):
                await stage.writer.request("DELETE", "/store", params={"path": f".{root}"})

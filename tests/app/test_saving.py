"""A snapshot of 50 MB, counted: how much is done at once, and how much is held."""

from __future__ import annotations

from typing import Any

import psutil
import pytest
import trio

from tests.app.rounds import counted_rounds
from tests.app.test_journal import running_on
from triode.app.log.memory import MemoryLog
from triode.app.service.entry_encoding import JOINED_AT_ONCE_BYTES, written_down
from triode.app.service.log_snapshot import PIECE_BYTES, SLICE_BYTES, document_pieces
from triode.app.service.saving import save
from triode.store.lineage import Lineage
from triode.store.operation import Set
from triode.store.value import encode_steps

# One record in 13 000 places: as many bytes to write down, and none to make.
RECORD = {f"k{number}": "x" * 180 for number in range(21)}
ROOT = {"records": [RECORD] * 13_000}
BYTES = 50_000_000


def resident() -> int:
    """Bytes that this process takes."""
    taken: int = psutil.Process().memory_info().rss
    return taken


class Sink(MemoryLog):
    """Looks at pieces, and throws them away."""

    def __init__(self) -> None:
        super().__init__(Lineage("e0"))
        self.sizes: list[int] = []
        self.rounds: list[int] = []
        self.most = 0
        self.counter: Any = None

    async def add_piece(self, snapshot: int, data: bytes) -> None:
        """Nothing is kept."""
        await trio.lowlevel.checkpoint()
        self.sizes.append(len(data))
        if self.counter is not None:
            self.rounds.append(self.counter.seen)
        self.most = max(self.most, resident())


async def test_it_is_made_in_small_pieces_with_time_for_others_between(
    autojump_clock: object,
) -> None:
    log = Sink()
    async with running_on(log, ROOT) as triode, counted_rounds() as rounds:
        log.sizes.clear()
        log.counter = rounds
        log.most = before = resident()
        await save(triode)
    assert sum(log.sizes) > BYTES
    assert max(log.sizes) <= PIECE_BYTES + 4 * SLICE_BYTES
    # Each piece is some steps of encoding, and after each of those others have their turn.
    steps = sum(log.sizes) // (2 * SLICE_BYTES)
    assert log.rounds[-1] - log.rounds[0] > steps
    assert log.most - before < 15_000_000


def test_no_step_is_long() -> None:
    parts = list(encode_steps(ROOT, slice_bytes=SLICE_BYTES))
    assert max(map(len, parts)) <= 3 * SLICE_BYTES
    pieces = list(document_pieces({"records": [RECORD] * 500}))
    assert pieces.count(b"") >= 4 * (len(pieces) - pieces.count(b"") - 1)


async def test_a_large_text_is_put_together_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """18 MB were 18 ms in one step."""
    threads = 0
    run_sync = trio.to_thread.run_sync

    async def counted(*args: Any) -> Any:
        nonlocal threads
        threads += 1
        return await run_sync(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", counted)
    for size, expected in ((JOINED_AT_ONCE_BYTES // 2, 0), (2 * JOINED_AT_ONCE_BYTES, 1)):
        op = await written_down(Set(("a",), "x" * size))
        assert isinstance(op, Set)
        assert bytes(op.value) == b'"%b"' % (b"x" * size)  # type: ignore[arg-type] # it is as JSON
        assert threads == expected

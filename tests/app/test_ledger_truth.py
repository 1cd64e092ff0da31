"""What the ledger says is held is what is held: its sum beside Python's own count of memory."""

from __future__ import annotations

import gc
import tracemalloc

import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_hub import connect, running
from triode.app.config.settings import Settings
from triode.app.service.holdings import clear_caches
from triode.store.operation import Append, Set
from triode.store.value import decode, encode


async def test_the_sum_of_all_accounts_is_the_memory_that_is_taken(autojump_clock: object) -> None:
    settings = Settings(history_bytes=8 * 1024 * 1024, match_work=100_000)
    async with running(settings, {"rows": [], "by": {}, "text": ""}) as triode:
        ledger = triode.ledger
        deaf = [FakeLane(0) for _ in range(40)]
        for lane in deaf:
            connect(triode, lane, ".text")
        await trio.testing.wait_all_tasks_blocked()
        clear_caches()
        gc.collect()
        ledger.settle()
        before = {name: account.held for name, account in ledger.accounts.items()}
        tracemalloc.start()
        try:
            for number in range(4_000):  # the document, and a history of it
                row = decode(encode({"id": number + 1000, "name": f"user number {number}"}))
                await triode.write(Append(("rows",), [row]))
                await triode.write(Set(("by", f"user_{number}"), number + 1000))
                if number % 4 == 0:
                    await triode.write(Set(("by", f"user_{number}"), "x" * 300 + str(number)))
            for number in range(60):  # queues
                await triode.write(Set(("text",), f"{number}" * 10_000))
                await trio.testing.wait_all_tasks_blocked()
            for field in ("id", "name"):  # remembered
                connect(triode, FakeLane(), f"$.rows[?@.{field} != 5]")
            for start in range(8):  # the shelf: what others may want of big snapshots
                connect(triode, FakeLane(150_000), f".rows[{start}:]")
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(60)  # or so many writes would leave nothing for filters
            await triode.write(Append(("rows",), [{"id": 0, "name": ""}]))
            await trio.testing.wait_all_tasks_blocked()
            gc.collect()
            taken = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        ledger.settle()
        grown = {name: account.held - before[name] for name, account in ledger.accounts.items()}
    told = ("document", "history", "queues", "remembered", "shelf")
    assert all(grown[name] > 50_000 for name in told), grown
    assert 0.8 * taken < sum(grown.values()) < 1.2 * taken, (taken, grown)

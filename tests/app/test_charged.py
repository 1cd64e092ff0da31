"""What is charged by the processor's clock: the work itself, and nothing else."""

from __future__ import annotations

import pytest
import trio

from triode.app.access import charged
from triode.app.access.charged import Bill
from triode.app.config.settings import Settings
from triode.app.service.triode import Triode
from triode.limits.grant import FULL
from triode.limits.principal import Principal

SOMEBODY = Principal(key="somebody", name="somebody", grant=FULL)


class Clock:
    """The processor's, which goes on when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr(charged, "_clock", lambda: self.now_s)


async def test_neither_others_nor_what_is_charged_already(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, gate = Clock(monkeypatch), Triode(Settings()).gate
    bill = Bill(gate, SOMEBODY)

    async def others() -> None:
        while True:
            clock.now_s += 1.0
            await trio.lowlevel.checkpoint()

    async def work() -> str:
        clock.now_s += 0.5
        await trio.lowlevel.checkpoint()
        clock.now_s += 0.25
        gate.charge_work(SOMEBODY, 200_000)
        await trio.lowlevel.checkpoint()
        clock.now_s += 0.125
        return "done"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        assert await bill.pay(work()) == "done"
        nursery.cancel_scope.cancel()
    assert bill.steps == pytest.approx(675_000)
    assert gate.cpu.charged == pytest.approx(875_000)


async def test_what_fails_or_is_cancelled_is_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, bill = Clock(monkeypatch), Bill(Triode(Settings()).gate, SOMEBODY)

    async def fails() -> None:
        clock.now_s += 0.5
        await trio.lowlevel.checkpoint()
        raise ValueError

    async def waits() -> None:
        clock.now_s += 0.5
        try:
            await trio.sleep_forever()
        finally:
            clock.now_s += 0.25

    with pytest.raises(ValueError):
        await bill.pay(fails())
    assert bill.steps == pytest.approx(500_000)
    with trio.move_on_after(0) as scope:
        await bill.pay(waits())
    assert scope.cancelled_caught
    assert bill.steps == pytest.approx(1_250_000)

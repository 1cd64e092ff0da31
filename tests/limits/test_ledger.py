"""The ledger refuses before bytes are held, and asks for relief in order."""

from __future__ import annotations

import pytest

from triode.limits.ledger import Ledger, Overdrawn


def test_an_account_is_refused_beyond_its_bound_and_nothing_is_booked() -> None:
    ledger = Ledger(1000)
    bodies = ledger.account("bodies", 100)
    bodies.take(100)
    with pytest.raises(Overdrawn) as refused:
        bodies.take(1)
    assert (refused.value.account, refused.value.bound) == ("bodies", 100)
    assert (bodies.held, ledger.held, bodies.refused) == (100, 100, 1)


def test_the_limit_stands_over_all_accounts() -> None:
    ledger = Ledger(1000)
    document = 900
    ledger.account("document", read=lambda: document)
    bodies = ledger.account("bodies", 500)
    ledger.settle()
    with pytest.raises(Overdrawn) as refused:
        bodies.take(101)
    assert (refused.value.account, refused.value.bound) == ("memory", 1000)
    document = 800
    ledger.settle()
    bodies.take(101)
    assert ledger.held == 901


def test_what_a_request_took_is_given_back_whole() -> None:
    ledger = Ledger(1000)
    bodies = ledger.account("bodies", 500)
    with bodies.hold() as hold:
        hold.take(10)
        hold.take(20)
        assert bodies.held == 30
    assert (bodies.held, bodies.peak, ledger.held) == (0, 30, 0)


def test_relief_is_asked_for_in_order_and_only_as_far_as_needed() -> None:
    held = {"caches": 300, "history": 400, "document": 500}
    asked: list[str] = []
    ledger = Ledger(1000)

    def let_go(name: str) -> None:
        asked.append(name)
        held[name] = 0

    for name in held:
        ledger.account(name, read=lambda name=name: held[name])  # type: ignore[misc] # a default binds the name
    for name in ("caches", "history"):
        ledger.on_pressure(name, lambda _, name=name: let_go(name))  # type: ignore[misc] # a default binds the name
    ledger.settle()
    assert ledger.excess == 200
    ledger.relieve()
    assert asked == ["caches"]
    assert (ledger.held, ledger.excess) == (900, 0)

"""CPU shares: exact, with the time as an argument."""

from __future__ import annotations

import pytest

from triode.limits.cpu_share import STEPS_A_SECOND, CpuShares

SECOND = STEPS_A_SECOND


def test_a_share_may_be_used_at_once_and_not_more() -> None:
    shares = CpuShares(20.0)
    shares.charge("a", 20 * SECOND, 0.0)
    assert shares.wait_s("a", 0.0) == 0
    shares.charge("a", 1 * SECOND, 0.0)
    assert shares.wait_s("a", 0.0) == pytest.approx(3.0)  # 20 s a minute: a second is paid in three
    assert shares.wait_s("a", 2.0) == pytest.approx(1.0)
    assert shares.wait_s("a", 3.1) == 0
    assert shares.wait_s("b", 0.0) == 0


def test_who_stays_within_it_never_waits() -> None:
    shares = CpuShares(20.0)
    for second in range(600):
        shares.charge("a", SECOND / 3, float(second))
        assert shares.wait_s("a", float(second)) == 0


def test_who_does_not_waits_soon() -> None:
    shares = CpuShares(20.0)
    waits = []
    for second in range(120):
        shares.charge("a", SECOND / 2, float(second))
        waits.append(shares.wait_s("a", float(second)))
    assert waits[100] == 0
    assert waits[-1] == pytest.approx(1.0)


def test_off_counts_and_refuses_nobody() -> None:
    shares = CpuShares(0.0)
    shares.charge("a", 1000 * SECOND, 0.0)
    assert shares.wait_s("a", 0.0) == 0
    assert dict(shares.dearest(1, 0.0)) == pytest.approx({"a": 1000.0})


def test_the_dearest_come_first_in_seconds() -> None:
    shares = CpuShares(30.0)
    for key, seconds in (("a", 1), ("b", 3), ("c", 2)):
        shares.charge(key, seconds * SECOND, 0.0)
    assert [key for key, _ in shares.dearest(9, 0.0)] == ["b", "c", "a"]
    assert dict(shares.dearest(2, 0.0)) == pytest.approx({"b": 3.0, "c": 2.0})
    assert dict(shares.dearest(9, 5.9)) == pytest.approx({"b": 0.05})


def test_the_map_is_bounded_and_keeps_those_who_owe_most() -> None:
    shares = CpuShares(20.0, max_keys=100)
    shares.charge("dear", 50 * SECOND, 0.0)
    for number in range(1000):
        shares.charge(str(number), 1, 0.0)
    assert len(shares) <= 100
    assert shares.wait_s("dear", 0.0) == pytest.approx(90.0)
    shares.sweep(1.0)
    assert len(shares) == 1

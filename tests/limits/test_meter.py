"""The meter refuses before the work and tells when a turn is over."""

from __future__ import annotations

import pytest

from triode.limits.meter import Meter
from triode.store.work import TooCostly


def test_a_charge_beyond_the_limit_is_refused_with_both_figures() -> None:
    meter = Meter(10)
    meter.charge(10)
    with pytest.raises(TooCostly) as refused:
        meter.charge(5)
    assert (refused.value.limit, refused.value.cost) == (10, 15)


def test_a_turn_ends_each_so_many_steps() -> None:
    pauses: list[int] = []
    meter = Meter(100, pause=lambda: pauses.append(meter.spent), turn=30)
    for _ in range(100):
        meter.charge(1)
    assert pauses == [31, 62, 93]

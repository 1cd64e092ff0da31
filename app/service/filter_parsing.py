"""The filters that a request names: parsed, and allowed to whoever asks.

A long JSONPath takes ten milliseconds to be parsed, and a request may name a hundred: what is more
than a moment is parsed in turns.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from triode.app.runtime.turns import in_turns
from triode.app.wire.stream_request import malformed_filter
from triode.limits.meter import TURN_STEPS, Meter
from triode.store.filter import FilterError, parse_filter
from triode.store.work import TooCostly

if TYPE_CHECKING:
    from collections.abc import Iterable

    from triode.app.access.access import Gate
    from triode.limits.principal import Principal
    from triode.store.filter import Filter

# The length of a filter bounds what it takes to parse it, so nothing else has to.
ANY: Final = 1 << 40


async def readable(gate: Gate, principal: Principal, texts: Iterable[str]) -> list[Filter]:
    """The filters. Raises `Refusal`: 400 with the column of the fault, 403 for what may not be
    read.
    """
    meter = Meter(TURN_STEPS)
    filters: list[Filter] = []
    for text in texts:
        try:
            try:
                filter = parse_filter(text, meter)
            except TooCostly:
                filter = await in_turns(ANY, partial(_parse, gate, principal, text))
                meter = Meter(TURN_STEPS)
        except FilterError as error:
            raise malformed_filter(error) from error
        # Now, while the cache still has it: the grants ask for it by its text.
        gate.require_read(principal, text)
        filters.append(filter)
    return filters  # noqa: ASYNC910 # waits only when there is something to wait for


def _parse(gate: Gate, principal: Principal, text: str, meter: Meter) -> Filter:
    try:
        return parse_filter(text, meter)
    finally:
        gate.charge_work(principal, meter.spent)

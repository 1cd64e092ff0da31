"""The filters that a request names: parsed, and allowed to whoever asks.

A long JSONPath takes ten milliseconds to be parsed, and a request may name a hundred: what is more
than a moment is parsed in turns.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Final

import trio

from triode.app.runtime.turns import in_turns
from triode.app.wire.refusal import Refusal
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


class _Module:
    """A module that is loaded by its first use: few servers need it, and it takes 12 MB. In a
    thread, because it takes a tenth of a second.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_loaded = False

    async def load(self) -> None:
        """Raises `Refusal` 503 when it cannot be read now: without file descriptors, say."""
        if self._is_loaded:
            return
        try:
            await trio.to_thread.run_sync(import_module, self._name)
        except OSError as error:
            raise Refusal(
                503,
                f"JSONPath could not be loaded ({error.strerror}); retry in a second",
                extra={"retry_after": 1},
                headers={"Retry-After": "1"},
            ) from error
        self._is_loaded = True


_jsonpath = _Module("triode.store.jsonpath")


async def readable(gate: Gate, principal: Principal, texts: Iterable[str]) -> list[Filter]:
    """The filters. Raises `Refusal`: 400 with the column of the fault, 403 for what may not be
    read.
    """
    meter = Meter(TURN_STEPS)
    filters: list[Filter] = []
    for text in texts:
        if text.startswith("$"):
            await _jsonpath.load()
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
    return filters


def _parse(gate: Gate, principal: Principal, text: str, meter: Meter) -> Filter:
    try:
        return parse_filter(text, meter)
    finally:
        gate.charge_work(principal, meter.spent)

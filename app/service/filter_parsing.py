"""The filters that a request names: parsed, and allowed to whoever asks.

A long JSONPath takes ten milliseconds to be parsed, and a request may name a hundred: what is more
than a moment is parsed in turns.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Final

import trio

from triode.app.runtime.turns import in_turns
from triode.app.wire.refusal import Refusal
from triode.app.wire.stream_request import malformed_filter
from triode.limits.meter import TURN_STEPS, Meter
from triode.store.filter import FilterError, parse_filter
from triode.store.work import TooCostly

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from triode.app.access.gate import Gate
    from triode.limits.principal import Principal
    from triode.store.filter import Filter

# The length of a filter bounds what it takes to parse it, so nothing else has to.
ANY: Final = 1 << 40
# While a module is loaded. By default it is 5 ms, for each system call of the loop.
SWITCH_S: Final = 0.0002


class _Module:
    """A module that is loaded by its first use: few servers need it. In a thread, because it takes
    some hundredths of a second. Who asks meanwhile waits for it too.
    """

    def __init__(self, name: str, unused: str = "") -> None:
        """`unused`: it imports this one too, and never comes to use it."""
        self._name = name
        self._unused = unused
        self._is_loaded = False
        self._loading = trio.Lock()

    async def load(self) -> None:
        """Raises `Refusal` 503 when it cannot be read now: without file descriptors, say."""
        if not self._is_loaded:
            async with self._loading:
                await self._load_once()

    async def _load_once(self) -> None:
        if self._is_loaded:
            return
        try:
            await trio.to_thread.run_sync(self._import)
        except OSError as error:
            raise Refusal(
                503,
                f"JSONPath could not be loaded ({error.strerror}); retry in a second",
                extra={"retry_after": 1},
                headers={"Retry-After": "1"},
            ) from error
        self._is_loaded = True

    def _import(self) -> None:
        # The loop lets go of the interpreter at each system call, and gets it back only when this
        # thread has had it for so long.
        before_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        try:
            with _put_off(self._unused):
                import_module(self._name)
        finally:
            sys.setswitchinterval(before_s)


@contextmanager
def _put_off(name: str) -> Iterator[None]:
    """What is imported in here gets a stand-in for this module, and loads it by its first use."""
    if not name or name in sys.modules:
        yield
        return
    stand_in = ModuleType(name)

    def leave() -> None:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]

    def attribute(wanted: str) -> object:
        leave()
        return getattr(import_module(name), wanted)

    stand_in.__getattr__ = attribute  # type: ignore[method-assign] # PEP 562
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        leave()


# The library's own functions use `regex`: 10 MB, and half of the time, during which nobody else has
# the interpreter. Ours do not (`store.pattern`).
_jsonpath = _Module("triode.store.jsonpath", unused="regex")


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

"""What some filters select, read within the budget of a request.

What is done within a moment is read at once. More is evaluated in turns, on a pinned document, once
before the first byte of the answer: then it is known that it can be afforded, and the answer can be
made piece by piece of the very same document.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from triode.app.runtime.turns import in_turns, steps
from triode.app.wire.refusal import too_costly
from triode.limits.meter import TURN_STEPS, Meter
from triode.store.work import TooCostly

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from triode.app.service.triode import Triode
    from triode.limits.principal import Principal
    from triode.store.change import Position
    from triode.store.filter import Filter
    from triode.store.path import Path
    from triode.store.value import Json
    from triode.store.work import Work

Nodes = Iterator["tuple[Path, Json]"]
# What a place costs to be told a second time: whether it has been is looked up.
_REPEAT_STEPS: Final = 1
T = TypeVar("T")


class Reading:
    """What is selected of the document at `position`. It holds a pin until it is closed."""

    def __init__(self, triode: Triode, principal: Principal, filters: Sequence[Filter]) -> None:
        """Pins the document as it is now."""
        self._triode = triode
        self._principal = principal
        self.position: Position = triode.store.position
        self.filters = filters
        self._limit = triode.settings.max_work
        self._pin = ExitStack()
        self._root = self._pin.enter_context(triode.store.document.pin())
        self._nodes: list[tuple[Path, Json]] | None = None

    async def afford(self, at_once: Meter | None = None) -> None:
        """Find out what it costs; raises `Refusal` 422 when that is more than a request may cost.

        It waits only if that is more than `at_once` has left, else one turn.
        """
        meter = Meter(TURN_STEPS) if at_once is None else at_once
        try:
            self._nodes = list(union(self.filters, self._root, meter))
        except TooCostly:
            await affordable(self._triode, self._principal, self.filters, self._root)

    def pieces(self, make: Callable[[Nodes], Iterator[bytes]]) -> Iterator[bytes]:
        """What `make` makes of all that is selected. An empty piece is a pause: wait for a turn."""
        if self._nodes is not None:
            return make(iter(self._nodes))
        # As before, and so it is affordable: it is the same work on the same document.
        return steps(self._limit, partial(self._again, make), b"")

    def _again(self, make: Callable[[Nodes], Iterator[bytes]], work: Work) -> Iterator[bytes]:
        return make(union(self.filters, self._root, work))

    def close(self) -> None:
        """Release the pin; more often is harmless."""
        self._nodes = None
        self._pin.close()

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


async def affordable(
    triode: Triode, principal: Principal, filters: Sequence[Filter], root: Json
) -> None:
    """Raises `Refusal` 422 when these filters take more than a request may on `root`, which has to
    stay as it is meanwhile. Charges it to `principal`.
    """

    def evaluate(meter: Meter) -> None:
        try:
            deque(union(filters, root, meter), maxlen=0)
        finally:
            triode.gate.charge_work(principal, meter.spent)

    try:
        await in_turns(triode.settings.max_work, evaluate)
    except TooCostly as error:
        raise too_costly(error) from error


def union(filters: Sequence[Filter], root: Json, work: Work) -> Nodes:
    """All selected places, filter by filter; what several select comes once."""
    if len(filters) == 1:
        # As it is: the nodelist of a JSONPath may hold a place twice (RFC 9535 section 2.1.2).
        yield from filters[0].select(root, work)
        return
    seen: set[Path] = set()
    for selection in filters:
        for path, value in selection.select(root, work):
            work.charge(_REPEAT_STEPS)
            if path not in seen:
                seen.add(path)
                yield path, value

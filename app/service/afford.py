"""What a read may cost: it is evaluated once, in turns, before the first byte of its answer."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from triode.app.runtime.turns import in_turns
from triode.app.wire.refusal import too_costly
from triode.store.work import TooCostly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triode.app.service.triode import Triode
    from triode.limits.meter import Meter
    from triode.store.filter import Filter


async def afford(triode: Triode, filters: Sequence[Filter]) -> None:
    """Raises `Refusal` 422 when these filters together take more than a request may."""

    def evaluate(meter: Meter) -> None:
        for each in filters:
            meter.charge(1)
            deque(each.select(root, meter), maxlen=0)

    with triode.store.document.pin() as root:
        try:
            await in_turns(triode.settings.max_work, evaluate)
        except TooCostly as error:
            raise too_costly(error) from error

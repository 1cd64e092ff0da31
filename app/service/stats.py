"""The body of `/stats`: of one process, or of all that share its port (`--workers`)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import trio

from triode.app.runtime.metrics import RATE_WINDOW_S
from triode.app.service import filter_costs
from triode.app.service.client_queries import ends_log, furthest_behind, portraits
from triode.app.service.health import DocumentSize, gauges, memory
from triode.app.service.log_numbers import log_facts

if TYPE_CHECKING:
    from triode.app.service.triode import Triode


class Stats:
    """Of one process."""

    def __init__(self, triode: Triode) -> None:
        self._triode = triode
        self._size = DocumentSize()

    async def own(self, clients: str | None = None, limit: int = 0) -> dict[str, Any]:
        """As `/stats` has it. `clients`: None, `slow`, or `all`, and of these no more than `limit`.
        Checkpoints.
        """
        triode, metrics = self._triode, self._triode.metrics
        now_s = trio.current_time()
        metrics.sample(now_s)
        size = await self._size.measure(triode)
        body: dict[str, Any] = {
            "position": str(triode.store.position),
            "checksum": None if (sum := triode.store.checksum) is None else str(sum),
            "counters": metrics.as_json(),
            "rates": {"window_s": RATE_WINDOW_S, **metrics.rates(now_s)},
            "gauges": {gauge.key: gauge.value for gauge in gauges(triode, size)},
            "log": log_facts(triode),
            "memory": memory(triode.ledger),
            "cpu": filter_costs.dearest(triode, now_s),
            "ends_log": ends_log(triode.hub, triode.clock),
        }
        if triode.worker is not None:
            body["pid"] = os.getpid()
        if triode.cluster is not None:
            body["cluster"] = triode.cluster.facts()
        if clients is not None:
            behind = await furthest_behind(triode.hub, limit, flowing=clients == "all")
            body["clients"] = await portraits(triode.hub, behind)
        return body

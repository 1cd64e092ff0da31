"""`/stats` for admins and `/metrics` for Prometheus, which needs less: the same numbers.

`/health…` for probes, without a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio
from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from triode.app.blueprints.gated import gated, visit
from triode.app.blueprints.json_answer import json_response
from triode.app.runtime.metrics import RATE_WINDOW_S, exposition, registry
from triode.app.service import filter_costs
from triode.app.service.client_queries import ends_log, furthest_behind, portraits
from triode.app.service.health import DocumentSize, gauges, health, memory
from triode.app.service.log_numbers import log_facts
from triode.app.wire.known_names import check_query
from triode.app.wire.refusal import bad_request
from triode.app.wire.stream_request import check_limit

if TYPE_CHECKING:
    from triode.app.service.triode import Triode

FRESH = {"Cache-Control": "no-store"}
LISTED: Final = 100
MOST_LISTED: Final = 1000


def blueprint(triode: Triode) -> Blueprint:
    """The routes of `/stats` and `/metrics`."""
    bp = gated("triode_observe", triode)
    size = DocumentSize()
    metrics = triode.metrics
    numbers = registry(metrics, lambda: gauges(triode, size.bytes))

    @bp.get("/stats")
    async def stats() -> Response:
        triode.gate.require_admin(visit().principal)
        params = visit().head.params
        wanted = params.get("clients", [None])[-1]
        if wanted not in (None, "slow", "all"):
            raise bad_request('"clients" must be "slow" or "all"')
        limit = check_limit(params, LISTED, MOST_LISTED)
        now_s = trio.current_time()
        metrics.sample(now_s)
        body: dict[str, Any] = {
            "position": str(triode.store.position),
            "checksum": None if (sum := triode.store.checksum) is None else str(sum),
            "counters": metrics.as_json(),
            "rates": {"window_s": RATE_WINDOW_S, **metrics.rates(now_s)},
            "gauges": {g.key: g.value for g in gauges(triode, await size.measure(triode))},
            "log": log_facts(triode),
            "memory": memory(triode.ledger),
            "cpu": filter_costs.dearest(triode, now_s),
            "ends_log": ends_log(triode.hub, triode.clock),
        }
        if triode.cluster is not None:
            body["cluster"] = triode.cluster.facts()
        if wanted is not None:
            behind = await furthest_behind(triode.hub, limit, flowing=wanted == "all")
            body["clients"] = await portraits(triode.hub, behind)
        return json_response(body, headers=FRESH)

    @bp.get("/metrics")
    async def prometheus() -> Response:
        triode.gate.require_metrics(visit().principal)
        await size.measure(triode)
        text, content_type = exposition(numbers, visit().head.get("accept") or "")
        return Response(text, headers=FRESH, content_type=content_type)

    return bp


def probes(triode: Triode) -> Blueprint:
    """The routes of `/health`, `/healthz` and `/readyz`."""
    bp = gated("triode_probes", triode, token=False, rate=False)

    async def no_parameters() -> None:
        check_query("/health", request.method, request.args)

    bp.before_request(no_parameters)

    @bp.get("/health")
    async def report() -> Response:
        body = health(triode)
        return json_response(body, 503 if body["status"] == "unhealthy" else 200, FRESH)

    @bp.get("/healthz")
    async def alive() -> Response:
        """Liveness: a restart would help. Draining is no reason to be killed."""
        return _verdict(triode.hub.flusher.runs, "ok", "the flusher has ended")

    @bp.get("/readyz")
    async def ready() -> Response:
        """Readiness: new clients are welcome."""
        if triode.draining:
            return _verdict(False, "", "shutting down")
        return _verdict(triode.ready, "ready", "not started")

    return bp


def _verdict(good: bool, yes: str, no: str) -> Response:
    fields = FRESH if good else FRESH | {"Retry-After": "5"}
    text = f"{yes if good else no}\n"
    return Response(text, 200 if good else 503, fields, content_type="text/plain; charset=utf-8")

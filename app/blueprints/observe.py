"""`/stats` for admins and `/metrics` for Prometheus, which needs less: the same numbers.

`/health…` for probes, without a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from triode.app.blueprints.gated import gated, visit
from triode.app.blueprints.json_answer import json_response
from triode.app.runtime.metrics import Gauge, exposition, registry
from triode.app.service.health import gauges, health
from triode.app.service.stats import Stats
from triode.app.service.worker_stats import of_all
from triode.app.wire.known_names import check_query
from triode.app.wire.refusal import bad_request
from triode.app.wire.stream_request import check_limit

if TYPE_CHECKING:
    from triode.app.service.triode import Triode

WORKERS: Final = (
    ("workers", "Workers that have answered"),
    ("workers_missing", "Workers that have not"),
    ("worker", "The number of the worker that was asked"),
    ("worker_deaths_total", "Times that a worker died, and was started again"),
)
FRESH = {"Cache-Control": "no-store"}
LISTED: Final = 100
MOST_LISTED: Final = 1000


def blueprint(triode: Triode) -> Blueprint:
    """The routes of `/stats` and `/metrics`."""
    bp = gated("triode_observe", triode)
    own = Stats(triode)
    now: dict[str, Any] = {}
    numbers = registry(lambda: now["counters"], lambda: _told(triode, now["gauges"]))

    async def all_stats(clients: str | None = None, limit: int = 0) -> dict[str, Any]:
        if triode.worker is None:
            return await own.own(clients, limit)
        return await of_all(triode.worker, own, clients, limit)

    @bp.get("/stats")
    async def stats() -> Response:
        triode.gate.require_admin(visit().principal)
        params = visit().head.params
        wanted = params.get("clients", [None])[-1]
        if wanted not in (None, "slow", "all"):
            raise bad_request('"clients" must be "slow" or "all"')
        limit = check_limit(params, LISTED, MOST_LISTED)
        return json_response(await all_stats(wanted, limit), headers=FRESH)

    @bp.get("/metrics")
    async def prometheus() -> Response:
        triode.gate.require_metrics(visit().principal)
        # From here on in one step: another one may be asking, too.
        now.update(await all_stats())
        text, content_type = exposition(numbers, visit().head.get("accept") or "")
        return Response(text, headers=FRESH, content_type=content_type)

    return bp


def _told(triode: Triode, values: Mapping[str, float]) -> list[Gauge]:
    """The gauges with these values, which may be those of several workers."""
    own = [gauge for gauge in gauges(triode, 0) if gauge.key in values]
    told = [replace(gauge, value=values[gauge.key]) for gauge in own]
    return told + [Gauge(key, words, values[key]) for key, words in WORKERS if key in values]


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

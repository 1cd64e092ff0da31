"""Vital signs: what `/health`, `/stats` and `/metrics` read from the running server and its
process.

All is cheap enough to be asked often, but for the size of the document: that is measured by
encoding it, with checkpoints, and remembered for a time that grows with what the measuring cost.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import TYPE_CHECKING, Any, Final

import trio

from triode.app.runtime.metrics import Gauge
from triode.app.service.log_numbers import log_gauges
from triode.store.value import encode_steps

if TYPE_CHECKING:
    from triode.app.service.triode import Triode
    from triode.limits.ledger import Ledger

# Above these a check is `degraded`: the server works, and somebody should look.
LAG_S: Final = 1.0
FILES_SHARE: Final = 0.9
FULL_SHARE: Final = 0.9
# Measuring the document may take this share of one core.
MEASURING_SHARE: Final = 0.01


class DocumentSize:
    """The encoded size of the document, as fresh as measuring is allowed to cost."""

    def __init__(self) -> None:
        self.bytes = 0
        self._seq = -1
        self._again_at_s = 0.0
        self._busy = False

    async def measure(self, triode: Triode) -> int:
        """The size. Checkpoints when it measures; a cancelled measurement changes nothing."""
        store = triode.store
        started_s = trio.current_time()
        if self._busy or store.seq == self._seq or started_s < self._again_at_s:
            return self.bytes
        self._busy = True
        try:
            with store.document.pin() as root:
                seq, size = store.seq, 0
                for piece in encode_steps(root):
                    size += len(piece)
                    await trio.lowlevel.checkpoint()
        finally:
            self._busy = False
        now_s = trio.current_time()
        self.bytes, self._seq = size, seq
        self._again_at_s = now_s + (now_s - started_s) / MEASURING_SHARE
        return size


def gauges(triode: Triode, document_bytes: int) -> list[Gauge]:
    """What goes up and down, at this moment."""
    hub, store = triode.hub, triode.store
    outboxes = [c.outbox for c in hub.clients.values() if c.outbox is not None and c.outbox.bytes]
    now = trio.current_time()
    oldest = max((now - box.oldest_at for box in outboxes), default=0.0)
    healing = sum(1 for client in hub.clients.values() if client.losses)
    files, files_limit = open_files()
    history = store.history
    messages = triode.messages
    places = triode.gate.admission.statistics()
    return [
        Gauge("clients", "Clients connected", len(hub.clients)),
        Gauge("clients_peak", "Most clients at once since the start", hub.clients_peak),
        Gauge("clients_sse", "Clients on SSE", _count(triode, "sse")),
        Gauge("clients_ws", "Clients on WebSocket", _count(triode, "ws")),
        Gauge(
            "connections_open", "Connections open, streams among them", triode.metrics.listener.open
        ),
        Gauge("connections_http", "Connections that are no streams", places["http"]),
        Gauge("heads", "Connections whose request has not come yet", places["heads"]),
        Gauge("clients_slow", "Clients with something waiting in their queue", len(outboxes)),
        Gauge("queued_bytes", "Bytes waiting in queues", sum(box.bytes for box in outboxes)),
        Gauge("queued_oldest_seconds", "How long the oldest of it has waited", oldest),
        Gauge("clients_healing", "Clients that are to be repaired", healing),
        Gauge(
            "unfinished_bytes",
            "Bytes of messages not whole yet",
            messages.held,
        ),
        Gauge(
            "unfinished_refused_total",
            "Ended for beginning more",
            messages.refused,
        ),
        Gauge("rooms", "Rooms with members", len(hub.rooms)),
        Gauge("room_log_bytes", "Bytes of messages that rooms keep", hub.rooms.log_bytes),
        Gauge("filters", "Distinct filters subscribed to", len(store.index)),
        Gauge("tokens", "Tokens that hold", len(triode.tokens)),
        Gauge("document_bytes", "Size of the document as JSON", document_bytes),
        Gauge("log_seq", "The number of the last change", store.seq),
        Gauge("history_items", "Changes kept for resuming", history.items),
        Gauge("history_bytes", "Bytes of changes kept for resuming", history.bytes),
        *log_gauges(triode),
        Gauge("memory_rss_bytes", "Resident memory of the process", rss_bytes()),
        Gauge("memory_held_bytes", "Held for clients, all accounts", triode.ledger.held),
        Gauge("memory_limit_bytes", "Most that may be held for clients", triode.ledger.limit),
        Gauge("cpu_seconds_total", "Processor time used by the process", cpu_s()),
        Gauge("open_files", "Open file descriptors", files),
        Gauge("open_files_limit", "Most file descriptors that may be open", files_limit),
        Gauge("loop_lag_seconds", "How late the event loop last ran", triode.metrics.loop_lag_s),
        Gauge("uptime_seconds", "Time since the start", uptime_s(triode)),
        Gauge("draining", "1 while the server shuts down", int(triode.draining)),
    ]


def memory(ledger: Ledger) -> dict[str, Any]:
    """The ledger, in bytes: `{"limit": …, "held": …, "accounts": {"history": {"held": …}}}`."""
    return {
        "limit": ledger.limit,
        "held": ledger.held,
        "relieved": ledger.relieved,
        "accounts": {
            account.name: {
                "held": account.held,
                "bound": account.bound,
                "peak": account.peak,
                "refused": account.refused,
            }
            for account in ledger.accounts.values()
        },
    }


def health(triode: Triode) -> dict[str, Any]:
    """The body of `/health`: the worst of the checks is the status."""
    checks = _checks(triode)
    states = {check["status"] for check in checks.values()}
    worst = "unhealthy" if "failed" in states else "degraded" if "degraded" in states else "healthy"
    return {
        "status": worst,
        "connections": len(triode.hub.clients),
        "uptime": round(uptime_s(triode), 3),
        "memory": {"rss_bytes": rss_bytes()},
        "checks": checks,
    }


def _checks(triode: Triode) -> dict[str, dict[str, Any]]:
    files, files_limit = open_files()
    lag_s = triode.metrics.loop_lag_s
    history = triode.store.history
    places, most = triode.gate.admission.statistics()["clients"], triode.gate.admission.total
    return {
        "flusher": {"status": "ok" if triode.hub.flusher.runs else "failed"},
        "event_loop": {"status": _degraded(lag_s > LAG_S), "lag_s": round(lag_s, 6)},
        "memory": {
            "status": _degraded(triode.ledger.share > FULL_SHARE),
            "held_bytes": triode.ledger.held,
            "limit_bytes": triode.ledger.limit,
        },
        "places": {
            "status": _degraded(places > FULL_SHARE * most),
            "taken": places,
            "limit": most,
        },
        "open_files": {
            "status": _degraded(files > FILES_SHARE * files_limit),
            "open": files,
            "limit": files_limit,
        },
        "history": {"status": "ok", "items": history.items, "bytes": history.bytes},
        "log": _log(triode),
        "shutdown": {"status": _degraded(triode.draining), "draining": triode.draining},
    }


def _log(triode: Triode) -> dict[str, Any]:
    journal = triode.journal
    position = {"position": str(triode.store.position)}
    if journal is None:
        return {"status": "ok", **position, "kept": "memory"}
    if journal.broken is not None:
        return {"status": "failed", **position, "why": str(journal.broken)}
    if journal.full.is_set():
        return {"status": "degraded", **position, "why": "the disk is full: nothing is written"}
    if journal.shared is not None:
        if not journal.shared.is_live:
            return {"status": "degraded", **position, "why": "the log is not in reach"}
        if triode.cluster is not None and triode.cluster.differ:
            return {"status": "degraded", **position, "why": "another Triode's document differs"}
        return {"status": "ok", **position, "kept": "shared", "node": journal.shared.node}
    return {"status": "ok", **position, "kept": triode.settings.durability}


def _degraded(when: bool) -> str:
    return "degraded" if when else "ok"


def _count(triode: Triode, kind: str) -> int:
    return sum(client.kind == kind for client in triode.hub.clients.values())


def uptime_s(triode: Triode) -> float:
    """Seconds since the services started, 0 before."""
    return trio.current_time() - triode.started_at if triode.ready else 0.0


def rss_bytes() -> int:
    """Resident memory. Where there is no /proc, the most there ever was."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def cpu_s() -> float:
    """Processor seconds of all threads, user and system."""
    used = os.times()
    return used.user + used.system


def open_files() -> tuple[int, int]:
    """How many descriptors are open, and how many may be. -1 where the system does not tell."""
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        # Since Linux 6.2 the size of this directory is the count: no need to list tens of thousands
        # of names.
        count = os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        count = -1
    return count, limit

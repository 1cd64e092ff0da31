"""What the server counts, and how it is told: `/stats` as JSON, `/metrics` for Prometheus.

Hot paths write `metrics.events_total += 1`: plain ints on one object, one thread, no locks and no
label look-ups. Only what is rare anyway (a drop, an end, a refusal, a new connection) is counted
under labels, in a dict.

Everything here only grows. What goes up and down (clients, rooms, memory) is not stored but read
where it lives, at the moment somebody asks: a gauge that is kept beside the truth drifts from it.
`FAMILIES` is the one list of counters; both answers are made from it, so they cannot tell different
numbers.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import trio
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from triode.app.net.listener import ListenerCounts
from triode.app.runtime.build import build

RATE_WINDOW_S: Final = 10.0
SAMPLE_EVERY_S: Final = 1.0


class Metrics:
    """The counters of one running server, all from 0 at its start.

    Ints are per server; the dicts at the end are keyed by their labels, in the order that
    `FAMILIES` names them.
    """

    def __init__(self) -> None:
        self.events_total = 0  # frames handed to clients, heartbeats not among them
        self.bytes_out = 0
        self.bytes_in = 0
        self.heartbeats = 0
        self.messages_in = 0  # WebSocket messages from clients
        self.messages_published = 0
        self.commands_total = 0
        self.writes_total = 0
        self.writes_failed = 0
        self.writes_unknown = 0
        self.snapshots_total = 0
        self.gaps_total = 0
        self.resumes_total = 0
        self.resumes_refused = 0
        self.http_requests = 0
        self.rate_limited = 0
        self.over_share = 0
        self.listener = ListenerCounts()
        self.http2_floods = 0
        self.http2_stuck = 0
        self.errors_total = 0  # bugs: exceptions nobody expected
        self.connections_total: Counter[str] = Counter(sse=0, ws=0)
        self.drops: Counter[tuple[str, str]] = Counter()  # (policy, reason)
        self.ends: Counter[str] = Counter()
        self.refused: Counter[int] = Counter()
        self.loop_lag_s = 0.0
        self.large_bodies = 0  # in hand now, see `content.in_hand`
        self._samples: deque[tuple[float, tuple[int, ...]]] = deque()

    def sample(self, now_s: float) -> None:
        """Note the counters for `rates`.

        Meant to be called about once a second; more often is harmless.
        """
        samples = self._samples
        if samples and now_s - samples[-1][0] < SAMPLE_EVERY_S / 2:
            return
        samples.append((now_s, tuple(getattr(self, name) for name in RATED)))
        # The newest sample that is at least a window old is the far end of the rate; older ones are
        # not needed.
        while len(samples) > 2 and now_s - samples[1][0] >= RATE_WINDOW_S:
            samples.popleft()

    def rates(self, now_s: float) -> dict[str, float]:
        """Per second over the last 10 s (less while the server is younger), by counter."""
        since_s, then = self._samples[0] if self._samples else (now_s, ())
        span_s = now_s - since_s
        if span_s <= 0:
            return dict.fromkeys(RATED, 0.0)
        return {
            name: round((getattr(self, name) - before) / span_s, 3)
            for name, before in zip(RATED, then, strict=True)
        }

    @property
    def accept_errors(self) -> int:
        """The listener counts them."""
        return self.listener.accept_errors

    @property
    def idle_closed(self) -> int:
        """The listener counts them."""
        return self.listener.idle_closed

    @property
    def turned_away(self) -> int:
        """The listener counts them."""
        return self.listener.turned_away

    @property
    def late_heads(self) -> int:
        """The listener counts them."""
        return self.listener.late_heads

    @property
    def late_handshakes(self) -> int:
        """The listener counts them."""
        return self.listener.late_handshakes

    def as_json(self) -> dict[str, Any]:
        """Every counter, labelled ones as nested objects (`drops[policy][reason]`)."""
        return {family.key: family.as_json(self) for family in FAMILIES}


RATED: Final = (
    "events_total",
    "bytes_out",
    "bytes_in",
    "messages_in",
    "messages_published",
    "commands_total",
    "writes_total",
    "http_requests",
)


@dataclass(frozen=True)
class Family:
    """One counter: `attribute` of `Metrics`, its help for people, the names of its labels."""

    attribute: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The member of `/stats`; with `triode_` before it the name for Prometheus."""
        return self.attribute if self.attribute.endswith("_total") else f"{self.attribute}_total"

    def samples(self, metrics: Metrics) -> list[tuple[list[str], int]]:
        """Label values and count, for each combination seen so far."""
        counted = getattr(metrics, self.attribute)
        if not self.labels:
            return [([], counted)]
        return [
            ([str(part) for part in (key if isinstance(key, tuple) else (key,))], count)
            for key, count in sorted(counted.items())
        ]

    def as_json(self, metrics: Metrics) -> Any:
        """A number, or objects nested by label."""
        if not self.labels:
            return getattr(metrics, self.attribute)
        tree: dict[str, Any] = {}
        for values, count in self.samples(metrics):
            node = tree
            for value in values[:-1]:
                node = node.setdefault(value, {})
            node[values[-1]] = count
        return tree


FAMILIES: Final = (
    Family("events_total", "Frames handed to clients"),
    Family("bytes_out", "Bytes handed to clients of streams"),
    Family("bytes_in", "Bytes read from clients of WebSockets"),
    Family("heartbeats", "Heartbeats sent"),
    Family("messages_in", "WebSocket messages received"),
    Family("messages_published", "Messages published to rooms and clients"),
    Family("commands_total", "Commands executed, over WebSocket and in batches"),
    Family("writes_total", "Writes applied to the document"),
    Family("writes_failed", "Writes refused; they left no trace"),
    Family("writes_unknown", "Writes whose outcome was not known in time; they may be there"),
    Family("snapshots_total", "Snapshots sent"),
    Family("gaps_total", "Gaps announced to slow clients"),
    Family("resumes_total", "Streams resumed with exactly the changes they missed"),
    Family("resumes_refused", "Resumes whose position was unknown; a snapshot followed"),
    Family("http_requests", "HTTP requests that reached the routes"),
    Family("rate_limited", "Requests and commands refused by a rate limit"),
    Family("over_share", "Requests and commands refused to who has used up its CPU share"),
    Family("accept_errors", "Failed accepts, such as too many open files"),
    Family("idle_closed", "Idle connections closed to make room for new ones"),
    Family("turned_away", "Connections refused because there were too many"),
    Family("late_heads", "Requests whose head had not come when its deadline passed"),
    Family("late_handshakes", "TLS handshakes that were not done by then"),
    Family("http2_floods", "HTTP/2 connections ended for frames without content"),
    Family("http2_stuck", "HTTP/2 streams reset because their client took nothing"),
    Family("errors_total", "Unexpected exceptions"),
    Family("connections_total", "Streams opened", ("transport",)),
    Family("drops", "Events not delivered to slow clients", ("policy", "reason")),
    Family("ends", "Streams ended", ("reason",)),
    Family("refused", "Requests refused", ("status",)),
)


@dataclass(frozen=True)
class Gauge:
    """A number read from the running server when somebody asks; `key` is its name in `/stats` too.

    One that only grows ends in `_total`: the processor's time is kept by the system, not by
    `Metrics`.
    """

    key: str
    help: str
    value: float


class _FromMetrics(Collector):
    """Hands the counters, and the gauges of this moment, to prometheus_client."""

    def __init__(
        self, counters: Callable[[], Mapping[str, Any]], gauges: Callable[[], Iterable[Gauge]]
    ) -> None:
        self._counters = counters
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("triode_build", "What is running", value=build())
        counters = self._counters()
        for family in FAMILIES:
            counter = CounterMetricFamily(f"triode_{family.key}", family.help, labels=family.labels)
            for values, count in _flat(counters[family.key], len(family.labels)):
                counter.add_metric(values, count)
            yield counter
        for gauge in self._gauges():
            kind = CounterMetricFamily if gauge.key.endswith("_total") else GaugeMetricFamily
            yield kind(f"triode_{gauge.key}", gauge.help, value=gauge.value)


def _flat(tree: Any, depth: int) -> Iterator[tuple[list[str], int]]:
    """Label values and counts, of what `Metrics.as_json` has of a counter with so many labels."""
    if not depth:
        yield [], tree
        return
    for label, below in tree.items():
        yield from (([label, *labels], count) for labels, count in _flat(below, depth - 1))


def registry(
    counters: Callable[[], Mapping[str, Any]], gauges: Callable[[], Iterable[Gauge]]
) -> CollectorRegistry:
    """Of counters as `Metrics.as_json` has them. It is our own: nothing of the embedding program's
    gets in, nor of a second server.
    """
    own = CollectorRegistry(auto_describe=False)
    own.register(_FromMetrics(counters, gauges))
    return own


def exposition(own: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The text and its Content-Type: Prometheus', or OpenMetrics if `accept` asks for it."""
    encode, content_type = choose_encoder(accept)
    return encode(own), content_type


async def watch_loop(metrics: Metrics) -> None:
    """Measure how late the event loop runs, and take the samples for `rates`.

    A service: runs until cancelled.
    """
    metrics.sample(trio.current_time())
    while True:
        due_s = trio.current_time() + SAMPLE_EVERY_S
        await trio.sleep_until(due_s)
        now_s = trio.current_time()
        metrics.loop_lag_s = max(0.0, now_s - due_s)
        metrics.sample(now_s)

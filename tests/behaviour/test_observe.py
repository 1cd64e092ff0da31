"""`/health`, `/healthz`, `/readyz`, `/stats`, `/metrics`: well-formed, and in agreement with each
other.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from .clients import PATIENCE_S, TRANSPORTS, Api, Fence, open_ws, position, query, watch
from .server import Server

pytestmark = pytest.mark.trio

_SAMPLE = re.compile(
    r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_]\w*="([^"\\\n]|\\[\\"n])*",?)*\})? '
    r"([+-]?(\d+(\.\d+)?([eE][+-]?\d+)?|Inf)|NaN)( \d+)?"
)


async def test_health(api: Api) -> None:
    response = await api.request("GET", "/health")
    assert response.status_code == 200
    body = response.json()
    assert body["status"] == "healthy"
    assert isinstance(body["connections"], int)
    assert body["uptime"] > 0
    assert body["memory"]
    assert all(value > 0 for value in body["memory"].values())
    assert body["checks"]


@pytest.mark.parametrize("url", ["/healthz", "/readyz"])
async def test_probes(api: Api, url: str) -> None:
    assert (await api.request("GET", url)).status_code == 200
    assert (await api.request("HEAD", url)).status_code == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_health_counts_connections(server: Server, api: Api, transport: str) -> None:
    before = (await api.request("GET", "/health")).json()["connections"]
    async with watch(server, transport, ".a"), watch(server, transport, ".b"):
        now = (await api.request("GET", "/health")).json()["connections"]
        assert now == before + 2


async def stats(api: Api) -> dict[str, Any]:
    response = await api.request("GET", "/stats")
    assert response.status_code == 200
    body: dict[str, Any] = response.json()
    return body


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def metrics(api: Api) -> Samples:
    """Samples by name and labels; the text must satisfy the format line by line."""
    response = await api.request("GET", "/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    for line in response.text.splitlines():
        assert line.startswith("# ") or _SAMPLE.fullmatch(line), line
    assert response.text.endswith("\n")
    found = {}
    for family in text_string_to_metric_families(response.text):
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram", "summary", "info", "unknown")
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


async def test_metrics_are_openmetrics_when_asked(api: Api) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    response = await api.request("GET", "/metrics", headers=accept)
    if response.headers["content-type"].startswith("application/openmetrics-text"):
        assert list(openmetrics_families(response.text))


def counter_samples(name: str, value: Any) -> list[tuple[str, float]]:
    """The leaves of a counter of `/stats`, nested by label values."""
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in counter_samples(name, inner)]
    return [(name, float(value))]


async def at_rest(api: Api) -> tuple[dict[str, Any], Samples]:
    """Both, of a moment in which what is held stands still: tests share their server."""
    held = "memory_held_bytes"
    with trio.fail_after(PATIENCE_S):
        while True:
            body, samples = await stats(api), await metrics(api)
            if (await stats(api))["gauges"][held] == body["gauges"][held]:
                return body, samples


async def test_stats_and_metrics_agree(server: Server, api: Api) -> None:
    await api.reset({"a": 1, "fence": ""})
    async with open_ws(server, "/ws" + query([".a"], room="agree")) as ws:
        await ws.ok("set", path=".a", value=2)
        await ws.refused("set", path=".none.deep", value=2)
        body, samples = await at_rest(api)
    by_name: dict[str, list[float]] = {}
    for (name, _), value in samples.items():
        by_name.setdefault(name, []).append(value)
    volatile = ("cpu", "rss", "open_files", "lag", "uptime", "document_bytes", "oldest")
    for name, value in body["gauges"].items():
        published = by_name.get(f"triode_{name}")
        assert published is not None, name
        if not any(word in name for word in volatile):
            assert published == [value], name
    # Between the two reads there was one request, the first of them; all else stood still.
    moved = ("http", "request", "bytes", "auth", "scrape")
    for name, value in body["counters"].items():
        leaves = [leaf for _, leaf in counter_samples(name, value)]
        short = name.removesuffix("_total")
        published = by_name.get(f"triode_{short}_total", [])
        assert published or not any(leaves), f"{name} is not on /metrics"
        if not any(word in name for word in moved):
            assert sorted(x for x in published if x) == sorted(x for x in leaves if x), name


async def test_counters_count(server: Server, api: Api, fence: Fence) -> None:
    await api.reset({"a": 0, "fence": ""})

    def total(body: dict[str, Any], name: str) -> float:
        found = body["counters"].get(name, body["counters"].get(name + "_total"))
        return sum(leaf for _, leaf in counter_samples(name, found))

    before = await stats(api)
    async with watch(server, "sse", ".a", ".fence") as one, watch(server, "ws", ".a", ".fence"):
        for value in range(10):
            await api.put(".a", value)
        refused = await api.write("PUT", ".none.deep", b"1", "application/json")
        assert refused.status_code == 404
        [frames] = await fence.pass_through(one)
        assert len([f for f in frames if f["type"] == "update"]) == 10
    after = await stats(api)
    assert total(after, "writes") - total(before, "writes") == 11
    assert total(after, "writes_failed") - total(before, "writes_failed") == 1
    assert total(after, "connections") - total(before, "connections") == 2
    assert total(after, "events") - total(before, "events") >= 22
    assert after["position"] != before["position"]
    written = position(await api.request("POST", "/store", json={}))
    assert (await stats(api))["position"] == written


async def test_descriptions_are_there(api: Api) -> None:
    response = await api.request("GET", "/openapi.json")
    assert response.status_code == 200
    description = response.json()
    assert description["openapi"].startswith("3.")
    for path in ("/store", "/store/batch", "/publish", "/tokens", "/events", "/health", "/metrics"):
        assert path in description["paths"], path
    for url in ("/docs", "/"):
        page = await api.request("GET", url)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")

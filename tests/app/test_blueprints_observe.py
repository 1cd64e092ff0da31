"""`/stats` and `/metrics` tell the same numbers; the probes tell the truth; the pages open."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from tests.app.web import ADMIN, Web, serving
from triode.app.blueprints.pages import CLIENT, STATIC

# These move between two requests.
MOVING = {"triode_http_requests_total", "triode_cpu_seconds_total", "triode_uptime_seconds"}


def leaves(tree: dict[str, Any], *labels: str) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= leaves(value, *labels, key)
        else:
            found[(*labels, key)] = value
    return found


async def busy(web: Web) -> None:
    for number in range(3):
        await web.json("PUT", f"/store?path=.k{number}", "x" * 100)
    await web.ask("GET", "/store?path=.none")
    metrics = web.triode.metrics
    metrics.drops["latest", "queue_full"] += 4
    metrics.ends["slow"] += 2
    metrics.connections_total["ws"] += 1


async def test_stats_and_metrics_tell_the_same() -> None:
    async with serving({}) as web:
        await busy(web)
        stats = await web.json("GET", "/stats")
        told = {**stats["counters"], **stats["gauges"]}
        wanted = {(f"triode_{key}", *rest): value for (key, *rest), value in leaves(told).items()}
        text = (await web.ask("GET", "/metrics")).body.decode()
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in parse_prometheus(text)
            for sample in family.samples
            if sample.name != "triode_build_info"  # words, no number
        }
        assert set(found) == set(wanted)
        for key, value in wanted.items():
            if key[0] not in MOVING and "memory" not in key[0]:
                assert found[key] == value, key
        assert found["triode_drops_total", "latest", "queue_full"] == 4
        assert found["triode_refused_total", "404"] == 1
        assert found["triode_document_bytes",] == len((await web.ask("GET", "/store?path=.")).body)
        assert stats["position"] == str(web.triode.store.position)
        assert stats["rates"]["window_s"] == 10


async def test_openmetrics_when_asked_for() -> None:
    async with serving({}) as web:
        await busy(web)
        accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
        answer = await web.ask("GET", "/metrics", headers=accept)
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert list(parse_openmetrics(answer.body.decode()))


async def test_numbers_are_for_admins() -> None:
    async with serving({}, admin_token=ADMIN, token=ADMIN) as web:
        secret = (await web.json("POST", "/tokens", {}))["token"]
        for path in ("/stats", "/metrics"):
            assert (await web.ask("GET", path)).status == 200
            await web.with_token(secret).problem(403, "GET", path)
            await web.with_token(None).problem(401, "GET", path)


async def test_a_scraper_needs_the_metrics_and_gets_nothing_else() -> None:
    async with serving({"a": 1}, admin_token=ADMIN, token=ADMIN) as web:
        secret = (await web.json("POST", "/tokens", {"metrics": True}))["token"]
        scraper = web.with_token(secret)
        assert (await scraper.ask("GET", "/metrics")).status == 200
        assert (await scraper.json("GET", "/token"))["grant"]["metrics"] is True
        for path in ("/stats", "/connections", "/tokens", "/store?path=.a"):
            await scraper.problem(403, "GET", path)


async def test_health_and_probes_of_a_running_server() -> None:
    async with serving({"a": 1}) as web:
        health = await web.json("GET", "/health")
        assert health["status"] == "healthy"
        assert health["connections"] == 0
        assert health["memory"]["rss_bytes"] > 1_000_000
        assert set(health["checks"]) >= {"flusher", "event_loop", "open_files", "log"}
        assert (await web.ask("GET", "/healthz")).body == b"ok\n"
        assert (await web.ask("GET", "/readyz")).body == b"ready\n"
        assert (await web.ask("HEAD", "/healthz")).status == 200


async def test_draining_is_alive_but_not_ready() -> None:
    async with serving() as web:
        web.triode.draining = True
        answer = await web.ask("GET", "/readyz")
        assert answer.status == 503
        assert "Retry-After" in answer.headers
        assert (await web.ask("GET", "/healthz")).status == 200
        assert (await web.json("GET", "/health"))["status"] == "degraded"


async def test_without_the_flusher_it_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as web:
        monkeypatch.setattr(web.triode.hub.flusher, "runs", False)
        answer = await web.ask("GET", "/health")
        assert answer.status == 503
        assert answer.json()["status"] == "unhealthy"
        assert (await web.ask("GET", "/healthz")).status == 503


async def test_a_late_loop_is_degraded() -> None:
    async with serving() as web:
        web.triode.metrics.loop_lag_s = 3.0
        health = await web.json("GET", "/health")
        assert health["status"] == "degraded"
        assert health["checks"]["event_loop"] == {"status": "degraded", "lag_s": 3.0}


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_pages_hold_all_they_need_and_their_policy_allows_just_that(path: str) -> None:
    async with serving() as web:
        page = await web.ask("GET", path)
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        text = page.body.decode()
        assert not re.search(r"(src|href)=\"(https?:)?//", text)
        assert not re.search(r"\son\w+=|style=", text)
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        inline = re.findall(r"<(?:script|style)>(.*?)</(?:script|style)>", text, re.DOTALL)
        for part in inline:
            assert base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() in policy
        parts = re.findall(r"<(?:script|link|img) [^>]*(?:src|href)=\"([^\"]+)\"", text)
        assert inline or len(parts) >= 3
        for part in parts:
            assert (await web.ask("GET", f"/{part}")).status == 200, part
        again = await web.ask("GET", path, headers={"If-None-Match": page.headers["ETag"]})
        assert again.status == 304


async def test_the_browser_client_is_served() -> None:
    async with serving(cors_origins=("https://app.example",)) as web:
        origin = {"Origin": "https://app.example"}
        answer = await web.ask("GET", "/client.js", headers=origin)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-cache"
        # A module of another origin is loaded with CORS or not at all.
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert bytes(answer.body) == CLIENT.read_bytes()
        assert answer.headers["X-TypeScript-Types"] == "./client.d.ts"
        tag = {"If-None-Match": answer.headers["ETag"]}
        assert (await web.ask("GET", "/client.js", headers=tag)).status == 304
        types = await web.ask("GET", "/client.d.ts")
        assert types.headers["Content-Type"] == "application/typescript; charset=utf-8"
        assert b"export function triode" in types.body


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [("gzip", True), ("br, gzip;q=0.1", True), ("*", True), ("br", False), ("gzip;q=0", False)],
)
async def test_files_are_compressed_for_who_takes_that(accepted: str, is_compressed: bool) -> None:
    async with serving() as web:
        plain = await web.ask("GET", "/client.js")
        asked = {"Accept-Encoding": accepted}
        answer = await web.ask("GET", "/client.js", headers=asked)
        assert answer.headers.get("Content-Encoding") == ("gzip" if is_compressed else None)
        assert "Accept-Encoding" in answer.headers["Vary"]
        body = bytes(answer.body)
        assert (gzip.decompress(body) if is_compressed else body) == CLIENT.read_bytes()
        # Different bytes have different tags, and each is known again.
        tag = answer.headers["ETag"]
        assert (tag != plain.headers["ETag"]) is is_compressed
        again = await web.ask("GET", "/client.js", headers=asked | {"If-None-Match": tag})
        assert again.status == 304


def test_every_page_is_served() -> None:
    assert {path.name for path in STATIC.iterdir()} >= {"index.html", "docs.html"}


async def test_the_log_is_seen(tmp_path: Path) -> None:
    async with serving({}, data=tmp_path) as web:
        for number in range(3):
            await web.json("PUT", f"/store?path=.k{number}", number)
        stats = await web.json("GET", "/stats")
        told = stats["log"]
        assert (told["kept"], told["durability"], told["full"]) == ("disk", "full", False)
        assert told["snapshot"]["seq"] == 0
        gauges = stats["gauges"]
        assert (gauges["log_commits_total"], gauges["log_entries_total"]) == (3, 3)
        assert (gauges["log_group"], gauges["log_waiting"]) == (1, 0)
        assert gauges["log_disk_bytes"] > gauges["log_unsaved_bytes"] > 100
        assert 0 < gauges["log_commit_median_seconds"] <= gauges["log_commit_p99_seconds"]
        assert gauges["log_snapshot_age_seconds"] >= gauges["log_last_commit_seconds"] >= 0
        text = (await web.ask("GET", "/metrics")).body.decode()
        families = {family.name: family for family in parse_prometheus(text)}
        assert families["triode_log_commits"].type == "counter"
        assert families["triode_log_group"].type == "gauge"
        checks = (await web.json("GET", "/health"))["checks"]
        assert checks["log"] == {"status": "ok", "position": stats["position"], "kept": "full"}
        journal = web.triode.journal
        assert journal is not None
        journal.full.set()
        health = await web.json("GET", "/health")
        assert health["status"] == health["checks"]["log"]["status"] == "degraded"
        assert "disk is full" in health["checks"]["log"]["why"]


async def test_a_document_in_memory_says_so() -> None:
    async with serving({}) as web:
        stats = await web.json("GET", "/stats")
        assert stats["log"] == {"kept": "memory"}
        assert "log_commits_total" not in stats["gauges"]
        assert (await web.json("GET", "/health"))["checks"]["log"]["kept"] == "memory"

"""The alert rules and the dashboard of docker/, by Prometheus' own tools and by a real Prometheus
that scrapes a real Triode.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.behaviour.server import Server

DOCKER = Path(__file__).resolve().parents[2] / "docker"
RULES = DOCKER / "prometheus"
DASHBOARD = DOCKER / "grafana" / "triode.json"
SCRAPE_S = 0.5
# As Grafana fills them in.
VARIABLES = {"$job": "triode", "$instance": ".+", "$__rate_interval": "5s"}

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None or shutil.which("prometheus") is None,
    reason="no prometheus here (apt install prometheus)",
)


@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "--lint-fatal", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
)
def test_promtool_finds_nothing(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *command], cwd=RULES, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def queries() -> list[str]:
    """Every query of the dashboard, and every condition of the alerts."""
    board = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    found += [note["expr"] for note in board["annotations"]["list"]]
    for name, value in VARIABLES.items():
        found = [query.replace(name, value) for query in found]
    return found + re.findall(r"expr: (.+)", (RULES / "alerts.yml").read_text())


def series_named(query: str) -> set[str]:
    return set(re.findall(r"\btriode_\w+", query))


# What is there when something has happened only.
RARE = {"triode_drops_total", "triode_ends_total", "triode_refused_total"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server("native", {"data": str(tmp_path / "data")}, tmp_path)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def prometheus(server: Server, tmp_path: Path) -> Iterator[httpx.Client]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = (RULES / "prometheus.yml").read_text()
    config = config.replace("interval: 10s", f"interval: {round(SCRAPE_S * 1000)}ms")
    config = config.replace("triode:8080", f"127.0.0.1:{server.port}")
    (tmp_path / "prometheus.yml").write_text(config)
    (tmp_path / "alerts.yml").write_text((RULES / "alerts.yml").read_text())
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        yield client
    process.terminate()
    process.wait(10)


async def ask(prometheus: httpx.Client, query: str) -> list[dict[str, Any]]:
    answer = await trio.to_thread.run_sync(
        lambda: prometheus.get("/api/v1/query", params={"query": query})
    )
    body = answer.json()
    assert body["status"] == "success", (query, body)
    found: list[dict[str, Any]] = body["data"]["result"]
    return found


async def until_scraped(prometheus: httpx.Client) -> None:
    """A rate needs two scrapes."""
    with trio.fail_after(30):
        while True:
            try:
                if await ask(prometheus, 'count_over_time(up{job="triode"}[1m]) >= 3'):
                    return
            except httpx.TransportError:
                pass
            await trio.sleep(SCRAPE_S / 2)  # a process of its own, in real time


async def test_every_query_finds_what_a_server_tells(
    server: Server, prometheus: httpx.Client
) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as api:
        for number in range(3):
            await api.put("/store?path=.a", json=number)
    await until_scraped(prometheus)
    names = await ask(prometheus, 'count by (__name__) ({__name__=~"triode_.+"})')
    known = {row["metric"]["__name__"] for row in names}
    asked = queries()
    assert len(asked) > 50
    for query in asked:
        assert series_named(query) <= known | RARE, query
        await ask(prometheus, query)
    shown = [query for query in asked if "instance=~" in query and not series_named(query) & RARE]
    for query in shown[:-1]:  # the last one is of restarts
        assert await ask(prometheus, query), f"nothing to see: {query}"
    assert await ask(prometheus, 'ALERTS{alertstate="firing"}') == []
    [build] = await ask(prometheus, "triode_build_info")
    assert set(build["metric"]) >= {"version", "python", "trio", "hypercorn"}

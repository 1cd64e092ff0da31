"""What compose.cluster.yaml puts together, as processes: Valkey and nginx with the configurations
of docker/, and two Triodes, one of which is killed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trio
import yaml

from tests.cluster.conftest import FOUND, NAMES, NONE
from tests.cluster.event_source import EventSource
from tests.cluster.nodes import Node, client_of
from tests.cluster.server import free_port, running
from tests.cluster.waiting import until
from tests.herd.nginx import NGINX, fitted
from tests.herd.nginx import running as nginx

DOCKER: Final = Path(__file__).resolve().parents[2] / "docker"
PATIENCE_S: Final = 45.0
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((DOCKER / "compose.cluster.yaml").read_text())

needs_servers = pytest.mark.skipif(
    NGINX is None or not FOUND, reason=f"no nginx here (apt install nginx-light), or {NONE}"
)


def configuration(port: int, places: tuple[str, str], home: Path) -> str:
    """docker/nginx/nginx.conf, on another port and before other servers."""
    return fitted(
        (DOCKER / "nginx" / "nginx.conf").read_text(encoding="utf-8"),
        home,
        ("listen 80 ", f"listen 127.0.0.1:{port} "),
        ("server 172.30.77.11:8080 ", f"server {places[0]} "),
        ("server 172.30.77.12:8080 ", f"server {places[1]} "),
        ("worker_processes auto;\n", ""),
        ("worker_connections 32768;", "worker_connections 512;"),
        ("http {\n", "http {\n    access_log off;\n"),
    )


@asynccontextmanager
async def cluster(home: Path) -> AsyncIterator[tuple[int, Node, Node]]:
    """nginx's port, and the two nodes behind it."""
    folder = home / "valkey"
    folder.mkdir()
    config = DOCKER / "valkey" / "valkey.conf"
    options = [word for line in config.read_text().splitlines() if line and line[0] != "#"
               for word in (f"--{line.split()[0]}", line.split(None, 1)[1].strip('"'))]  # fmt: skip
    async with running(FOUND[NAMES[0]], folder, *options) as server:
        one, two = (Node(server.url, home, "--trusted-proxies", "127.0.0.1") for _ in range(2))
        try:
            await one.start()
            await two.start()
            port = free_port()
            places = f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"
            with nginx(configuration(port, places, home / "nginx"), home / "nginx"):
                yield port, one, two
        finally:
            one.kill()
            two.kill()


async def streams_of(node: Node) -> int:
    """How many clients this node has."""
    async with client_of() as client:
        stats = (await client.get(f"{node.url}/stats")).json()
    return int(stats["gauges"]["clients"])


@needs_servers
async def test_a_node_is_killed_and_no_event_is_missed(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (port, one, two), trio.open_nursery() as nursery:
        stream = EventSource(port, retry_s=0.1)
        async with client_of(PATIENCE_S) as client:

            async def write(value: int) -> None:
                url = f"http://127.0.0.1:{port}/store?path=.n"
                key = {"idempotency-key": f"w{value}"}
                with trio.fail_after(PATIENCE_S):
                    while True:
                        try:
                            answer = await client.put(url, json=value, headers=key)
                        except httpx.TransportError:
                            continue
                        if answer.status_code < 300:
                            return
                        await trio.sleep(0.1)

            await write(0)
            nursery.start_soon(stream.run)
            await until(lambda: 0 in stream.values)
            for value in range(1, 6):
                await write(value)
            await until(lambda: 5 in stream.values)
            taken = one if await streams_of(one) else two
            taken.kill()
            for value in range(6, 40):
                await write(value)
            await until(lambda: 39 in stream.values)
        assert stream.values == list(range(40))
        assert stream.resumed == [False, True]
        nursery.cancel_scope.cancel()


def test_what_is_mounted_is_there() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).exists(), source


def test_addresses_are_the_same_everywhere() -> None:
    services = COMPOSE["services"]
    at = {
        name: services[name]["networks"]["inside"]["ipv4_address"] for name in ("a", "b", "nginx")
    }
    conf = (DOCKER / "nginx" / "nginx.conf").read_text()
    scraped = yaml.safe_load((DOCKER / "prometheus" / "prometheus.cluster.yml").read_text())
    targets = scraped["scrape_configs"][0]["static_configs"][0]["targets"]
    assert re.findall(r"server ([0-9.]+:\d+)", conf) == targets == [f"{at[n]}:8080" for n in "ab"]
    assert services["a"]["environment"]["TRIODE_TRUSTED_PROXIES"] == at["nginx"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here (apt: prometheus)")
def test_promtool_finds_nothing() -> None:
    command = ["promtool", "check", "config", "prometheus.cluster.yml"]
    done = subprocess.run(
        command, cwd=DOCKER / "prometheus", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

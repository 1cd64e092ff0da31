"""What compose.cluster.yaml puts together, as processes: Valkey and nginx with the configurations
of docker/, and two Triodes, one of which is killed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trio
import yaml

from tests.cluster.conftest import FOUND, NAMES, NONE
from tests.cluster.nodes import Node, client_of
from tests.cluster.server import free_port, running
from tests.herd.nginx import NGINX

DOCKER: Final = Path(__file__).resolve().parents[2] / "docker"
PATIENCE_S: Final = 45.0
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((DOCKER / "compose.cluster.yaml").read_text())

needs_servers = pytest.mark.skipif(
    NGINX is None or not FOUND, reason=f"no nginx here (apt install nginx-light), or {NONE}"
)


def configuration(port: int, places: tuple[str, str], home: Path) -> str:
    """docker/nginx/nginx.conf, on another port and before other servers."""
    text = (DOCKER / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"    {kind}_temp_path {home}/{kind};\n" for kind in kinds)
    for said, ours in (
        ("listen 80 ", f"listen 127.0.0.1:{port} "),
        ("server 172.30.77.11:8080 ", f"server {places[0]} "),
        ("server 172.30.77.12:8080 ", f"server {places[1]} "),
        ("worker_processes auto;\n", ""),
        ("worker_rlimit_nofile 65536;\n", ""),  # the tests are not root
        ("worker_connections 32768;", "worker_connections 512;"),
        ("http {\n", f"http {{\n    access_log off;\n{temporary}"),
    ):
        assert said in text, f"nginx.conf does not say {said!r}"
        text = text.replace(said, ours)
    return f"daemon off;\nmaster_process off;\npid {home}/pid;\nerror_log {home}/error.log;\n{text}"


@contextmanager
def nginx(places: tuple[str, str], home: Path) -> Iterator[int]:
    """Runs; gives its port."""
    assert NGINX is not None
    home.mkdir()
    port = free_port()
    path = home / "nginx.conf"
    path.write_text(configuration(port, places, home), encoding="utf-8")
    command = [NGINX, "-p", str(home), "-e", str(home / "error.log"), "-c", str(path)]
    subprocess.run([*command, "-t"], check=True, capture_output=True, timeout=PATIENCE_S)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


class Stream:
    """A native EventSource's behaviour: it comes back with the last id it has seen."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.resumed: list[bool] = []
        self.values: list[int] = []
        self._last_id = ""

    async def run(self) -> None:
        """Until it is cancelled. Any status but 200 would close an EventSource for good."""
        headers = {"accept": "text/event-stream"}
        while True:
            if self._last_id:
                headers["last-event-id"] = self._last_id
            url = f"http://127.0.0.1:{self.port}/events?filter=.n"
            async with client_of(PATIENCE_S) as client:
                async with client.stream("GET", url, headers=headers) as response:
                    assert response.status_code == 200
                    try:
                        async for block in blocks(response):
                            self._take(block)
                    except httpx.TransportError:
                        pass
            await trio.sleep(0.1)

    def _take(self, block: dict[str, str]) -> None:
        self._last_id = block.get("id", self._last_id)
        kind = block.get("event")
        if kind == "connected":
            self.resumed.append(json.loads(block["data"])["resumed"])
        elif kind == "snapshot":
            self.values += [item["value"] for item in json.loads(block["data"])["items"]]
        elif kind == "update":
            self.values.append(json.loads(block["data"])["value"])

    async def until(self, value: int) -> None:
        """Wait until it has seen it."""
        with trio.fail_after(PATIENCE_S):
            while value not in self.values:  # noqa: ASYNC110 # another task fills it
                await trio.sleep(0.01)


async def blocks(response: httpx.Response) -> AsyncIterator[dict[str, str]]:
    """The events of a stream, as fields."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            yield fields
            fields = {}


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
            with nginx((f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"), home / "nginx") as port:
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
        stream = Stream(port)
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
            await stream.until(0)
            for value in range(1, 6):
                await write(value)
            await stream.until(5)
            taken = one if await streams_of(one) else two
            taken.kill()
            for value in range(6, 40):
                await write(value)
            await stream.until(39)
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

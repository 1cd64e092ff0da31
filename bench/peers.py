"""The other servers: how they are installed and started, and how one talks to them.

They are installed beside us, never into our environment: `python -m bench install` makes
`~/.cache/triode-bench` (a venv, a node_modules, nginx with nchan unpacked from Debian's packages).
A peer that is not there is left out, with a line that says so.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.machine import CACHE, HERE, free_port, triode
from bench.report import LIMIT, OTHERS, OURS, OURS_LIGHT, console

VENV: Final = CACHE / "venv"
NODE: Final = CACHE / "node"
NGINX: Final = CACHE / "nginx"
PYTHON_PEERS: Final = (
    "socketify", "picows", "websockets", "uvloop", "httptools", "uvicorn", "sse-starlette",
    "starlette", "quart-trio", "hypercorn",
)  # fmt: skip
NGINX_HOME: Final = Path("/var/lib/nginx")
NGINX_MODULE: Final = NGINX / "usr/lib/nginx/modules/ngx_nchan_module.so"

Start = Callable[[], tuple[list[str | Path], int]]


@dataclass(frozen=True)
class Peer:
    """One server: how to start it, and the options of the load generator that it needs."""

    name: str
    start: Start
    options: dict[str, Any]
    color: str = OTHERS
    needs: Path = HERE
    env: dict[str, str] | None = None

    @property
    def installed(self) -> bool:
        return self.needs.exists()


PLAIN: Final = {"pub_path": "/pub", "pub_text": "%s"}
SSE: Final = {**PLAIN, "transport": "sse", "path": "/events"}
WS: Final = {**PLAIN, "transport": "ws", "path": "/ws"}
TRIODE_SSE: Final = {"transport": "sse", "path": "/events?filter=.bench"}
TRIODE_WS: Final = {"transport": "ws", "path": "/ws?filter=.bench"}


def _python(script: str) -> Start:
    def start() -> tuple[list[str | Path], int]:
        port = free_port()
        return [VENV / "bin/python", HERE / "peer" / script, str(port)], port

    return start


def _node(script: str) -> Start:
    def start() -> tuple[list[str | Path], int]:
        port = free_port()
        return ["node", HERE / "peer" / script, str(port)], port

    return start


def _limit(*flags: str) -> Start:
    def start() -> tuple[list[str | Path], int]:
        port = free_port()
        return [CACHE / "limit", str(port), *flags], port

    return start


def _nchan() -> tuple[list[str | Path], int]:
    port = free_port()
    place = NGINX / "run"
    place.mkdir(exist_ok=True)
    config = place / "nginx.conf"
    config.write_text(
        f"""load_module {NGINX_MODULE};
worker_processes 1; daemon off; pid {place}/pid; error_log {place}/error.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
  access_log off; nchan_shared_memory_size 256M;
  client_body_temp_path {place}/b; proxy_temp_path {place}/p; fastcgi_temp_path {place}/f;
  uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /pub {{ nchan_publisher websocket http; nchan_channel_id bench;
      nchan_message_buffer_length 5000; nchan_websocket_ping_interval 0; }}
    location = /events {{ nchan_subscriber eventsource; nchan_channel_id bench;
      nchan_subscriber_first_message newest; }}
    location = /ws {{ nchan_subscriber websocket; nchan_channel_id bench;
      nchan_subscriber_first_message newest; }}
  }}
}}
"""
    )
    return [NGINX / "usr/sbin/nginx", "-p", place, "-c", config], port


TRIODE: Final = (
    Peer("Triode, SSE", triode, TRIODE_SSE, OURS),
    Peer("Triode, WebSocket", triode, TRIODE_WS, OURS_LIGHT),
)
NAIVE: Final = Peer("C, one send() each", _limit(), {**SSE, "pub_text": '"%s"'}, LIMIT)
JOINED: Final = Peer("C, joined sends", _limit("--joined"), {**SSE, "pub_text": '"%s"'}, LIMIT)
SOCKET_IO: Final = "/socket.io/?EIO=4&transport=websocket"
_NODE_ENV: Final = {"NODE_PATH": str(NODE / "node_modules")}
_NGINX_ENV: Final = {"LD_LIBRARY_PATH": str(NGINX / "usr/lib/x86_64-linux-gnu")}
OTHER: Final = (
    Peer("uWebSockets (C++)", _python("uws.py"), WS, needs=VENV),
    Peer("picows (Cython)", _python("picows_server.py"), WS, needs=VENV),
    Peer("websockets", _python("websockets_server.py"), WS, needs=VENV),
    Peer("sse-starlette, uvicorn", _python("starlette_server.py"), SSE, needs=VENV),
    Peer("Quart-Trio, Hypercorn", _python("quart_server.py"), SSE, needs=VENV),
    Peer("Nchan (C, nginx)", _nchan, SSE, needs=NGINX_MODULE, env=_NGINX_ENV),
    Peer("ws (node)", _node("ws.js"), WS, needs=NODE / "node_modules/ws", env=_NODE_ENV),
    Peer(
        "socket.io (node)",
        _node("socketio.js"),
        {"transport": "ws", "path": SOCKET_IO, "pub_path": SOCKET_IO, "hello": "40",
         "pub_text": '42["m","%s"]'},
        needs=NODE / "node_modules/socket.io",
        env=_NODE_ENV,
    ),
)  # fmt: skip
ALL: Final = (*TRIODE, NAIVE, JOINED, *OTHER)


def install() -> None:
    """Install the peers into the cache, as far as their package managers are there."""
    CACHE.mkdir(parents=True, exist_ok=True)
    if not VENV.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    subprocess.run([VENV / "bin/pip", "install", "--quiet", *PYTHON_PEERS], check=False)
    if shutil.which("npm"):
        NODE.mkdir(exist_ok=True)
        npm = ["npm", "install", "--silent", "--prefix", str(NODE), "ws", "socket.io"]
        subprocess.run(npm, check=False)
    if shutil.which("apt-get") and shutil.which("dpkg"):
        NGINX.mkdir(exist_ok=True)
        debs = ["nginx", "nginx-common", "libnginx-mod-nchan", "libhiredis0.14"]
        if subprocess.run(["apt-get", "download", *debs], cwd=NGINX, check=False).returncode == 0:
            for deb in NGINX.glob("*.deb"):
                subprocess.run(["dpkg", "-x", deb, NGINX], check=True)
            _make_nginx_home()


def _make_nginx_home() -> None:
    """Debian's nginx wants this directory, whatever its configuration says."""
    try:
        NGINX_HOME.mkdir(exist_ok=True)
    except OSError as error:
        console.print(f"[red]Nchan will not start: {error}; make it as root[/red]")

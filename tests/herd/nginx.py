"""nginx with the configuration of `docs/proxies.md`, on other ports."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.behaviour.server import ROOT, free_port

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
PAGE = ROOT / "docs" / "proxies.md"
START_S = 10.0


def configuration(port: int, server: str, home: Path, *, http2: bool = False) -> str:
    """The first block of the page, to listen on `port` before the `server`: an address, or
    `unix:PATH`. `http2`: it speaks nothing else to clients, and no TLS.
    """
    block = re.search(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    text = block.group(1)
    for said, ours in (
        ("listen 80 ", f"listen 127.0.0.1:{port} {'http2 ' * http2}"),
        ("server 127.0.0.1:8000;", f"server {server};"),
        ("worker_rlimit_nofile 65536;\n", ""),  # the tests are not root
        ("worker_connections 32768;", "worker_connections 8192;"),
        ("http {\n", f"http {{\n    access_log {home}/access.log;\n{_places(home)}"),
    ):
        assert said in text, f"{PAGE.name} does not say {said!r}"
        text = text.replace(said, ours)
    return f"daemon off;\nmaster_process off;\npid {home}/pid;\nerror_log {home}/error.log;\n{text}"


def _places(home: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"    {kind}_temp_path {home}/{kind};\n" for kind in kinds)


@contextmanager
def nginx(server: int | str, home: Path, *, http2: bool = False) -> Iterator[int]:
    """Run it before the server on this port, or at this address; gives its own port."""
    assert NGINX is not None
    home.mkdir(exist_ok=True)
    port = free_port()
    path = home / "nginx.conf"
    at = f"127.0.0.1:{server}" if isinstance(server, int) else server
    path.write_text(configuration(port, at, home, http2=http2), encoding="utf-8")
    process = subprocess.Popen(
        [NGINX, "-p", str(home), "-e", str(home / "error.log"), "-c", str(path)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + START_S
        while not (home / "pid").exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((home / "error.log").read_text(encoding="utf-8"))
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(START_S)

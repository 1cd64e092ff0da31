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
    return fitted(
        block.group(1),
        home,
        ("listen 80 ", f"listen 127.0.0.1:{port} {'http2 ' * http2}"),
        ("server 127.0.0.1:8000;", f"server {server};"),
        ("worker_connections 32768;", "worker_connections 8192;"),
        ("http {\n", f"http {{\n    access_log {home}/access.log;\n"),
    )


def fitted(text: str, home: Path, *changes: tuple[str, str]) -> str:
    """A configuration for a process of ours, which is not root and has its files in `home`."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"    {kind}_temp_path {home}/{kind};\n" for kind in kinds)
    for said, ours in (
        *changes,
        ("worker_rlimit_nofile 65536;\n", ""),  # the tests are not root
        ("http {\n", f"http {{\n{places}"),
    ):
        assert said in text, f"it does not say {said!r}"
        text = text.replace(said, ours)
    return f"daemon off;\nmaster_process off;\npid {home}/pid;\nerror_log {home}/error.log;\n{text}"


@contextmanager
def nginx(server: int | str, home: Path, *, http2: bool = False) -> Iterator[int]:
    """Run it before the server on this port, or at this address; gives its own port."""
    port = free_port()
    at = f"127.0.0.1:{server}" if isinstance(server, int) else server
    with running(configuration(port, at, home, http2=http2), home):
        yield port


@contextmanager
def running(text: str, home: Path) -> Iterator[None]:
    """Run nginx with this configuration, which it has to find right; it listens in the block."""
    assert NGINX is not None
    home.mkdir(exist_ok=True)
    path = home / "nginx.conf"
    path.write_text(text, encoding="utf-8")
    command = [NGINX, "-p", str(home), "-e", str(home / "error.log"), "-c", str(path)]
    subprocess.run([*command, "-t"], check=True, capture_output=True, timeout=START_S)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + START_S
        # The check leaves an empty one.
        while not (home / "pid").stat().st_size:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((home / "error.log").read_text(encoding="utf-8"))
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(START_S)

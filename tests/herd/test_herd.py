"""A hundred EventSources behind nginx; `python -m tests.herd` does it with three thousand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.behaviour.server import Server
from tests.herd.herd import herd
from tests.herd.nginx import NGINX, nginx

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
PATIENCE_S = 60.0


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
async def test_all_come_back_after_a_restart(tmp_path: Path, http2: bool) -> None:
    """With default rates, all behind one address, and with what docs/proxies.md says."""
    server = Server("native", {"trusted_proxies": "127.0.0.1", "retry_min": "500ms"}, tmp_path)
    server.start()
    try:
        with nginx(server.port, tmp_path / "nginx", http2=http2) as port:
            async with herd(port, 100, PATIENCE_S, http2=http2) as those:
                found = await those.restart(server, 1.0, PATIENCE_S)
    finally:
        server.stop()
    assert (found.came, found.closed) == (100, 0), found.answers
    # Those who were told to come, 100 in a second, are not refused for their rate.
    assert found.answers["later, for its rate"] == 0, found.answers
    # Some met nginx alone: the server was away for longer than the first was told to wait.
    assert found.answers["later, said nginx"] > 0

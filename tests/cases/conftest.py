"""The cases run against the same kinds of servers as the behaviour tests, on both lanes."""

from __future__ import annotations

from tests.behaviour.conftest import api, fence, lane, make_server, server, servers_live_on

__all__ = ["api", "fence", "lane", "make_server", "server", "servers_live_on"]

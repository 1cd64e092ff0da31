"""What a runner of cases works with."""

from __future__ import annotations

from typing import Any

from tests.behaviour.clients import Api, Fence
from tests.behaviour.conftest import ServerFactory
from tests.behaviour.server import Server

Case = dict[str, Any]


class Bench:
    """What a runner works with."""

    def __init__(self, server: Server, api: Api, make_server: ServerFactory) -> None:
        self.server = server
        self.api = api
        self.fence = Fence(api)
        self.make_server = make_server

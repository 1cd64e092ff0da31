"""Some of the generated inputs; `python -m tests.abuse generated` tries more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.abuse.generated import SETTINGS, Player
from tests.abuse.holds import WatchedServer
from tests.behaviour.server import LANES, Lane, Server

pytestmark = pytest.mark.trio

COUNT = 30
# What others do beside a test makes caches cold.
STEP_MS = 60.0


@pytest.mark.parametrize("lane", LANES)
async def test_they_are_answered_soon_and_leave_nothing_behind(lane: Lane, tmp_path: Path) -> None:
    native = WatchedServer(SETTINGS, tmp_path)
    server = native if lane == "native" else Server(lane, SETTINGS, tmp_path)
    server.start()
    try:
        player = Player(server, seed=2, step_ms=STEP_MS)
        await player.begin()
        native.longest()
        for number in range(COUNT):
            await player.play(number)
        await player.gone(COUNT)
        assert {"connected", "200", "400", "error 400"} <= player.answers.keys()
    finally:
        server.stop()

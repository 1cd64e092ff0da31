"""What is done before anybody is let in."""

from __future__ import annotations

from unittest.mock import patch

import trio
import trio.testing

from triode.app.config.settings import Settings
from triode.app.service import running
from triode.app.service.triode import Triode


async def test_nobody_is_let_in_before_all_modules_are_loaded(nursery: trio.Nursery) -> None:
    """Without a file descriptor no module can be loaded any more, and a server ended by that."""
    triode = Triode(Settings())
    readiness: list[bool] = []
    with patch.object(running, "import_module", lambda _: readiness.append(triode.ready)):
        await nursery.start(running.run, triode)
        await trio.testing.wait_all_tasks_blocked()
    assert readiness == [False]
    assert triode.ready

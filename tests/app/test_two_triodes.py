"""Two Triodes in one Quart-Trio application: each has its document, its clients and its tokens."""

from __future__ import annotations

from quart_trio import QuartTrio

from tests.app.web import JSON, Web
from triode.app.application import attach
from triode.app.config.settings import Settings
from triode.app.service.triode import Triode

FIRST, SECOND = "the-admin-of-the-first", "the-admin-of-the-second"


async def test_two_in_one_application_have_nothing_in_common() -> None:
    app = QuartTrio("host")
    first = Triode(Settings(admin_token=FIRST), {"name": "first"})
    second = Triode(Settings(admin_token=SECOND), {"name": "second"})
    attach(app, first, url_prefix="/first")
    attach(app, second, url_prefix="/second")
    app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = None
    async with app.test_app():
        assert first.ready
        assert second.ready
        one, two = Web(app, first), Web(app, second)
        mine = {"Authorization": f"Bearer {FIRST}"}
        yours = {"Authorization": f"Bearer {SECOND}"}
        assert await one.json("GET", "/first/store?path=.name", headers=mine) == "first"
        assert await two.json("GET", "/second/store?path=.name", headers=yours) == "second"
        for path, token in (("/first", yours), ("/second", mine)):
            await one.problem(401, "GET", f"{path}/store?path=.name", headers=token)
            await one.problem(401, "PUT", f"{path}/store?path=.a", 1, headers=JSON | token)
        await one.json("PUT", "/first/store?path=.a", 1, headers=JSON | mine)
        assert first.store.seq == 1
        assert second.store.seq == 0
        await two.problem(404, "GET", "/second/store?path=.a", headers=yours)
        for web, path, token in ((one, "/first", mine), (two, "/second", yours)):
            described = await web.json("GET", f"{path}/openapi.json", headers=token)
            assert described["servers"] == [{"url": path}]
            await web.problem(405, "POST", f"{path}/health")
            await web.problem(400, "GET", f"{path}/store?pth=.a", headers=token)
        assert first.metrics.writes_total == 1
        assert second.metrics.writes_total == 0

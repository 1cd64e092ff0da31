"""`/debug` is there only when asked for, and shows what the server is doing."""

from __future__ import annotations

from trio.testing import MockClock

from tests.app.web import serving


async def test_it_is_not_there_by_default() -> None:
    async with serving() as web:
        assert (await web.ask("GET", "/debug/tasks")).status == 404


async def test_the_tree_of_tasks_names_the_services() -> None:
    async with serving(debug=True) as web:
        answer = await web.ask("GET", "/debug/tasks")
    assert answer.status == 200
    assert b"triode.app.delivery.hub.Hub.run  run flusher.py:" in answer.body
    assert b"triode.app.service.heartbeat.heartbeat" in answer.body


async def test_a_profile_shows_what_ran(autojump_clock: MockClock) -> None:
    async with serving(debug=True) as web:
        assert (await web.ask("GET", "/debug/profile?seconds=0")).status == 400
        answer = await web.ask("GET", "/debug/profile?seconds=1")
    assert answer.status == 200
    assert b"function calls" in answer.body

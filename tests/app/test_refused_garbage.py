"""A refusal lets go of what was refused at once. Held by its own traceback, a body of 20 MiB would
stay until the garbage collector comes, which for a large document is seldom.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from tests.app.web import Web, serving
from triode.app.wire.refusal import Refusal

MIB = 1024 * 1024
NDJSON = {"Content-Type": "application/x-ndjson"}
ROWS = [{"x": number} for number in range(4_000)]


@pytest.fixture
def uncollected() -> Iterator[list[Any]]:
    """What only the collector would have found, filled by `gc.collect`."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.collect()


async def ask(web: Web, method: str, target: str, body: Any, kind: str | None = None) -> int:
    headers = {} if kind is None else {"Content-Type": kind}
    return (await web.ask(method, target, body, headers=headers)).status


@pytest.mark.parametrize(
    ("status", "method", "target", "body", "kind"),
    [
        (507, "PUT", "/store?path=.a", ROWS, None),
        (404, "PUT", "/store?path=.no.where", ROWS, None),
        (404, "PATCH", "/store?path=.n.m", ROWS, "application/merge-patch+json"),
        (400, "POST", "/store?path=.&create=maybe", ROWS, None),
        (
            409,
            "PATCH",
            "/store?path=.",
            [{"op": "test", "path": "/n", "value": ROWS}],
            "application/json-patch+json",
        ),
    ],
)
async def test_a_refused_write_leaves_nothing_behind(
    uncollected: list[Any], status: int, method: str, target: str, body: Any, kind: str | None
) -> None:
    async with serving({"n": 1}, memory=MIB // 2) as web:
        for _ in range(2):  # the first has what is imported and made once in it
            gc.collect()
            uncollected.clear()
            answer = await ask(web, method, target, body, kind)
        gc.collect()
        assert [each for each in uncollected if isinstance(each, Refusal)] == []
        assert [each for each in uncollected if each in (body, ROWS)] == []
        assert answer == status


async def test_nor_does_a_line_of_a_batch(uncollected: list[Any]) -> None:
    async with serving({"n": 1}) as web:
        lines = b'{"type":"set","path":".no.where","value":[1,2]}\n{"type":\n'
        for _ in range(2):
            gc.collect()
            uncollected.clear()
            answer = await web.ask("POST", "/store/batch", raw=lines, headers=NDJSON)
        gc.collect()
        assert [each for each in uncollected if isinstance(each, Refusal)] == []
        assert answer.status in (200, 207)

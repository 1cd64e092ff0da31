"""The acceptance cases (`AREA.jsonl`) as data against the running server, on both lanes.

Each area has a runner that turns `given` into requests and compares with `expect`. `overruled.py`
says which expectations docs/wire.md replaces. A case of a shape that no runner knows is skipped by
name,
so that new ones are seen.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.behaviour.clients import Api
from tests.behaviour.conftest import ServerFactory
from tests.behaviour.server import Server
from tests.cases import document, streams
from tests.cases.bench import Bench, Case
from tests.cases.overruled import ELSEWHERE, OVERRULED
from tests.cases.shape import expand
from tests.conftest import cases_folder

pytestmark = pytest.mark.trio

AREAS = ("path", "filter", "http", "sse", "tags", "subscribe", "server")
RUNNERS: dict[str, Callable[[Bench, Case, Case], Awaitable[None]]] = {
    "path.get": document.path_get,
    "path.match": document.path_match,
    "path.parse": document.path_parse,
    "path.set": document.path_set,
    "path.delete": document.path_delete,
    "filter.match": document.filter_match,
    "filter.condition": document.filter_condition,
    "filter.query": document.filter_query,
    "http.store": document.http_store,
    "sse": streams.sse,
    "tags": streams.tags,
    "subscribe": streams.subscribe,
    "server": streams.server_case,
}


def load() -> list[Any]:
    """All cases of our areas as parameters; one that skips when the folder is absent."""
    folder = cases_folder()
    found = []
    for file in sorted(folder.glob("*.jsonl")) if folder.is_dir() else []:
        if file.name.partition(".")[0] in AREAS:
            lines = file.read_text("utf-8").splitlines()
            found += [expand(json.loads(line)) for line in lines if line.strip()]
    if not found:
        reason = f"{folder} is not there (set TRIODE_CASES to the folder of the cases)"
        return [pytest.param({}, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [pytest.param(one, id=one["id"], marks=marks(one["id"])) for one in found]


def marks(case_id: str) -> tuple[pytest.MarkDecorator, ...]:
    """A skip with its reason for what is not on the wire."""
    reason = ELSEWHERE.get(case_id)
    return (pytest.mark.skip(reason=reason),) if reason else ()


@pytest.mark.parametrize("case", load())
async def test_case(case: Case, server: Server, api: Api, make_server: ServerFactory) -> None:
    if case["id"] in OVERRULED:
        case = {**case, "expect": OVERRULED[case["id"]][1]}
    runner = RUNNERS.get(case["area"])
    if runner is None:
        pytest.skip(f"no runner for area {case['area']}")
    await runner(Bench(server, api, make_server), case["given"], case["expect"])

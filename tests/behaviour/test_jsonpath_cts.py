"""The JSONPath Compliance Test Suite (RFC 9535) through the running server: as a read and as a
subscription.

Every document becomes the root by `POST /store`; `GET /store?filter=$…` answers the nodelist in one
of its allowed orders with the right paths, and the snapshot of a WebSocket subscription assembles
to the same places. Selectors that the suite calls invalid are 400 with a column.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from .assembler import Assembler, parse, same
from .assembler import Path as Place
from .clients import Api, open_ws, query
from .server import Server

pytestmark = pytest.mark.trio

GROUPS = (
    "basic",
    "filter",
    "functions",
    "index selector",
    "name selector",
    "slice selector",
    "whitespace",
)
_STEP = re.compile(r"\[(?:(\d+)|'((?:[^'\\]|\\.)*)')\]", re.DOTALL)


@pytest.fixture(scope="module")
def tests(suites: Path) -> list[dict[str, Any]]:
    """All tests of the suite."""
    content = json.loads((suites / "jsonpath-cts" / "cts.json").read_text("utf-8"))
    loaded: list[dict[str, Any]] = content["tests"]
    return loaded


def place(normalized: str) -> Place:
    """A normalized path (RFC 9535 section 2.7) as steps."""
    steps: list[str | int] = []
    for index, name in _STEP.findall(normalized[1:]):
        if index:
            steps.append(int(index))
        else:
            escaped = name.replace("\\'", "'").replace('"', '\\"')
            steps.append(json.loads(f'"{escaped}"'))
    return tuple(steps)


def allowed(test: dict[str, Any]) -> list[list[tuple[Place, Any]]]:
    """The nodelists that may be answered."""
    values = test["results"] if "results" in test else [test["result"]]
    paths = test["results_paths"] if "results" in test else [test["result_paths"]]
    return [
        list(zip(map(place, one_paths), one_values, strict=True))
        for one_paths, one_values in zip(paths, values, strict=True)
    ]


async def test_the_suite_is_whole(tests: list[dict[str, Any]]) -> None:
    assert len(tests) == 703
    assert {test["name"].partition(",")[0] for test in tests} == set(GROUPS)


@pytest.mark.parametrize("group", GROUPS)
async def test_compliance(
    server: Server, api: Api, tests: list[dict[str, Any]], group: str
) -> None:
    faults: list[tuple[Any, ...]] = []
    async with open_ws(server, "/ws" + query(["$.none"], snapshot="none")) as ws:
        for test in tests:
            if test["name"].partition(",")[0] != group:
                continue
            selector = test["selector"]
            if test.get("invalid_selector"):
                response = await api.request("GET", "/store", params={"filter": selector})
                problem = response.json()
                if response.status_code != 400 or not 1 <= problem["column"] <= len(selector) + 1:
                    faults.append((test["name"], selector, response.text))
                error = await ws.ask("subscribe", filter=selector)
                if (error["type"], error.get("status")) != ("error", 400) or "column" not in error:
                    faults.append((test["name"], selector, error))
                continue
            await api.reset(test["document"])
            nodelists = allowed(test)
            items = await api.select(selector)
            got = [(parse(item["path"]), item["value"]) for item in items]
            if not any(is_same(got, one) for one in nodelists):
                faults.append((test["name"], selector, items))
            views = Assembler()
            await ws.ok("subscribe", filter=selector)
            frame: dict[str, Any] = {"more": True}
            while frame["more"]:
                frame = await ws.next()
                views.take(frame)
            view = views.views[selector]
            if not any(is_same(sorted_view(view), sorted_view(dict(one))) for one in nodelists):
                faults.append((test["name"], selector, frame))
            await ws.ok("unsubscribe", filter=selector)
    assert not faults, f"{len(faults)}: {faults[:10]}"


def sorted_view(view: dict[Place, Any]) -> list[tuple[Place, Any]]:
    return sorted(view.items(), key=lambda item: repr(item[0]))


def is_same(a: list[tuple[Place, Any]], b: list[tuple[Place, Any]]) -> bool:
    return len(a) == len(b) and all(
        p == q and same(v, w) for (p, v), (q, w) in zip(a, b, strict=True)
    )

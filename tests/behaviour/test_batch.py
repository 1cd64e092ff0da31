"""`POST /store/batch`: a line per command, as NDJSON and as an array."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from .clients import Api, sequence
from .server import KEPT
from .small_document import DOCUMENT

pytestmark = pytest.mark.trio

JSON = "application/json"
NDJSON = "application/x-ndjson"


def results(response: httpx.Response) -> list[dict[str, Any]]:
    """A line per command, whether the answer is NDJSON or an array."""
    assert response.status_code == 200, response.text
    kind = response.headers["content-type"].partition(";")[0]
    assert kind in (NDJSON, JSON)
    if kind == JSON:
        lines: list[dict[str, Any]] = response.json()
        return lines
    return [json.loads(line) for line in response.text.splitlines()]


COMMANDS: list[dict[str, Any]] = [
    {"type": "set", "path": ".config.max", "value": 1, "ref": "a"},
    {"type": "set", "path": ".none.deep", "value": 1, "ref": 2},
    {"type": "increment", "path": ".config.max", "by": 4, "ref": None},
    {"type": "get", "filter": ".config.max"},
    {"type": "delete", "path": ".users[0]"},
]


@pytest.mark.parametrize("kind", [NDJSON, JSON])
async def test_batch_answers_a_line_per_command(api: Api, document: str, kind: str) -> None:
    lines = [json.dumps(one) for one in COMMANDS]
    content = "\n".join([*lines, ""]) if kind == NDJSON else json.dumps(COMMANDS)
    headers = {"Content-Type": kind}
    response = await api.request("POST", "/store/batch", content=content, headers=headers)
    answers = results(response)
    assert [one["type"] for one in answers] == ["ok", "error", "ok", "ok", "ok"]
    assert answers[0]["ref"] == "a"
    assert (answers[1]["ref"], answers[1]["status"]) == (2, 404)
    assert answers[3]["items"] == [{"path": ".config.max", "value": 5}]
    seqs = [sequence(one["id"]) for one in answers if "id" in one and "items" not in one]
    numbers = [seq - sequence(document) for seq in seqs]
    # Where a log is kept (TESTS_DATA=1), what was refused may have a number too.
    assert numbers == [1, 2, 3] or (KEPT and numbers == [1, 3, 4])
    assert await api.get(".users") == [DOCUMENT["users"][1]]


async def test_batch_of_many_small_writes(api: Api, document: str) -> None:
    await api.reset({"n": 0})
    content = '{"type":"increment","path":".n","by":1}\r\n\n' * 3000
    response = await api.request(
        "POST", "/store/batch", content=content, headers={"Content-Type": NDJSON}
    )
    answers = results(response)
    assert len(answers) == 3000
    assert {one["type"] for one in answers} == {"ok"}
    assert await api.get(".n") == 3000


@pytest.mark.parametrize(
    ("kind", "content", "status"),
    [
        (JSON, b"{}", 400),
        (JSON, b"[", 400),
        (JSON, b"7", 400),
        ("text/plain", b"[]", 415),
        ("application/xml", b"", 415),
    ],
)
async def test_batch_refuses(
    api: Api, document: str, kind: str, content: bytes, status: int
) -> None:
    headers = {"Content-Type": kind}
    response = await api.request("POST", "/store/batch", content=content, headers=headers)
    assert response.status_code == status


async def test_a_malformed_line_spoils_only_itself(api: Api, document: str) -> None:
    content = (
        '{"type":"set","path":".a","value":1}\n{"type":\n[]\n{"type":"set","path":".b","value":1}\n'
    )
    response = await api.request(
        "POST", "/store/batch", content=content, headers={"Content-Type": NDJSON}
    )
    if response.status_code == 400:
        # Refused as a whole is as good, if then nothing was done.
        assert await api.get(".") == DOCUMENT
        return
    answers = results(response)
    assert [one["type"] for one in answers] == ["ok", "error", "error", "ok"]
    assert (await api.get(".a"), await api.get(".b")) == (1, 1)

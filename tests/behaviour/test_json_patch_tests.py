"""json-patch-tests (RFC 6902) through the running server: each patch is a PATCH of the root."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .assembler import same
from .clients import Api
from .server import Server

pytestmark = pytest.mark.trio

KIND = "application/json-patch+json"
# The suite has these off; with us they are as its text says.
RIGHT_ALL_THE_SAME = {"Toplevel scalar values OK?", "Whole document"}
# Switched off there as well: its own file has lost the second "op" on the way.
LOST = {"duplicate ops", "A.13 Invalid JSON Patch Document"}


def cases(folder: Path, name: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((folder / name).read_text("utf-8"))
    return [case for case in loaded if "patch" in case]


@pytest.mark.parametrize(("name", "number"), [("tests.json", 78), ("spec_tests.json", 17)])
async def test_patches(server: Server, api: Api, suites: Path, name: str, number: int) -> None:
    known = cases(suites / "json-patch-tests", name)
    assert len(known) == number
    wrong = []
    for case in known:
        comment = case.get("comment")
        assert ("disabled" in case) == (comment in RIGHT_ALL_THE_SAME | LOST), case
        if comment in LOST:
            continue
        await api.reset(case["doc"])
        patch = json.dumps(case["patch"]).encode()
        answer = await api.write("PATCH", ".", patch, KIND)
        now = await api.get(".")
        expected = case["doc"] if "error" in case else case.get("expected", case["doc"])
        is_refused = answer.status_code in (400, 404, 409, 422)
        if is_refused != ("error" in case) or not same(now, expected):
            wrong.append((comment, case, answer.status_code, answer.text, now))
    assert not wrong

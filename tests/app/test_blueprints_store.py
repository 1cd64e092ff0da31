"""`/store` over HTTP: reading, writing, conditions, and the answers in all other cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.app.web import ADMIN, serving

ROOT: dict[str, Any] = {
    "a": 1,
    "users": [{"id": 1, "name": "Ann", "on": True}, {"id": 2, "name": "Ben", "on": False}],
    "odd key": {"é": "ü"},
    "nothing": None,
}
MERGE = {"Content-Type": "application/merge-patch+json"}
PATCH = {"Content-Type": "application/json-patch+json"}


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("path=.", ROOT),
        ("path=.users[-1].name", "Ben"),
        ("path=/users/0/name", "Ann"),
        ('path=["odd key"]', {"é": "ü"}),
        ("path=.nothing", None),
        (
            "path=.users[*].id",
            [{"path": ".users[0].id", "value": 1}, {"path": ".users[1].id", "value": 2}],
        ),
        ("path=.users[on=true].name", [{"path": ".users[0].name", "value": "Ann"}]),
        ("path=.users[id=9]", []),
        ("path=$.users[?@.id==2].name", [{"path": ".users[1].name", "value": "Ben"}]),
        ("filter=.a", [{"path": ".a", "value": 1}]),
        ("filter=.none", []),
        (
            "filter=.a,.users[0].id&filter=.a",
            [{"path": ".a", "value": 1}, {"path": ".users[0].id", "value": 1}],
        ),
        ("filter=$.a", [{"path": ".a", "value": 1}]),
    ],
)
async def test_get(query: str, value: Any) -> None:
    async with serving(ROOT) as web:
        answer = await web.ask("GET", "/store?" + query.replace(" ", "%20"))
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["ETag"] == f'"{web.triode.store.position}"'
        assert answer.json() == value


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/store", 400),
        ("/store?path=.none", 404),
        ("/store?path=.users[7]", 404),
        ("/store?path=.a.b.c", 404),
        ("/store?path=.none[*].x", 404),
        ("/store?path=.a&path=.b", 400),
        ("/store?path=.a&filter=.b", 400),
        ("/store?path=%ff", 400),
    ],
)
async def test_get_refused(target: str, status: int) -> None:
    async with serving(ROOT) as web:
        await web.problem(status, "GET", target)


async def test_a_malformed_path_is_refused_with_its_column() -> None:
    async with serving(ROOT) as web:
        assert (await web.problem(400, "GET", "/store?path=.users[0"))["column"] > 1
        assert (await web.problem(400, "GET", "/store?filter=.a,.users[*"))["column"] > 1
        assert (await web.problem(400, "PUT", "/store?path=.a..", 1))["column"] > 1


async def test_head_is_get_without_content() -> None:
    async with serving(ROOT) as web:
        answer = await web.ask("HEAD", "/store?path=.a")
        assert answer.status == 200
        assert "ETag" in answer.headers
        assert (await web.ask("HEAD", "/store?path=.none")).status == 404


async def test_writes_answer_their_position_and_take_effect() -> None:
    async with serving({}) as web:
        epoch = web.triode.store.epoch
        steps: list[tuple[str, str, Any, dict[str, str], Any]] = [
            ("POST", "/store", {"a": 1}, {}, {"a": 1}),
            ("PUT", "/store?path=.b", [1, 2], {}, {"a": 1, "b": [1, 2]}),
            ("PUT", "/store?path=.b[2]", 3, {}, {"a": 1, "b": [1, 2, 3]}),
            ("PATCH", "/store?path=.a", 2, {}, {"a": 2, "b": [1, 2, 3]}),
            (
                "PATCH",
                "/store?path=.",
                {"a": None, "c": {"d": 1}},
                MERGE,
                {"b": [1, 2, 3], "c": {"d": 1}},
            ),
            (
                "PATCH",
                "/store?path=.c",
                [{"op": "add", "path": "/e", "value": 2}],
                PATCH,
                {"b": [1, 2, 3], "c": {"d": 1, "e": 2}},
            ),
            ("DELETE", "/store?path=.b[0]", None, {}, {"b": [2, 3], "c": {"d": 1, "e": 2}}),
            ("PUT", "/store?path=.x.y[0].z&create=true", 1, {}, None),
            ("POST", "/store?path=.", [1], {}, [1]),
        ]
        for seq, (method, target, body, headers, after) in enumerate(steps, 1):
            answer = await web.json(method, target, body, headers=headers)
            assert answer == {"id": f"{epoch}:{seq}"}
            if after is not None:
                assert web.triode.store.document.root == after


@pytest.mark.parametrize(
    ("method", "target", "body", "headers", "status"),
    [
        ("PUT", "/store", 1, {}, 400),
        ("PATCH", "/store", 1, {}, 400),
        ("DELETE", "/store", None, {}, 400),
        ("PUT", "/store?path=.x.y", 1, {}, 404),
        ("PUT", "/store?path=.users[7]", 1, {}, 404),
        ("DELETE", "/store?path=.none", None, {}, 404),
        ("PUT", "/store?path=.users[*].name", 1, {}, 400),
        ("PUT", "/store?path=.a&create=yes", 1, {}, 400),
        ("PUT", "/store?path=.a&if=nonsense", 1, {}, 400),
        ("PATCH", "/store?path=.a", {}, PATCH, 400),
        ("PATCH", "/store?path=.", [{"op": "test", "path": "/a", "value": 2}], PATCH, 409),
        ("PUT", "/store?path=.a", 1, {"Content-Type": "text/plain"}, 415),
        ("POST", "/store", {}, {"Content-Type": "text/plain"}, 415),
        ("PUT", "/store?path=.a", 1, {"Content-Type": "application/json; charset=latin-1"}, 415),
        ("PUT", "/store?path=.a", 1, MERGE, 415),
        ("PATCH", "/store?path=.a", 1, {"Content-Type": "text/json"}, 415),
        ("TRACE", "/store", None, {}, 405),
    ],
)
async def test_a_refused_write_leaves_no_trace(
    method: str, target: str, body: Any, headers: dict[str, str], status: int
) -> None:
    async with serving(ROOT) as web:
        await web.problem(status, method, target, body, headers=headers)
        assert web.triode.store.document.root == ROOT
        assert web.triode.store.seq == 0


async def test_deleting_the_root_is_refused() -> None:
    async with serving(ROOT) as web:
        assert (await web.ask("DELETE", "/store?path=.")).status in (400, 422)


async def test_a_body_without_a_type_is_refused_and_patch_says_which_it_takes() -> None:
    async with serving(ROOT) as web:
        await web.problem(415, "PUT", "/store?path=.a", raw=b"1")
        answer = await web.ask("PATCH", "/store?path=.a", raw=b"1")
        assert answer.status == 415
        assert "application/merge-patch+json" in answer.headers["Accept-Patch"]


@pytest.mark.parametrize(
    "text", [b"", b"{", b'{"a":1,"a":2}', b"NaN", b'"\xff"', b"1 2", b"\xef\xbb\xbf1", b"[" * 400]
)
async def test_malformed_json_is_refused(text: bytes) -> None:
    async with serving(ROOT) as web:
        headers = {"Content-Type": "application/json; charset=UTF-8"}
        await web.problem(400, "PUT", "/store?path=.a", raw=text, headers=headers)


async def test_if_none_match_asks_about_the_place_not_the_document() -> None:
    async with serving({"a": 1, "b": [1]}) as web:
        tag = (await web.ask("GET", "/store?path=.a")).headers["ETag"]
        await web.json("PUT", "/store?path=.b", [2])
        for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            answer = await web.ask("GET", "/store?path=.a", headers={"If-None-Match": given})
            assert answer.status == 304, given
            assert answer.body == b""
        assert answer.headers["ETag"]
        changed = await web.ask("GET", "/store?path=.b[*]", headers={"If-None-Match": tag})
        assert changed.status == 200
        both = await web.ask("GET", "/store?filter=.a,.b", headers={"If-None-Match": tag})
        assert both.status == 200
        await web.json("PUT", "/store?path=.a", 2)
        assert (
            await web.ask("GET", "/store?path=.a", headers={"If-None-Match": tag})
        ).status == 200


@pytest.mark.parametrize("tag", ['"other:1"', '"junk"', "junk", '"{epoch}:99"', ""])
async def test_positions_that_are_not_ours_never_match(tag: str) -> None:
    async with serving({"a": 1}) as web:
        headers = {"If-None-Match": tag.replace("{epoch}", web.triode.store.epoch)}
        assert (await web.ask("GET", "/store?path=.a", headers=headers)).status == 200
        headers = {"If-Match": headers["If-None-Match"]}
        await web.problem(412, "PUT", "/store?path=.a", 2, headers=headers)


async def test_if_match_and_if_write_only_what_has_not_changed() -> None:
    async with serving({"a": 1, "b": 1}) as web:
        first = (await web.ask("GET", "/store?path=.a")).headers["ETag"]
        await web.json("PUT", "/store?path=.b", 2)
        await web.json("PUT", "/store?path=.a", 2, headers={"If-Match": first})
        await web.problem(412, "PUT", "/store?path=.a", 3, headers={"If-Match": first})
        await web.problem(412, "DELETE", f"/store?path=.a&if={first[1:-1]}")
        newest = f'"{web.triode.store.position}"'
        await web.json("PUT", "/store?path=.a", 4, headers={"If-Match": f"{first}, {newest}"})
        await web.problem(412, "PUT", "/store?path=.a", 5, headers={"If-Match": f"W/{newest}"})


async def test_star_conditions() -> None:
    async with serving({"a": 1, "list": []}) as web:
        await web.json("PUT", "/store?path=.a", 2, headers={"If-Match": "*"})
        await web.problem(412, "PUT", "/store?path=.new", 2, headers={"If-Match": "*"})
        await web.json("PUT", "/store?path=.new", 2, headers={"If-None-Match": "*"})
        await web.problem(412, "PUT", "/store?path=.new", 2, headers={"If-None-Match": "*"})
        await web.json("PUT", "/store?path=.list[0]", 2, headers={"If-None-Match": "*"})
        await web.problem(412, "PUT", "/store?path=.list[-1]", 2, headers={"If-None-Match": "*"})


async def test_grants_bound_what_is_read_and_written() -> None:
    async with serving(ROOT, admin_token=ADMIN, token=ADMIN) as web:
        grant = {"read": [".users"], "write": [".a"], "rooms": []}
        secret = (await web.json("POST", "/tokens", {"grant": grant}))["token"]
        narrow = web.with_token(secret)
        assert await narrow.json("GET", "/store?path=.users[0].name") == "Ann"
        await narrow.json("PUT", "/store?path=.a", 2)
        for target in ("path=.a", "path=.", "path=.*", "filter=.users,.a", "path=$..name"):
            await narrow.problem(403, "GET", f"/store?{target}")
        denied = await narrow.ask("PUT", "/store?path=.users", 1, headers={"If-Match": "*"})
        assert denied.status == 403
        assert 'error="insufficient_scope"' in denied.headers["WWW-Authenticate"]
        await narrow.problem(403, "POST", "/store", {})
        await narrow.problem(403, "PUT", "/store?path=.secret", 1, headers={"If-Match": "*"})


async def test_the_cases_of_the_predecessors(cases: Path) -> None:
    # DELETE exists here, the root may be any JSON value, and it is named `.`, never by nothing.
    superseded = {"gosse.http.store.015", "gosse.http.store.007"}
    for line in (cases / "http.store.jsonl").read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        given, expect = case["given"], case["expect"]
        if case["id"] in superseded:
            continue
        request = given["request"]
        raw = request.get("body", "").encode() or None
        if "body_bytes" in request:
            raw = b'"' + b"x" * (request["body_bytes"] - 2) + b'"'
        async with serving(given.get("store", {})) as web:
            answer = await web.ask(
                request["method"],
                request["path"],
                request.get("json"),
                headers=request.get("headers"),
                raw=raw,
            )
            assert answer.status == expect["status"], case["id"]
            then = expect.get("then_get")
            if then is not None:
                assert await web.json("GET", f"/store?path={then['path'] or '.'}") == then["value"]

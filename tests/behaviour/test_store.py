"""`/store` over HTTP: the verbs, content types, conditions, batches, and every way in which they say no."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from .assembler import same
from .clients import Api, check_problem, exchange, position, sequence
from .server import Server

pytestmark = pytest.mark.trio

JSON = "application/json"
MERGE = "application/merge-patch+json"
PATCH = "application/json-patch+json"
NDJSON = "application/x-ndjson"

DOCUMENT: dict[str, Any] = {
    "users": [{"id": 1, "name": "Ann"}, {"id": 2, "name": "Bob"}],
    "config": {"max": 100, "html": "<b>&amp;</b>"},
    "null": None,
}


@pytest.fixture
async def document(api: Api) -> str:
    return await api.reset(DOCUMENT)


async def fetch(api: Api, **params: Any) -> httpx.Response:
    return await api.request("GET", "/store", params=params)


# reading


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (".", DOCUMENT),
        ("", DOCUMENT),
        (".users[0].name", "Ann"),
        (".users[-1]", {"id": 2, "name": "Bob"}),
        ('.config["max"]', 100),
        ('["config"].max', 100),
        ("/users/1/id", 2),
        (".null", None),
    ],
)
async def test_a_path_reads_the_bare_value(api: Api, document: str, path: str, value: Any) -> None:
    response = await fetch(api, path=path)
    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] == JSON
    assert same(response.json(), value)


async def test_reading_does_not_escape(api: Api, document: str) -> None:
    await api.put(".config.html", "<é>")
    assert (await fetch(api, path=".config.html")).content == '"<é>"'.encode()


@pytest.mark.parametrize("path", [".none", ".users[2]", ".users[-3]", ".config.max.deep", ".a.b"])
async def test_an_absent_place_is_404(api: Api, document: str, path: str) -> None:
    assert (await fetch(api, path=path)).status_code == 404


async def test_a_path_with_wildcards_reads_items(api: Api, document: str) -> None:
    expected = [
        {"path": ".users[0].name", "value": "Ann"},
        {"path": ".users[1].name", "value": "Bob"},
    ]
    assert (await fetch(api, path=".users[*].name")).json() == expected
    assert (await fetch(api, filter=".users[*].name")).json() == expected
    assert (await fetch(api, filter=".users[1].name")).json() == expected[1:]
    assert (await fetch(api, filter=".none[*]")).json() == []


async def test_several_filters_of_one_read(api: Api, document: str) -> None:
    paths = [".users[0].name", ".config.max"]
    for filters in (paths, ",".join(paths)):
        assert [item["path"] for item in (await fetch(api, filter=filters)).json()] == paths


async def test_without_a_path_reading_says_what_to_do(api: Api, document: str) -> None:
    response = await api.request("GET", "/store")
    assert response.status_code == 400
    assert "path" in check_problem(response)["detail"]


@pytest.mark.parametrize("path", ["users", ".users[", ".a..", ".users[0", '.["x', ".users]"])
async def test_a_malformed_path_is_400_with_its_column(api: Api, document: str, path: str) -> None:
    for response in (
        await fetch(api, path=path),
        await api.write("PUT", path, b"1", JSON),
        await api.request("DELETE", "/store", params={"path": path}),
    ):
        assert response.status_code == 400
        assert 1 <= check_problem(response)["column"] <= len(path) + 1


@pytest.mark.parametrize("path", [".users[*]", ".config.*", "..id", ".users[id=1]", "$.users[*]"])
async def test_a_write_wants_exactly_one_place(api: Api, document: str, path: str) -> None:
    assert (await api.write("PUT", path, b"1", JSON)).status_code == 400
    assert (await api.request("DELETE", "/store", params={"path": path})).status_code == 400
    assert await api.get(".") == DOCUMENT


async def test_head_is_get_without_its_body(api: Api, document: str) -> None:
    response = await api.request("HEAD", "/store", params={"path": ".users"})
    assert response.status_code == 200
    assert response.content == b""
    assert response.headers["etag"] == f'"{document}"'


# conditions of reading and writing


async def test_etag_and_if_none_match(api: Api, document: str) -> None:
    response = await fetch(api, path=".config.max")
    etag = response.headers["etag"]
    assert etag == f'"{document}"'
    for value in (etag, f"W/{etag}", f'"nosuch:1", {etag}', "*"):
        again = await api.request(
            "GET", "/store", params={"path": ".config.max"}, headers={"If-None-Match": value}
        )
        assert again.status_code == 304, value
        assert again.content == b""
        assert "etag" in again.headers
    await api.put(".config.max", 101)
    changed = await api.request(
        "GET", "/store", params={"path": ".config.max"}, headers={"If-None-Match": etag}
    )
    assert changed.status_code == 200
    assert changed.json() == 101
    assert changed.headers["etag"] != etag


async def test_if_none_match_of_a_filter(api: Api, document: str) -> None:
    params = {"filter": ".users[*].name"}
    etag = (await api.request("GET", "/store", params=params)).headers["etag"]
    await api.put(".users[0].name", "Anna")
    fresh = await api.request("GET", "/store", params=params, headers={"If-None-Match": etag})
    assert fresh.status_code == 200
    etag = fresh.headers["etag"]
    same_again = await api.request("GET", "/store", params=params, headers={"If-None-Match": etag})
    assert same_again.status_code == 304


async def test_if_match_guards_the_values_place(api: Api, document: str) -> None:
    async def put(path: str, condition: str) -> int:
        headers = {"If-Match": condition}
        return (await api.write("PUT", path, b"7", JSON, headers=headers)).status_code

    etag = f'"{document}"'
    assert await put(".config.max", etag) == 200
    assert await put(".config.max", etag) == 412, "changed since"
    assert await put(".config", etag) == 412, "changed below since"
    assert await put(".users[0].id", etag) == 200, "another place"
    assert await put(".users[1].id", '"nosuch:3"') == 412
    assert await put(".users[1].id", "*") == 200
    assert await put(".none", "*") == 412, "there is nothing to match"
    assert await api.get(".config.max") == 7


async def test_if_none_match_star_only_creates(api: Api, document: str) -> None:
    headers = {"If-None-Match": "*"}
    assert (await api.write("PUT", ".new", b"1", JSON, headers=headers)).status_code == 200
    assert (await api.write("PUT", ".new", b"2", JSON, headers=headers)).status_code == 412
    assert await api.get(".new") == 1


async def test_a_condition_on_delete_and_patch(api: Api, document: str) -> None:
    await api.put(".config.max", 1)
    headers = {"If-Match": f'"{document}"'}
    gone = await api.request("DELETE", "/store", params={"path": ".config"}, headers=headers)
    assert gone.status_code == 412
    for kind, body in ((MERGE, b"{}"), (PATCH, b"[]"), (JSON, b"1")):
        assert (await api.write("PATCH", ".config", body, kind, headers=headers)).status_code == 412


# writing


async def test_post_sets_the_whole_document(api: Api, document: str) -> None:
    for value in ({"a": 1}, [1, [2]], "text", 7, None, True, {}):
        await api.reset(value)
        assert same(await api.get("."), value)


async def test_positions_count_changes(api: Api, document: str) -> None:
    one = await api.put(".config.max", 1)
    two = await api.delete(".config.max")
    assert [sequence(one), sequence(two)] == [sequence(document) + 1, sequence(document) + 2]


async def test_put_sets_a_value(api: Api, document: str) -> None:
    await api.put(".users[0].name", {"first": "A"})
    await api.put(".config.new", [])
    await api.put(".users[2]", "appended")
    await api.put(".users[-1]", "last")
    expected = [{"id": 1, "name": {"first": "A"}}, DOCUMENT["users"][1], "last"]
    assert await api.get(".users") == expected
    assert await api.get(".config.new") == []


@pytest.mark.parametrize(
    "path",
    [".none.deep", ".users[9]", ".users[3]", ".users[0].name.deep", ".users.name", ".users[-4]"],
)
async def test_a_missing_parent_is_404_and_leaves_no_trace(
    api: Api, document: str, path: str
) -> None:
    assert (await api.write("PUT", path, b"1", JSON)).status_code == 404
    assert await api.get(".") == DOCUMENT


async def test_create_makes_the_parents(api: Api, document: str) -> None:
    await api.put(".p.q.r", 1, create="true")
    assert await api.get(".p") == {"q": {"r": 1}}
    assert (await api.write("PUT", ".x.y", b"1", JSON, create="false")).status_code == 404
    assert (await api.write("PUT", ".x.y", b"1", JSON, create="perhaps")).status_code == 400


async def test_delete_removes(api: Api, document: str) -> None:
    await api.delete(".users[0]")
    await api.delete('["config"].max')
    assert await api.get(".users") == [DOCUMENT["users"][1]]
    assert await api.get(".config") == {"html": DOCUMENT["config"]["html"]}
    for path in (".users[5]", ".none", ".config.max"):
        gone = await api.request("DELETE", "/store", params={"path": path})
        assert gone.status_code == 404


async def test_patch_with_json_sets(api: Api, document: str) -> None:
    position(await api.write("PATCH", ".config.max", b"5", JSON))
    position(await api.write("PATCH", ".config", b'{"a":1}', JSON))
    assert await api.get(".config") == {"a": 1}


# RFC 7396 appendix A
MERGES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


async def test_merge_patch_to_the_letter(api: Api) -> None:
    for target, patch, result in MERGES:
        await api.reset({"at": target, "beside": 1})
        await api.merge(".at", patch)
        assert same(await api.get("."), {"at": result, "beside": 1}), (target, patch)
        await api.reset(target)
        await api.merge(".", patch)
        assert same(await api.get("."), result), (target, patch)


# RFC 6902 appendix A, and more: document, patch, result (None: refused and nothing changed)
PATCHES: list[tuple[Any, list[dict[str, Any]], Any]] = [
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "q"}], {"foo": "bar", "baz": "q"}),
    ({"foo": [1, 3]}, [{"op": "add", "path": "/foo/1", "value": 2}], {"foo": [1, 2, 3]}),
    ({"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}], {"b": 2}),
    ({"a": [1, 2, 3]}, [{"op": "remove", "path": "/a/1"}], {"a": [1, 3]}),
    ({"a": 1}, [{"op": "replace", "path": "/a", "value": 2}], {"a": 2}),
    ({"a": {"x": 1}, "b": {}}, [{"op": "move", "from": "/a/x", "path": "/b/y"}], {"a": {}, "b": {"y": 1}}),
    ({"a": [1, 2, 3]}, [{"op": "move", "from": "/a/0", "path": "/a/2"}], {"a": [2, 3, 1]}),
    ({"a": 1}, [{"op": "test", "path": "/a", "value": 1.0}, {"op": "copy", "from": "/a", "path": "/b"}], {"a": 1, "b": 1}),
    ({"a": {}}, [{"op": "add", "path": "/a/b/c", "value": 1}], None),
    ({"a": 1}, [{"op": "test", "path": "/a", "value": "1"}], None),
    ({"a": 1}, [{"op": "test", "path": "/a", "value": True}], None),
    ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": [2]}], {"a": [1, [2]]}),
    ({"a/b": 1, "m~n": 2}, [{"op": "remove", "path": "/a~1b"}, {"op": "remove", "path": "/m~0n"}], {}),
    ({"": 1}, [{"op": "replace", "path": "/", "value": 2}], {"": 2}),
    ({"a": 1}, [{"op": "replace", "path": "", "value": [1]}], [1]),
    ({"a": 1}, [{"op": "replace", "path": "/b", "value": 1}], None),
    ({"a": 1}, [{"op": "remove", "path": "/b"}], None),
    ({"a": [1]}, [{"op": "add", "path": "/a/3", "value": 1}], None),
    ({"a": [1]}, [{"op": "add", "path": "/a/01", "value": 1}], None),
    ({"a": [1]}, [{"op": "add", "path": "/a/-1", "value": 1}], None),
    ({"a": {"b": 1}}, [{"op": "move", "from": "/a", "path": "/a/b"}], None),
    ({"a": 1}, [{"op": "add", "path": "a", "value": 1}], None),
    ({"a": 1}, [{"op": "add", "path": "/b"}], None),
    ({"a": 1}, [{"op": "spam", "path": "/b"}], None),
    ({"a": 1}, [{"op": "add", "path": "/b", "value": 1}, {"op": "test", "path": "/a", "value": 2}], None),
    ({"a": 1}, [], {"a": 1}),
]  # fmt: skip


async def test_json_patch_to_the_letter(api: Api) -> None:
    for document, patch, result in PATCHES:
        for path, whole, wanted in (
            (".", document, result),
            (".at", {"at": document, "k": 1}, {"at": result, "k": 1}),
        ):
            await api.reset(whole)
            response = await api.write("PATCH", path, json.dumps(patch).encode(), PATCH)
            if result is None:
                assert 400 <= response.status_code < 500, (document, patch)
                wanted = whole
            else:
                position(response)
            assert same(await api.get("."), wanted), (document, patch)


async def test_a_failed_test_of_json_patch_is_409(api: Api, document: str) -> None:
    body = b'[{"op":"test","path":"/config/max","value":1}]'
    assert (await api.write("PATCH", ".", body, PATCH)).status_code == 409


async def test_a_copy_is_a_copy(api: Api) -> None:
    await api.reset({"a": {"x": 1}})
    await api.patch(".", {"op": "copy", "from": "/a", "path": "/b"})
    await api.put(".b.x", 2)
    assert await api.get(".") == {"a": {"x": 1}, "b": {"x": 2}}


# batches


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
    seqs = [sequence(one["id"]) for one in answers if "id" in one]
    assert seqs == [sequence(document) + 1, sequence(document) + 2, sequence(document) + 3]
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


# refusals of form


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/jsonx", "json"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_other_content_types_are_415(api: Api, document: str, method: str, kind: str) -> None:
    response = await api.write(method, ".config", b"{}", kind)
    assert response.status_code == 415
    if method == "PATCH":
        offered = response.headers["accept-patch"]
        assert all(one in offered for one in (JSON, MERGE, PATCH))
    assert await api.get(".") == DOCUMENT


async def test_no_content_type_is_415(api: Api, document: str) -> None:
    response = await api.request("PUT", "/store", params={"path": ".a"}, content=b"1")
    assert response.status_code == 415


async def test_a_charset_of_json_is_fine(api: Api, document: str) -> None:
    position(await api.write("PUT", ".a", b"1", "application/json; charset=utf-8"))
    position(await api.write("PUT", ".a", b"1", "Application/JSON;charset=UTF-8"))


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("POST", "/store?path=."),
        ("TRACE", "/store?path=."),
        ("PUT", "/health"),
        ("DELETE", "/stats"),
        ("GET", "/publish"),
        ("GET", "/store/batch"),
        ("POST", "/metrics"),
    ],
)
async def test_other_methods_are_405_and_say_which(api: Api, method: str, url: str) -> None:
    if (method, url) == ("POST", "/store?path=."):
        method = "LOCK"
    response = await api.request(method, url)
    assert response.status_code == 405
    assert method not in response.headers["allow"]
    assert len(response.headers["allow"]) >= 3


@pytest.mark.parametrize("url", ["/none", "/store/none", "/events/none", "/%2e%2e/etc", "/STORE"])
async def test_other_routes_are_404(api: Api, url: str) -> None:
    assert (await api.request("GET", url)).status_code == 404


BAD_BODIES = [
    b"",
    b"{",
    b'{"a":1,}',
    b'{"a":1}{',
    b"nul",
    b"'a'",
    b"NaN",
    b"[Infinity]",
    b"-Infinity",
    b"1e400",
    b"01",
    b"+1",
    b".5",
    b'{"a":1,"a":1}',
    b'{"x":[{"b":1,"c":2,"b":3}]}',
    b'"\\ud800"',
    b'"\\x"',
    b'"\x01"',
    b'"\xff"',
    b'"\xc0\xaf"',
    b'"\xed\xa0\x80"',
    b"\xef\xbb\xbf1",
    b"\x00",
    b"[" * 257 + b"]" * 257,
    b"[" * 100_000,
    b'{"a":' * 300 + b"1" + b"}" * 300,
]


@pytest.mark.parametrize("kind", [JSON, MERGE, PATCH])
async def test_malformed_json_is_400_and_changes_nothing(
    api: Api, document: str, kind: str
) -> None:
    for body in BAD_BODIES:
        response = await api.write("PATCH", ".config", body, kind)
        assert response.status_code == 400, body[:40]
    assert await api.get(".") == DOCUMENT


async def test_deep_is_fine_up_to_256(api: Api, document: str) -> None:
    position(await api.write("PUT", ".deep", b"[" * 254 + b"]" * 254, JSON))


async def test_depth_of_the_document_is_bounded_too(api: Api, document: str) -> None:
    """Two writes within the bound must not make a document beyond what can be read back."""
    await api.reset({"a": 0})
    body = b'{"a":' * 250 + b"0" + b"}" * 250
    position(await api.write("PUT", ".a", body, JSON))
    path = ".a" * 251
    response = await api.write("PUT", path, body, JSON)
    assert response.status_code in (200, 400, 422)
    assert (await fetch(api, path=".")).status_code == 200


# sizes


async def test_a_body_of_20_mib_is_taken(api: Api, document: str) -> None:
    body = b'"' + b"x" * (20 * 2**20 - 2) + b'"'
    position(await api.write("PUT", ".big", body, JSON))
    assert len((await fetch(api, path=".big")).content) == 20 * 2**20
    await api.reset(DOCUMENT)


async def test_a_body_over_20_mib_is_413(server: Server, api: Api, document: str) -> None:
    size = 20 * 2**20 + 1
    head = (
        "PUT /store?path=.big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: {JSON}\r\nContent-Length: {size}\r\n\r\n"
    )
    answer = await exchange(server, head.encode() + b'"' + b"x" * (size - 2) + b'"')
    assert answer.startswith(b"HTTP/1.1 413"), answer[:200]
    assert b"application/problem+json" in answer
    problem = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert problem["status"] == 413
    assert problem["limit"] == 20 * 2**20
    assert await api.get(".") == DOCUMENT


async def test_a_body_of_unknown_length_over_20_mib_is_413(
    server: Server, api: Api, document: str
) -> None:
    head = (
        "PUT /store?path=.big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"100000\r\n" + b"1" * 2**20 + b"\r\n"
    answer = await exchange(server, head.encode() + chunk * 21 + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413"), answer[:200]
    assert await api.get(".") == DOCUMENT

"""`/store` over HTTP: the verbs, what they read and write, and their conditions."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from .assembler import same
from .clients import Api, check_problem, position, sequence
from .small_document import DOCUMENT

pytestmark = pytest.mark.trio

JSON = "application/json"
MERGE = "application/merge-patch+json"
PATCH = "application/json-patch+json"


async def fetch(api: Api, **params: Any) -> httpx.Response:
    return await api.request("GET", "/store", params=params)


# reading


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (".", DOCUMENT),
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


async def test_a_failed_write_takes_no_position(api: Api, document: str) -> None:
    assert (await api.write("PUT", ".none.deep", b"1", JSON)).status_code == 404
    assert (await api.write("PATCH", ".", b"{", MERGE)).status_code == 400
    assert sequence(await api.put(".config.max", 1)) == sequence(document) + 1


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

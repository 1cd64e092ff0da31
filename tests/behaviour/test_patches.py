"""Merge patch (RFC 7396) and JSON Patch (RFC 6902), to the letter."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.merges import MERGES

from .assembler import same
from .clients import Api, position

pytestmark = pytest.mark.trio

PATCH = "application/json-patch+json"


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
    (
        {"a": {"x": 1}, "b": {}},
        [{"op": "move", "from": "/a/x", "path": "/b/y"}],
        {"a": {}, "b": {"y": 1}},
    ),
    ({"a": [1, 2, 3]}, [{"op": "move", "from": "/a/0", "path": "/a/2"}], {"a": [2, 3, 1]}),
    (
        {"a": 1},
        [{"op": "test", "path": "/a", "value": 1.0}, {"op": "copy", "from": "/a", "path": "/b"}],
        {"a": 1, "b": 1},
    ),
    ({"a": {}}, [{"op": "add", "path": "/a/b/c", "value": 1}], None),
    ({"a": 1}, [{"op": "test", "path": "/a", "value": "1"}], None),
    ({"a": 1}, [{"op": "test", "path": "/a", "value": True}], None),
    ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": [2]}], {"a": [1, [2]]}),
    (
        {"a/b": 1, "m~n": 2},
        [{"op": "remove", "path": "/a~1b"}, {"op": "remove", "path": "/m~0n"}],
        {},
    ),
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
    (
        {"a": 1},
        [{"op": "add", "path": "/b", "value": 1}, {"op": "test", "path": "/a", "value": 2}],
        None,
    ),
    ({"a": 1}, [], {"a": 1}),
]


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

"""The OpenAPI document: it describes every route there is and nothing else; its schemas hold."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.app.web import serving
from triode.app.blueprints.gated import NOT_ALLOWED
from triode.app.blueprints.openapi.document import describe
from triode.app.config.settings import Settings
from triode.app.wire.known_names import QUERY, SUBSCRIPTION
from triode.app.wire.refusal import Refusal

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


def described() -> set[tuple[str, str]]:
    return {
        (path, verb.upper()) for path, verbs in describe("/")["paths"].items() for verb in verbs
    }


async def registered() -> set[tuple[str, str]]:
    async with serving() as web:
        return {
            (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method)
            for rule in web.app.url_map.iter_rules()
            if NOT_ALLOWED not in rule.endpoint and rule.endpoint != "static"
            if not rule.rule.startswith("/debug/")  # 404 without --debug, and not described
            for method in (rule.methods or set()) & METHODS
        }


async def test_routes_and_description_are_the_same() -> None:
    here, there = described(), await registered()
    assert here == there


def test_the_names_that_are_known_are_the_ones_described() -> None:
    known = {
        (path, method): set(names)
        for path, methods in QUERY.items()
        for method, names in methods.items()
        if not path.startswith("/debug/")  # 404 without --debug, and not described
    }
    described = {
        (path, verb.upper()): {p["name"] for p in operation["parameters"] if p["in"] == "query"}
        for path, verbs in describe("/")["paths"].items()
        for verb, operation in verbs.items()
        if any(p["in"] == "query" for p in operation.get("parameters", []))
    }
    # Tags are described as one object; a WebSocket refuses these in its own words.
    named = {key: {name.removesuffix(".") for name in names} for key, names in known.items()}
    named["/ws", "GET"] -= {"lease", "heartbeat"}
    assert named == described
    body = describe("/")["components"]["schemas"]["Subscription"]["properties"]
    assert set(SUBSCRIPTION) == set(body)


def test_path_parameters_are_described() -> None:
    for path, verbs in describe("/")["paths"].items():
        names = set(re.findall(r"\{(\w+)\}", path))
        for operation in verbs.values():
            given = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert given == names, path


def test_all_references_lead_somewhere_and_all_schemas_are_used() -> None:
    document = describe("/")
    schemas = document["components"]["schemas"]
    found = set(re.findall(r"'#/components/schemas/(\w+)'", repr(document)))
    assert found <= set(schemas)
    assert set(schemas) - found == {"Change"}  # goes over the streams, which have no schema


def test_it_is_valid_openapi() -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(describe("/"))
    validator.validate(describe("/triode", Settings(admin_token="secret-of-the-tests")))


def test_security_says_what_this_server_asks_for() -> None:
    assert describe("/", Settings())["security"] == [{}]
    assert {} not in describe("/", Settings(admin_token="secret-of-the-tests"))["security"]


def conforms(value: Any, schema: dict[str, Any]) -> None:
    """Just enough of JSON Schema for flat objects: what is required, what is unknown."""
    members = schema["properties"]
    assert set(schema.get("required", ())) <= set(value)
    if schema.get("additionalProperties") is not True:
        assert set(value) <= set(members)


async def test_answers_are_as_described() -> None:
    schemas = describe("/")["components"]["schemas"]
    async with serving({"a": [1]}) as web:
        conforms(await web.json("PUT", "/store?path=.b", 1), schemas["Written"])
        conforms((await web.json("GET", "/store?path=.a[*]"))[0], schemas["Item"])
        conforms(await web.json("GET", "/health"), schemas["Health"])
        conforms(await web.json("GET", "/stats?clients=all"), schemas["Stats"])
        conforms(await web.json("GET", "/connections"), schemas["Clients"])
        conforms(await web.json("POST", "/connections/send", {"text": ""}), schemas["Reached"])
        issued = await web.json("POST", "/tokens", {})
        conforms(issued, schemas["IssuedToken"])
        conforms((await web.json("GET", "/tokens"))["tokens"][0], schemas["Token"])
        conforms(await web.json("POST", "/publish", {"room": "r"}), schemas["Reached"])
    conforms(Refusal(404, "nothing").body(), schemas["Problem"])


async def test_the_server_url_is_where_the_routes_begin() -> None:
    async with serving() as web:
        assert (await web.json("GET", "/openapi.json"))["servers"] == [{"url": "/"}]

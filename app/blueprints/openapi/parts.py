"""The pieces of an OpenAPI document that repeat: answers, failures, parameters, routes."""

from __future__ import annotations

from typing import Any, Final

from triode.app.blueprints.openapi.schemas import Schema, ref
from triode.app.blueprints.request_body import JSON

PROBLEM: Final = "application/problem+json"
OPEN: Final[list[Schema]] = [{}]  # `security` of a route that needs no token

WHAT_FAILS: Final = {
    304: "Not modified since the position in If-None-Match",
    400: "Malformed; `column`, `offset` or `detail` say where",
    401: "A token is needed, or the one shown does not hold",
    403: "The token does not grant this",
    404: "There is nothing there, or a parent is missing",
    405: "This path has other methods, see Allow",
    408: "The body came too slowly",
    409: "In conflict with what is there",
    412: "The place has changed since",
    413: "The body is over `limit` bytes",
    415: "Wrong Content-Type; the answer lists the right ones",
    422: "Understood, and not possible",
    429: "Too many requests, see Retry-After",
    503: "Not now, see Retry-After",
    507: "There is no room for it",
}


def content(schema: Schema, *kinds: str) -> Schema:
    """The same schema under one or more media types."""
    return {kind: {"schema": schema} for kind in kinds or (JSON,)}


def ok(about: str, schema: Schema | None = None, *kinds: str, status: int = 200) -> Schema:
    """A good answer."""
    answer: Schema = {"description": about}
    if schema is not None:
        answer["content"] = content(schema, *kinds)
    return {str(status): answer}


def route(
    tag: str,
    summary: str,
    answers: Schema,
    fails: tuple[int, ...] = (),
    *,
    parameters: list[Schema] | None = None,
    body: Schema | None = None,
    **more: Any,
) -> Schema:
    """One operation."""
    operation: Schema = {"tags": [tag], "summary": summary, "responses": dict(answers)}
    for status in fails:
        problem = {} if status == 304 else {"content": content(ref("Problem"), PROBLEM)}
        operation["responses"][str(status)] = {"description": WHAT_FAILS[status], **problem}
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    return operation | more


def query(name: str, schema: Schema, *, required: bool = False, many: bool = False) -> Schema:
    """A parameter of the query; `many` may be given several times."""
    about = schema.get("description", "")
    if many:
        schema = {"type": "array", "items": schema}
    return {
        "name": name,
        "in": "query",
        "description": about,
        "required": required,
        "schema": schema,
    }


def field(name: str, about: str) -> Schema:
    """A request header field."""
    return {"name": name, "in": "header", "description": about, "schema": {"type": "string"}}


def in_path(name: str, about: str) -> Schema:
    """A parameter in the path."""
    schema = {"type": "string"}
    return {"name": name, "in": "path", "description": about, "required": True, "schema": schema}

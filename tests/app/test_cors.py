"""CORS: nothing by default, exact origins echoed, `*` never with credentials."""

from __future__ import annotations

import pytest

from triode.app.access.origin import cors_headers, preflight_headers
from triode.app.config.settings import Settings

A, B, C = "https://a.example", "https://b.example", "https://c.example"


def test_by_default_there_are_no_fields() -> None:
    assert cors_headers(Settings(), A) == {}
    assert preflight_headers(Settings(), A) == {}


def test_a_listed_origin_is_echoed_alone() -> None:
    fields = cors_headers(Settings(cors_origins=(A, B)), B)
    assert fields["Access-Control-Allow-Origin"] == B
    assert fields["Access-Control-Allow-Credentials"] == "true"
    assert fields["Vary"] == "Origin"


@pytest.mark.parametrize("origin", [C, "null", None, "https://a.example.evil", "*"])
def test_another_origin_gets_nothing_but_vary(origin: str | None) -> None:
    settings = Settings(cors_origins=(A, B))
    assert cors_headers(settings, origin) == {"Vary": "Origin"}
    assert preflight_headers(settings, origin) == {"Vary": "Origin"}


@pytest.mark.parametrize("origin", [C, None, "*", "null"])
def test_star_never_goes_with_credentials(origin: str | None) -> None:
    for settings in (Settings(cors_origins=("*",)), Settings(cors_origins=("*", A))):
        fields = cors_headers(settings, origin)
        assert fields["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in fields


def test_beside_a_star_the_answer_varies_only_where_there_are_exact_origins() -> None:
    assert "Vary" not in cors_headers(Settings(cors_origins=("*",)), C)
    assert cors_headers(Settings(cors_origins=("*", A)), C)["Vary"] == "Origin"
    assert cors_headers(Settings(cors_origins=("*", A)), A)["Access-Control-Allow-Origin"] == A


def test_a_preflight_allows_what_the_routes_read() -> None:
    fields = preflight_headers(Settings(cors_origins=(A,)), A)
    allowed = fields["Access-Control-Allow-Headers"].lower()
    for name in ("authorization", "content-type", "x-api-key", "if-match", "last-event-id"):
        assert name in allowed
    assert "PATCH" in fields["Access-Control-Allow-Methods"]
    assert "Access-Control-Expose-Headers" not in fields

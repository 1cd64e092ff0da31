from __future__ import annotations

import inspect
import json
import re

import pytest

from triode.limits import token
from triode.limits.grant import FULL, NONE, Grant
from triode.limits.token import Tokens, TokensFull

NOW = 1_763_692_800.0


def test_secret_format() -> None:
    tokens = Tokens()
    secrets = {tokens.issue(NONE, now=NOW).secret for _ in range(200)}
    assert len(secrets) == 200
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}=", secret) for secret in secrets)


def test_issue_validate_revoke() -> None:
    tokens = Tokens()
    issued = tokens.issue(FULL, now=NOW, label="ci")
    assert issued.info.id.startswith("t_")
    assert (issued.info.label, issued.info.created_at) == ("ci", NOW)
    assert issued.info.expires_at == NOW + 86_400
    assert tokens.validate(issued.secret, NOW) == issued.info
    assert tokens.get(issued.info.id, NOW) == issued.info
    assert tokens.revoke(issued.info.id) is True
    assert tokens.revoke(issued.info.id) is False
    assert tokens.validate(issued.secret, NOW) is None
    assert tokens.get(issued.info.id, NOW) is None
    assert len(tokens) == 0


def test_expiry_is_removed_on_the_failing_check() -> None:
    tokens = Tokens()
    issued = tokens.issue(NONE, now=0, ttl_s=0.5)
    assert tokens.validate(issued.secret, 0.499) is not None
    assert len(tokens) == 1
    assert tokens.page(0.5, 9).infos == []
    assert tokens.get(issued.info.id, 0.5) is None
    assert tokens.validate(issued.secret, 0.5) is None
    assert len(tokens) == 0
    assert tokens.validate(issued.secret, 0.1) is None


def test_without_end() -> None:
    tokens = Tokens()
    issued = tokens.issue(NONE, now=0, ttl_s=None)
    assert issued.info.expires_at is None
    assert tokens.validate(issued.secret, 1e12) is not None
    assert tokens.sweep(1e12) == []


def test_list_and_sweep() -> None:
    tokens = Tokens()
    short, long = (tokens.issue(NONE, now=ttl / 100, ttl_s=ttl).info for ttl in (1, 10))
    assert tokens.page(0, 9).infos == [short, long]
    assert tokens.page(5, 9).infos == [long]
    assert tokens.sweep(5) == [short.id]
    assert tokens.sweep(5) == []
    assert len(tokens) == 1


@pytest.mark.parametrize(
    "presented",
    [
        "", " ", "Abc123def456", "abc123def45", "abc123def4567", "abc123def456 ", "абв", "🔑" * 50,
        "\x00", "abc123def456\n", "\ud800", "a" * 10_000, "abc123def456\u200b",
    ],
)  # fmt: skip
def test_no_near_match(presented: str) -> None:
    tokens = Tokens()
    tokens.adopt("abc123def456", FULL, now=NOW)
    assert tokens.validate(presented, NOW) is None
    assert tokens.validate("abc123def456", NOW) is not None


def test_adopt() -> None:
    tokens = Tokens()
    first = tokens.adopt("geheimnis-ü-🔑", FULL, now=NOW, label="admin")
    assert first.expires_at is None
    assert tokens.validate("geheimnis-ü-🔑", NOW) == first
    second = tokens.adopt("geheimnis-ü-🔑", NONE, now=NOW, ttl_s=5)
    assert len(tokens) == 1
    assert tokens.get(first.id, NOW) is None
    assert tokens.validate("geheimnis-ü-🔑", NOW) == second


@pytest.mark.parametrize("secret", ["", " ", " x", "x\n", "a" * 2_000, "\ud800"])
def test_adopt_refuses_what_cannot_be_presented(secret: str) -> None:
    with pytest.raises(ValueError, match="a token must be"):
        Tokens().adopt(secret, FULL, now=NOW)


def test_bound_and_room_made_by_the_ended() -> None:
    tokens = Tokens(max_tokens=2)
    tokens.issue(NONE, now=0, ttl_s=1)
    kept = tokens.adopt("kept", NONE, now=0)
    with pytest.raises(TokensFull, match="2 tokens") as caught:
        tokens.issue(NONE, now=0.5)
    assert caught.value.limit == 2
    assert tokens.adopt("kept", NONE, now=0.5).id != kept.id  # replacing needs no room
    tokens.issue(NONE, now=1)
    assert len(tokens) == 2


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf")])
def test_bad_ttl(ttl_s: float) -> None:
    with pytest.raises(ValueError, match="ttl_s"):
        Tokens().issue(NONE, now=0, ttl_s=ttl_s)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="max_tokens"):
        Tokens(0)
    with pytest.raises(ValueError, match="label"):
        Tokens().issue(NONE, now=0, label="x" * 201)


def test_secrets_are_nowhere_to_be_seen() -> None:
    tokens = Tokens()
    issued = tokens.issue(NONE, now=NOW)
    tokens.adopt("hunter2-hunter2", NONE, now=NOW)
    shown = [
        repr(issued), repr(tokens), repr(issued.info), json.dumps(issued.info.to_json()),
        repr(tokens._by_digest), repr(tokens._by_id), repr(tokens.make(NONE, now=NOW)[1]),
    ]  # fmt: skip
    for text in shown:
        assert issued.secret not in text
        assert "hunter2" not in text
    assert "sha256" not in json.dumps(issued.info.to_json())


def test_comparison_is_the_constant_time_one() -> None:
    assert "compare_digest" in inspect.getsource(Tokens.validate)


def test_a_token_made_of_what_was_kept_holds() -> None:
    tokens = Tokens()
    grant = Grant(read=(".a",), rooms=(), admin=False)
    made = [tokens.make(grant, now=NOW, label="\u00fc"), tokens.make(FULL, now=NOW, ttl_s=None)]
    assert len(tokens) == 0
    again = Tokens()
    for issued, row in made:
        assert issued.secret not in json.dumps(row)
        assert again.validate(issued.secret, NOW) is None
        again.take(json.loads(json.dumps(row)))
        assert again.validate(issued.secret, NOW) == issued.info
    infos = [issued.info for issued, _ in made]
    assert again.page(NOW, 9).infos == sorted(infos, key=lambda info: info.id)
    again.take(made[0][1])
    assert len(again) == 2


def _row(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "id": "t_a", "label": "", "sha256": "0" * 64, "grant": {}, "created_at": 0, "expires_at": 1,
    }  # fmt: skip
    merged = row | changes
    return {name: value for name, value in merged.items() if value != "absent"}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"id": "x"}, "id"),
        ({"label": 1}, "label"),
        ({"sha256": "0" * 63}, "sha256"),
        ({"grant": "absent"}, "grant is missing"),
        ({"grant": {"reed": []}}, "unknown member 'reed'"),
        ({"created_at": True}, "created_at"),
        ({"expires_at": "absent"}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
    ],
)
def test_what_is_broken_is_refused(changes: dict[str, object], fault: str) -> None:
    Tokens().take(_row())
    with pytest.raises(ValueError, match=re.escape(fault)):
        Tokens().take(_row(**changes))


@pytest.mark.parametrize("data", [None, [], 1, {}])
def test_what_is_no_token(data: object) -> None:
    with pytest.raises(ValueError):
        Tokens().take(data)


def test_ids_are_unguessable_and_distinct() -> None:
    tokens = Tokens()
    ids = {tokens.issue(NONE, now=0).info.id for _ in range(100)}
    assert len(ids) == 100
    assert all(token._ID.fullmatch(token_id) for token_id in ids)


def test_tokens_have_a_bound_in_bytes_too() -> None:
    large = Grant(read=tuple(f".{n}{'x' * 1000}" for n in range(100)))
    tokens = Tokens(max_bytes=1_000_000)
    held = [tokens.issue(large, now=0.0, ttl_s=10).info for _ in range(9)]
    assert 900_000 < tokens.bytes < 1_000_000
    with pytest.raises(TokensFull, match="there are 1000000 bytes of tokens") as caught:
        tokens.issue(large, now=1.0)
    assert caught.value.limit == 1_000_000
    with pytest.raises(TokensFull):
        tokens.make(large, now=1.0)
    tokens.adopt("the admin's, from the configuration", large, now=1.0)
    tokens.revoke(held[0].id)
    tokens.revoke(held[1].id)
    _, row = tokens.make(large, now=1.0)
    tokens.take(row)
    tokens.take(row)  # the same one again
    tokens.issue(large, now=10.0)  # those that have ended make room
    tokens.sweep(1e9)
    assert len(tokens) == 1
    tokens.revoke(tokens.page(0.0, 9).infos[0].id)
    assert tokens.bytes == 0


def test_pages() -> None:
    tokens = Tokens()
    made = [
        tokens.issue(NONE, now=at, ttl_s=ttl).info for at, ttl in ((2, 9), (1, 1), (1, 9), (3, 9))
    ]
    made.sort(key=lambda info: (info.created_at, info.id))
    living = [info for info in made if info.expires_at != 2]
    assert tokens.page(2.5, 9) == (living, None)
    assert tokens.page(2.5, 3) == (living, None)
    first = tokens.page(2.5, 1)
    assert first.infos == living[:1]
    assert tokens.revoke(living[0].id)  # who revokes page by page goes on where it was
    second = tokens.page(2.5, 1, first.next)
    assert second.infos == living[1:2]
    assert tokens.page(2.5, 9, second.next) == (living[2:], None)
    assert Tokens().page(0, 1) == ([], None)


def test_a_page_ends_where_it_is_too_large_or_took_too_long() -> None:
    tokens = Tokens()
    large = Grant(read=tuple(f".{number}" + "x" * 4000 for number in range(256)))
    held = [tokens.issue(large, now=at, ttl_s=9).info for at in range(3)]
    page = tokens.page(3, 9)
    assert page.infos == held[:2]
    assert page.next == (1.0, held[1].id)
    tokens = Tokens()
    ended = [tokens.issue(NONE, now=0, ttl_s=1).info.id for _ in range(10_000)]
    last = tokens.issue(NONE, now=1, ttl_s=None).info
    page = tokens.page(2, 9)
    assert page.infos == []
    assert page.next == (0.0, max(ended))
    assert tokens.page(2, 9, page.next) == ([last], None)

"""What a changed configuration means for a running server: what holds at once, and what waits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from triode.app.config.live import LIVE, change
from triode.app.config.loading import Faults, load
from triode.app.config.settings import OPTIONS, Settings
from triode.app.service.reload import Reload
from triode.app.service.triode import Triode
from triode.limits.grant import Grant
from triode.limits.rate import Rate

OLD = Settings(jwt_key="hs256:" + "o" * 32)
OTHER: dict[str, Any] = {
    "http_rate": Rate(7, 3),
    "ws_rate": None,
    "http2_rate": Rate(9, 9),
    "jwt_key": "hs256:" + "n" * 32,
    "jwt_algorithms": ("HS256",),
    "jwt_audience": "there",
    "jwt_issuer": "me",
    "jwt_default_grant": Grant.from_json({"read": ["."]}, check=lambda _: None),
    "debug": True,
    "idle_s": 71.0,
}


def with_all_live_options_changed() -> Settings:
    values: dict[str, Any] = {}
    for name in LIVE - {"certfile", "keyfile"}:
        field_name = OPTIONS[name][0]
        value = OTHER.get(field_name, getattr(OLD, field_name))
        values[field_name] = value if field_name in OTHER else (value or 0) + 11
    return replace(OLD, **values)


def what_holds(triode: Triode) -> dict[str, Any]:
    """What the parts of a server made of the options that can change."""
    gate = triode.gate
    admission, shares, jwt = gate.admission, gate.shares, gate.jwt
    assert jwt is not None
    return {
        "settings": (triode.settings, triode.hub.settings, gate.settings),
        "admission": [
            getattr(admission, name)
            for name in ("total", "per_ip", "per_principal", "heads", "http", "http_per_ip")
        ],
        "shares": [(s.bound, s.here) for s in (shares.clients, shares.heads, shares.http)],
        "rates": (gate.http_rates.rate, gate.ws_rates.rate),
        "cpu": (gate.cpu._pace, gate.cpu.is_off),
        "ledger": {name: account.bound for name, account in triode.ledger.accounts.items()},
        "jwt": (jwt._audiences, jwt._issuers, jwt._leeway_s, jwt._default_grant),
    }


def test_a_server_with_changed_options_is_as_one_that_began_with_them() -> None:
    wanted = with_all_live_options_changed()
    triode = Triode(OLD)
    assert Reload(triode, lambda: wanted).reload()
    assert what_holds(triode) == what_holds(Triode(wanted))
    assert triode.settings == wanted


def test_what_was_decided_at_the_start_waits() -> None:
    changed = change(OLD, replace(OLD, port=9, heartbeat_s=5.0, max_rooms=3))
    assert changed.settings == replace(OLD, max_rooms=3)
    assert changed.done == ("max_rooms 100 → 3",)
    assert changed.waits == ("port 8080 → 9", "heartbeat 15s → 5s")


def test_whether_there_is_a_key_at_all_waits() -> None:
    changed = change(OLD, replace(OLD, jwt_key=None))
    assert changed.settings == OLD
    assert changed.waits == ("jwt_key *** → unset",)


def test_no_secret_is_told() -> None:
    changed = change(OLD, replace(OLD, jwt_key="hs256:" + "n" * 32))
    assert changed.done == ("jwt_key (another)",)


def test_what_would_contradict_what_stays_is_refused() -> None:
    fits_together = replace(OLD, idle_s=10.0, heartbeat_s=5.0)
    with pytest.raises(Faults, match=r"idle \(10s\) must be longer .* restart, which heartbeat"):
        change(OLD, fits_together)


def test_routes_stay_and_their_rates_change() -> None:
    def settings(*tables: str) -> Settings:
        return load({}, {}, "\n".join(f"[[socket]]\n{table}" for table in tables))

    old = settings('path = "/a"\nrate = "1/1"', 'path = "/b"')
    changed = change(old, settings('path = "/a"\nrate = "2/2"', 'path = "/c"'))
    assert [(each.path, each.rate) for each in changed.settings.sockets] == [
        ("/a", Rate(2, 2)),
        ("/b", old.ws_rate),
    ]
    assert changed.done == ("rates of [[socket]]",)
    assert changed.waits == ("[[socket]]",)

    triode = Triode(old)
    held = triode.gate.rates_of(old.sockets[0])  # as a client holds it that is there
    assert Reload(triode, lambda: settings('path = "/a"\nrate = "3/3"', 'path = "/b"')).reload()
    assert held.rate == Rate(3, 3)


def test_the_documentation_marks_what_is_live() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    [row] = [line for line in text.splitlines() if line.startswith("| at once |")]
    assert set(row.partition(";")[0].split("`")[1::2]) == LIVE

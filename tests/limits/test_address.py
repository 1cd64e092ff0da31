from __future__ import annotations

import pytest

from triode.limits.address import MAX_HOPS, Networks, client_ip, ip_key, parse_address

PROXIES = Networks(["10.0.0.0/8", "::1"])


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9.9.9.9", "9.9.9.9"),
        ("9.9.9.9:1234", "9.9.9.9"),
        (" 9.9.9.9 ", "9.9.9.9"),
        ('"[2001:db8::1]:80"', "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:9.9.9.9", "9.9.9.9"),
        ("[::ffff:9.9.9.9]:80", "9.9.9.9"),
        ("fe80::1%eth0", "fe80::1"),
        ("", None),
        ("unknown", None),
        ("_hidden", None),
        ("unix:/run/x", None),
        ("localhost", None),
        ("9.9.9", None),
        ("9.9.9.9:x", None),
        ("[::1", None),
        ("[::1]x", None),
        ("1.2.3.4.5", None),
        ("010.0.0.1", None),
        ("٩.9.9.9", None),
    ],
)
def test_parse_address(text: str, address: str | None) -> None:
    assert (str(parse_address(text)) if address else parse_address(text)) == address


def test_contains() -> None:
    networks = Networks(["127.0.0.1/8", "192.168.0.0/16", "fc00::/7", "9.9.9.9", " ::1 "])
    assert networks.bad == ()
    assert len(networks) == 5
    for peer in ("127.9.9.9", "192.168.1.9:80", "fd00::1", "9.9.9.9", "::1", "::ffff:127.0.0.1"):
        assert networks.contains(peer)
    for peer in ("", "unknown", "128.0.0.1", "9.9.9.8", "::2", "2001:db8::1", "::ffff:8.8.8.8"):
        assert not networks.contains(peer)


def test_mapped_ranges() -> None:
    networks = Networks(["::ffff:10.0.0.0/104", "::ffff:9.9.9.9"])
    assert networks.contains("10.1.2.3")
    assert networks.contains("::ffff:9.9.9.9")
    assert not networks.contains("11.0.0.1")


def test_bad_ranges_are_reported_and_never_open() -> None:
    networks = Networks(["nonsense", "", "10.0.0.0/99"])
    assert [text for text, _ in networks.bad] == ["nonsense", "", "10.0.0.0/99"]
    assert all(reason for _, reason in networks.bad)
    assert len(networks) == 0
    assert not networks.contains("127.0.0.1")
    assert "none" in repr(networks)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("9.9.9.9", "1.1.1.1", "9.9.9.9"),
        ("9.9.9.9:55", None, "9.9.9.9"),
        ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "1.1.1.1, unknown", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1:4711", "1.1.1.1"),
        ("::1", '"[2001:db8::7]:80"', "2001:db8::7"),
        ("::ffff:10.0.0.1", "::ffff:1.1.1.1", "1.1.1.1"),
        ("", "10.0.0.1", ""),
        ("unix:", "1.1.1.1", "unix:"),
    ],
)
def test_client_ip(peer: str, forwarded: str | None, expected: str) -> None:
    assert client_ip(peer, forwarded, PROXIES) == expected


def test_long_chains_are_cut() -> None:
    chain = ", ".join(f"10.0.{n // 250}.{n % 250}" for n in range(10_000))
    assert client_ip("10.9.9.9", chain, PROXIES) == f"10.0.{39}.{250 - MAX_HOPS}"


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("9.9.9.9:1234", "ip:9.9.9.9"),
        ("9.9.9.9", "ip:9.9.9.9"),
        ("::ffff:9.9.9.9", "ip:9.9.9.9"),
        ("2001:db8:1:2:3:4:5:6", "ip:2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]:443", "ip:2001:db8:1:2::/64"),
        ("2001:db8:1:3::9", "ip:2001:db8:1:3::/64"),
        ("", "ip:unknown"),
        ("garbage", "ip:unknown"),
    ],
)
def test_ip_key(peer: str, key: str) -> None:
    assert ip_key(peer) == key

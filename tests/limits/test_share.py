"""What one address may take."""

from __future__ import annotations

import pytest

from triode.limits.address import Networks, Share

TRUSTED = Networks(["10.0.0.0/8"])


def test_an_address_is_counted_and_ipv6_by_64_bits() -> None:
    share = Share(5, TRUSTED)
    assert share.key("192.0.2.1") == "ip:192.0.2.1"
    assert share.key("2001:db8::1") == share.key("2001:db8::ffff:2") == "ip:2001:db8::/64"


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_is_counted_only_when_it_is_meant(ip: str) -> None:
    assert Share(5, TRUSTED, here=False).key(ip) is None
    assert Share(5, TRUSTED).key(ip) is not None


def test_a_trusted_proxy_and_no_bound_count_nobody() -> None:
    assert Share(5, TRUSTED).key("10.1.2.3") is None
    assert Share(0).key("192.0.2.1") is None


def test_a_negative_bound() -> None:
    with pytest.raises(ValueError, match="negative"):
        Share(-1)

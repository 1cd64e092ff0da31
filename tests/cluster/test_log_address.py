"""Where a shared log is: what may be said, and that no password is shown."""

from __future__ import annotations

import pytest

from triode.app.config.log_address import LogAddress, parse_log_address


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("valkey://db", LogAddress("db"), "valkey://db:6379/0"),
        ("redis://db:7000/2", LogAddress("db", 7000, 2), "valkey://db:7000/2"),
        ("rediss://db/0/", LogAddress("db", tls=True), "valkeys://db:6379/0"),
        ("valkey://[::1]:7/1?name=shop",
         LogAddress("::1", 7, 1, "shop"), "valkey://[::1]:7/1?name=shop"),
        ("valkeys://u%40b:p%3Aw@db", LogAddress("db", user="u@b", password="p:w", tls=True),
         "valkeys://db:6379/0"),
        ("valkey://db/0?ca=/etc/ca.pem", LogAddress("db", ca="/etc/ca.pem"), "valkey://db:6379/0"),
        ("redis+sentinel://u:pw@one,two:7/shop",
         LogAddress("one", 26379, 0, user="u", password="pw",
                    sentinels=(("one", 26379), ("two", 7)), primary="shop"),
         "valkey+sentinel://one:26379,two:7/shop/0"),
        ("valkeys+sentinel://[::1]/shop/3?name=x",
         LogAddress("::1", 26379, 3, "x", tls=True, sentinels=(("::1", 26379),), primary="shop"),
         "valkeys+sentinel://::1:26379/shop/3"),
        ("valkey://:pw@db", LogAddress("db", password="pw"), "valkey://db:6379/0"),
    ],
)  # fmt: skip
def test_addresses(text: str, address: LogAddress, shown: str) -> None:
    assert parse_log_address(text) == address
    assert (str(address), repr(address)) == (shown, shown)


@pytest.mark.parametrize(
    "text",
    ["", "db:6379", "http://db", "valkey://", "valkey://db:port", "valkey://db:99999",
     "valkey://db/shop", "valkey://db/-1", "valkey://db/0?x=1", "valkey://db/0?name=",
     "valkey://db/0?name=a&name=b", "valkey://db/0?name={a}", "valkey://:secret@db/x",
     "valkey+sentinel://one,two", "valkey+sentinel://one,/shop", "http+sentinel://one/shop",
     "valkey+sentinel://one/shop/x", "valkey+sentinel://:secret@one:port/shop",
     "valkey://[secret", "valkey://db/0#x"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(must|may) ") as refused:
        parse_log_address(text)
    assert "secret" not in str(refused.value)

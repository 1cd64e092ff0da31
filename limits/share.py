"""How much of something one address may take, so that it cannot take all of it."""

from __future__ import annotations

from triode.limits.address import Networks, ip_key, is_loopback_name

NOBODY = Networks(())


class Share:
    """The places that one address may take: `bound`, 0 for as many as it likes.

    Trusted proxies are without a bound, as other addresses stand for them. So is this machine
    itself when `here` is false.
    """

    __slots__ = ("_trusted", "bound", "here")

    def __init__(self, bound: int = 0, trusted: Networks = NOBODY, *, here: bool = True) -> None:
        if bound < 0:
            raise ValueError("a bound must not be negative; 0 is none")
        self.bound = bound
        self._trusted = trusted
        self.here = here

    def key(self, ip: str) -> str | None:
        """What an address is counted by, IPv6 by /64; None for one without a bound."""
        if not self.bound or self._trusted.contains(ip) or (not self.here and is_loopback_name(ip)):
            return None
        return ip_key(ip)

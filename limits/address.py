"""Peers and networks.

A peer is what the socket says; it may carry a port, brackets, a zone. `::ffff:1.2.3.4` is 1.2.3.4
everywhere. What cannot be read as an address belongs to no network. Forwarded headers are believed
only as far as trusted proxies wrote them: from the right, up to the first hop nobody vouches for.

A `Share` is how much of something one address may take, so that it cannot take all of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

from triode.store.cache import Cache, weight_of

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_HOPS: Final = 32  # no real chain is longer; bounds the work on a hostile header

_MAPPED = IPv6Network("::ffff:0:0/96")
_CLIENT_PREFIX_BITS = 64  # what one IPv6 customer holds at the least


# No address is longer, with its port, zone and quotes; and what is kept must not be large.
MAX_ADDRESS_CHARS: Final = 128


def parse_address(text: str) -> Address | None:
    """The address in `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[2001:db8::1]:80`, `fe80::1%eth0`,
    with or without quotes (RFC 7239 style); None when it is none."""
    return ADDRESSES[text] if len(text) <= MAX_ADDRESS_CHARS else None


def _parsed(text: str) -> Address | None:
    bare = text.strip().strip('"')
    if bare.startswith("["):
        bare, closed, port = bare[1:].partition("]")
        if not closed or not _is_port(port):
            return None
    elif bare.count(":") == 1:
        bare, _, port = bare.partition(":")
        if not _is_port(":" + port):
            return None
    try:
        address = ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


# What an address object takes, with its number.
_ADDRESS_BYTES: Final = 160
ADDRESSES: Final[Cache[str, Address | None]] = Cache(
    _parsed, lambda text, _: weight_of((text,)) + _ADDRESS_BYTES, max_bytes=2 * 1024 * 1024
)


def _is_port(text: str) -> bool:
    return not text or (text[0] == ":" and text[1:].isascii() and text[1:].isdecimal())


def is_loopback_name(name: str) -> bool:
    """Whether a host, without its port, is this machine by its very name: an address of loopback,
    `localhost` or a name below it (RFC 6761 section 6.3). Any other name may resolve to anything.
    """
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = parse_address(name)
    return address is not None and address.is_loopback


class Networks:
    """A list of ranges: `10.0.0.0/8`, a single address, with host bits or without.

    Ranges that cannot be read are skipped and listed in `bad` as (text, reason), for the caller to
    report. Skipping only ever narrows: a list of nothing but bad ranges contains nobody.
    """

    __slots__ = ("_v4", "_v6", "bad")

    def __init__(self, texts: Iterable[str]) -> None:
        self._v4: list[IPv4Network] = []
        self._v6: list[IPv6Network] = []
        bad: list[tuple[str, str]] = []
        for text in texts:
            try:
                self._add(_network(text.strip()))
            except ValueError as exc:
                bad.append((text, str(exc)))
        self.bad = tuple(bad)

    def __len__(self) -> int:
        return len(self._v4) + len(self._v6)

    def __repr__(self) -> str:
        return f"<Networks {', '.join(map(str, [*self._v4, *self._v6])) or 'none'}>"

    def contains(self, peer: str) -> bool:
        """True when the peer is in one of the ranges; an unknown or empty peer is in none."""
        return self.contains_address(parse_address(peer))

    def contains_address(self, address: Address | None) -> bool:
        """The same for an address already read."""
        if not self._v4 and not self._v6:
            return False  # as it is for most servers
        if isinstance(address, IPv4Address):
            return any(address in network for network in self._v4)
        if isinstance(address, IPv6Address):
            return any(address in network for network in self._v6)
        return False

    def _add(self, network: Network) -> None:
        if isinstance(network, IPv4Network):
            self._v4.append(network)
        else:
            self._v6.append(network)


def _network(text: str) -> Network:
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        assert mapped is not None
        return IPv4Network((mapped, network.prefixlen - 96))
    return network


def client_ip(peer: str, forwarded_for: str | None, trusted: Networks) -> str:
    """The address of the client, without port: the peer, or whom trusted proxies name.

    `forwarded_for` is the whole X-Forwarded-For (several fields joined by commas, in order). It is
    read from the right while the hop that wrote an entry is trusted; an entry that is no address
    ("unknown") ends the walk at the proxy that wrote it. When all are trusted it is the leftmost.
    A peer that cannot be read is given back as it is and makes the header worthless.
    """
    hop = parse_address(peer)
    if hop is None:
        return peer.strip()
    entries = forwarded_for.rsplit(",", MAX_HOPS)[-MAX_HOPS:] if forwarded_for else []
    for entry in reversed(entries):
        if not trusted.contains_address(hop):
            break
        before = parse_address(entry)
        if before is None:
            break
        hop = before
    ip = str(hop)
    return peer if ip == peer else ip  # one text for each client, not two


def ip_key(peer: str) -> str:
    """What limits count an address by: `ip:9.9.9.9`, without the port, or else each connection
    would be somebody new. IPv6 by /64, as a customer has at least that many addresses. All peers
    that cannot be read share `ip:unknown`."""
    return IP_KEYS[peer]


def _ip_key(peer: str) -> str:
    address = parse_address(peer)
    if address is None:
        return "ip:unknown"
    if isinstance(address, IPv4Address):
        return f"ip:{address}"
    bits = int(address) >> (128 - _CLIENT_PREFIX_BITS) << (128 - _CLIENT_PREFIX_BITS)
    return f"ip:{IPv6Address(bits)}/{_CLIENT_PREFIX_BITS}"


IP_KEYS: Final[Cache[str, str]] = Cache(
    _ip_key, lambda peer, key: weight_of((peer, key)), max_bytes=2 * 1024 * 1024
)


NOBODY: Final = Networks(())


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
        if not self.bound or (not self.here and is_loopback_name(ip)) or self._trusted.contains(ip):
            return None
        return ip_key(ip)

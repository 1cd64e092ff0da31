"""How many connections at once: in total, for each address, for each principal.

Counting is one synchronous step that either takes a place under every bound or none, so the counts
are exact whatever happens around it. A place is given back through its ticket, once, however often
that is asked.

Heads (connections whose request has not been read and judged yet) have a bound of their own, so
strangers who send nothing can never use up the places of clients. They are counted apart: a
connection that becomes a client holds both tickets for a moment, and that must not count twice
against one bound.

HTTP connections (what is neither a head nor a client) are counted apart too: they may stay for as
long as a body takes.

The address is None for a peer without a bound of its own (`limits/address.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Literal

Which = Literal["total", "per_ip", "per_principal", "http", "connections"]


class Full(Exception):
    """A bound is reached: `which` one, and its `limit`."""

    def __init__(self, which: Which, limit: int) -> None:
        super().__init__(f"limit reached: {which} is {limit}")
        self.which: Which = which
        self.limit = limit


class Ticket:
    """One place taken. Use it as a context manager, or call `release`, or both. `then` is called
    behind that.
    """

    __slots__ = ("_give_back", "then")

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back
        self.then: Callable[[], None] | None = None

    @property
    def released(self) -> bool:
        return self._give_back is None

    def release(self) -> None:
        """Give the place back. Does nothing the second time."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()
            if self.then is not None:
                self.then()

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class ClientTicket(Ticket):
    """A client's place; its principal may change on the living connection."""

    __slots__ = ("_admission", "_ip", "_principal_key")

    def __init__(self, admission: Admission, ip: str | None, principal_key: str | None) -> None:
        self._admission: Admission | None = admission
        self._ip = ip
        self._principal_key = principal_key

    @property
    def released(self) -> bool:
        return self._admission is None

    def release(self) -> None:
        """Give the place back. Does nothing the second time."""
        # No closure as in `Ticket`: ten thousand idle clients hold one of these each.
        admission, self._admission = self._admission, None
        if admission is not None:
            admission._leave(self._ip, self._principal_key)

    def change_principal(self, principal_key: str | None) -> None:
        """Count this place for another principal. Raises Full, and then nothing has changed."""
        if self._admission is not None:
            self._admission._move(self._principal_key, principal_key)
            self._principal_key = principal_key

    def __enter__(self) -> ClientTicket:
        return self


class Admission:
    """The bounds, each settable while running (it then holds for those who come), 0 for none.

    What is known of nobody (address or principal None) counts only towards the other bounds.
    """

    def __init__(
        self,
        total: int = 10_000,
        per_ip: int = 1_000,
        per_principal: int = 1_000,
        heads: int = 1_000,
        http: int = 10_000,
        http_per_ip: int = 1_000,
    ) -> None:
        if min(total, per_ip, per_principal, heads, http, http_per_ip) < 0:
            raise ValueError("a bound must not be negative; 0 is none")
        self.total = total
        self.per_ip = per_ip
        self.per_principal = per_principal
        self.heads = heads
        self.http = http
        self.http_per_ip = http_per_ip
        self._clients = 0
        self._heads = 0
        self._http = 0
        self._clients_of_ip: dict[str, int] = {}
        self._clients_of_principal: dict[str, int] = {}
        self._http_of_ip: dict[str, int] = {}

    def heads_full(self) -> bool:
        """Whether no place for a head is left."""
        return 0 < self.heads <= self._heads

    def enter_head(self) -> Ticket:
        """Take a place for a connection that has not said yet what it wants.

        Never refused: it is `heads_full` that whoever accepts connections waits for.
        """
        self._heads += 1
        return Ticket(self._leave_head)

    def enter_http(self, ip: str | None, *, over: bool = False) -> Ticket:
        """Take a place for a connection that is neither a head nor a client, also above the total
        when `over`. Raises Full.
        """
        _check_key("per_ip", self.http_per_ip, self._http_of_ip, ip)
        if not over:
            _check("http", self.http, self._http)
        self._http += 1
        _add(self._http_of_ip, ip)
        return Ticket(lambda: self._leave_http(ip))

    def enter(self, ip: str | None, principal_key: str | None) -> ClientTicket:
        """Take a place for a client. Raises Full, naming its own bound before the total."""
        _check_key("per_principal", self.per_principal, self._clients_of_principal, principal_key)
        _check_key("per_ip", self.per_ip, self._clients_of_ip, ip)
        _check("total", self.total, self._clients)
        self._clients += 1
        _add(self._clients_of_ip, ip)
        _add(self._clients_of_principal, principal_key)
        return ClientTicket(self, ip, principal_key)

    def statistics(self) -> dict[str, int]:
        """How many clients, heads and HTTP connections there are, and addresses and principals of
        clients.
        """
        return {
            "clients": self._clients,
            "heads": self._heads,
            "http": self._http,
            "ips": len(self._clients_of_ip),
            "principals": len(self._clients_of_principal),
        }

    def _leave_head(self) -> None:
        self._heads -= 1

    def _leave_http(self, ip: str | None) -> None:
        self._http -= 1
        _drop(self._http_of_ip, ip)

    def _leave(self, ip: str | None, principal_key: str | None) -> None:
        self._clients -= 1
        _drop(self._clients_of_ip, ip)
        _drop(self._clients_of_principal, principal_key)

    def _move(self, old_key: str | None, principal_key: str | None) -> None:
        if principal_key == old_key:
            return
        _check_key("per_principal", self.per_principal, self._clients_of_principal, principal_key)
        _add(self._clients_of_principal, principal_key)
        _drop(self._clients_of_principal, old_key)


def _check(which: Which, limit: int, count: int) -> None:
    if limit and count >= limit:
        raise Full(which, limit)


def _check_key(which: Which, limit: int, counts: dict[str, int], key: str | None) -> None:
    if key is not None:
        _check(which, limit, counts.get(key, 0))


def _add(counts: dict[str, int], key: str | None) -> None:
    if key is not None:
        counts[key] = counts.get(key, 0) + 1


def _drop(counts: dict[str, int], key: str | None) -> None:
    """Count down; a key at nil vanishes, so the maps hold no more keys than there are places."""
    if key is None:
        return
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]

"""The ledger: the bytes that clients make the server hold, in one account book.

Every holder has an account with a bound of its own, and one limit stands over all of them. There
are two ways to stand in the book:

    take and give   what can be refused is booked before it is held: bodies, unfinished messages
    read            what is bounded elsewhere tells its bytes when asked: the document, the history,
                    caches, queues

Reading costs something, so `settle` reads all accounts now and then (once a second), and what is
taken in between is booked on top. Above the limit, what can be refused is refused, and `relieve`
asks the holders to let go, the cheapest loss first.
"""

from __future__ import annotations

from collections.abc import Callable

# So much of the limit is free again before new bodies and messages are taken: no flapping.
FREE_SHARE = 0.02


class Overdrawn(Exception):
    """An account, or all of them together, would hold more than allowed. Nothing was booked."""

    def __init__(self, account: str, asked: int, bound: int) -> None:
        super().__init__(f"{account} may hold {bound} bytes")
        self.account = account
        self.asked = asked
        self.bound = bound


class Account:
    """One holder. `bound` 0: only the limit over all holds."""

    __slots__ = ("_ledger", "_read", "bound", "held", "name", "peak", "refused")

    def __init__(
        self, ledger: Ledger, name: str, bound: int, read: Callable[[], int] | None = None
    ) -> None:
        self._ledger = ledger
        self._read = read
        self.name = name
        self.bound = bound
        self.held = 0
        self.peak = 0
        self.refused = 0

    def take(self, size: int) -> None:
        """Book `size` bytes before they are held. Raises `Overdrawn`."""
        if not self.has_room(size):
            if self.bound and self.held + size > self.bound:
                raise Overdrawn(self.name, size, self.bound)
            raise Overdrawn("memory", size, self._ledger.limit)
        self._set(self.held + size)

    def has_room(self, size: int) -> bool:
        """Whether `take` would book it; a refusal if not."""
        ledger = self._ledger
        held = self.held + size
        if (not self.bound or held <= self.bound) and ledger.held + size <= ledger.limit:
            return True
        self.refused += 1
        return False

    def give(self, size: int) -> None:
        """Take `size` bytes off: they are not held any more."""
        self._set(self.held - size)

    def change(self, by: int) -> bool:
        """Somebody holds so much more, or less. False: that is too much, for this account or for
        all. It is booked nevertheless, until whoever holds it lets go.
        """
        self._set(self.held + by)
        ledger = self._ledger
        if by <= 0 or (not 0 < self.bound < self.held and ledger.held <= ledger.limit):
            return True
        self.refused += 1
        return False

    def hold(self) -> Hold:
        """What one request or connection takes; given back as a whole at the end of its `with`."""
        return Hold(self)

    def settle(self) -> None:
        """Read what is held, where it can be read."""
        if self._read is not None:
            self._set(self._read())

    def _set(self, held: int) -> None:
        self._ledger.held += held - self.held
        self.held = held
        self.peak = max(self.peak, held)


class Hold:
    """The bytes of one request in an account. A context that gives them back."""

    __slots__ = ("_account", "size")

    def __init__(self, account: Account) -> None:
        self._account = account
        self.size = 0

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def take(self, size: int) -> None:
        """As `Account.take`."""
        self._account.take(size)
        self.size += size

    def release(self) -> None:
        """Give all of it back. Idempotent."""
        self._account.give(self.size)
        self.size = 0


class Ledger:
    """All accounts, and the limit over them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.accounts: dict[str, Account] = {}
        self._relief: list[tuple[str, Callable[[int], None]]] = []
        self.relieved: dict[str, int] = {}

    def account(
        self, name: str, bound: int = 0, *, read: Callable[[], int] | None = None
    ) -> Account:
        """Open an account; `read` makes it one that is read."""
        account = self.accounts[name] = Account(self, name, bound, read)
        return account

    def on_pressure(self, name: str, let_go: Callable[[int], None]) -> None:
        """What to do above the limit, in the order of these calls. `let_go` is given the bytes that
        are too much, and lets go of as much as it can.
        """
        self._relief.append((name, let_go))

    @property
    def excess(self) -> int:
        """The bytes above the limit."""
        return max(0, self.held - self.limit)

    @property
    def share(self) -> float:
        """How full the book is: 1.0 is at the limit."""
        return self.held / self.limit

    def settle(self) -> None:
        """Read every account."""
        for account in self.accounts.values():
            account.settle()

    def relieve(self) -> None:
        """Ask the holders to let go until the book is within its limit, the first ones first."""
        for name, let_go in self._relief:
            if not self.excess:
                return
            let_go(self.excess + int(self.limit * FREE_SHARE))
            self.relieved[name] = self.relieved.get(name, 0) + 1
            self.settle()

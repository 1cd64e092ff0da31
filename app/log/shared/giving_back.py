"""What an elected node gives to a server that has lost what the node has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from triode.app.log.shared.calls import Call, Seed
from triode.app.log.shared.terms import as_of, common, format_terms

if TYPE_CHECKING:
    from triode.app.log.shared.calls import Attached, Kept
    from triode.app.log.shared.recent import LogEntry, Recent
    from triode.app.log.shared.terms import Terms

# Of one call.
SALVAGE_BYTES: Final = 1024 * 1024


class GivingBack:
    """For one recovery of a server, on one connection."""

    def __init__(self, node: str) -> None:
        self._node = node
        self.is_seeding = False
        # It cannot make the snapshot that it would have to.
        self.declines = False
        self._seeded: Kept | None = None
        # Entries that servers had lost and took back, in all; of them those under way.
        self.given = 0
        self._giving = 0

    def answered(self, status: str) -> None:
        """What came of what `next` gave."""
        if status == "ok":
            self.given += self._giving
        elif status == "missing":
            self.end()

    def end(self) -> None:
        """It is over, or goes on at another server, which has no pieces of ours."""
        self.is_seeding = self.declines = False
        self._seeded = None

    def seeded(self, snapshot: Kept) -> bool:
        """The pieces are there. False: they are not wanted any more."""
        if self.is_seeding:
            self._seeded = snapshot
        return self.is_seeding

    def seed_failed(self) -> None:
        """There will be no snapshot."""
        self.declines, self.is_seeding = self.is_seeding, False

    def next(self, server: Attached, terms: Terms, seq: int, recent: Recent) -> Call | Seed | None:
        """Entries behind the server's last, if that is in our log. Else a whole log in place of the
        server's, for which a snapshot has to be made. None while that is being made.
        """
        shared = common(terms, seq, server.terms, server.seq)
        if shared == server.seq and server.snapshots and recent.floor <= shared:
            entries = recent.behind(shared, SALVAGE_BYTES)
            return self._salvage(server, terms, seq, entries, shared)
        if self._seeded is not None:
            # With the last entries: nodes that are a little behind need not begin anew.
            entries = recent.newest(SALVAGE_BYTES)
            base = entries[0].since if entries else seq
            return self._salvage(server, terms, seq, entries, base, self._seeded)
        if self.is_seeding:
            return None
        self.is_seeding = True
        return Seed(seq)

    def _salvage(
        self,
        server: Attached,
        terms: Terms,
        seq: int,
        entries: list[LogEntry],
        base: int,
        snapshot: Kept | None = None,
    ) -> Call:
        self._giving = sum(entry.ops for entry in entries)
        if entries:
            seq = entries[-1].seq
        args: list[str | bytes] = [
            self._node, str(server.round), "1" if snapshot else "0", str(base),
            format_terms(as_of(terms, seq)), str(seq), str(snapshot or ""),
        ]  # fmt: skip
        for entry in entries:
            args += entry.fields()
        return Call("salvage", tuple(args), snapshot)

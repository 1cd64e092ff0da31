"""The ledger of one connection: what came, beside what the model says was owed.

It takes the frames in order, each at once checked as far as it can be, and says at the end whether
the sums are right. The rules, by the names that violations carry:

    first       `connected` comes first, and once
    owed        an event is one that the model knows, for a filter of this connection
    order       none twice, none before its turn
    position    positions are of the epoch and rise; none is told while something before it is
                missing and not repaired
    gap         a `gap` counts what is missing, exactly, and within the range that it names
    sum         sent + announced = matched (`latest`: what was replaced later may be missing)
    view        what was received assembles to what the filter selects
    silent      nothing comes for what was unsubscribed
    answer      every command is answered once, in order
    form        what comes is a well-formed stream of JSON objects (`wire`)
"""

from __future__ import annotations

import contextlib
from typing import Any, Final, NoReturn

from tests.behaviour.assembler import Assembler, AssemblyFault

from .account import Account, Gap
from .model import MISSING, Model, Path, key_of, parse, position_of, same
from .violation import SHOWN, Frame, Violation

LATEST: Final = "latest"


class Ledger:
    """The accounts of one connection. `since` is the position that it asked to resume from;
    `views` goes on from connection to connection.
    """

    def __init__(
        self,
        model: Model,
        *,
        filters: dict[str, str],
        rooms: tuple[str, ...] = (),
        since: str = "",
        views: Assembler | None = None,
    ) -> None:
        self.model = model
        self.accounts = {
            text: Account(text, model.streams[text], policy) for text, policy in filters.items()
        }
        self.rooms = {name: Account(name, model.rooms[name], "") for name in rooms}
        for room in self.rooms.values():
            room.begins(len(room.stream.events))
        self.views = views or Assembler()
        self.resumed = False
        self.last_id = since
        self.last_seq = -1
        self.frames: list[Frame] = []
        self.answers: list[Frame] = []
        self._since = since
        self._taken = 0

    # ── frames ──────────────────────────────────────────────────────────────────────────────────

    def take(self, frame: Frame) -> None:
        """Enter a frame. Raises `Violation`."""
        self.frames.append(frame)
        first = len(self.frames) == 1
        kind = frame["type"]
        if first != (kind == "connected"):
            self._fault("first", f"{kind} comes {'first' if first else 'later'}")
        if kind == "connected":
            self._connected(frame)
        elif kind == "snapshot":
            self._snapshot(frame)
        elif kind in ("update", "delete"):
            self._event(frame)
        elif kind == "gap":
            self._gap(frame)
        elif kind == "message":
            self._message(frame)
        else:
            self.answers.append(frame)
            return
        if "id" in frame and kind != "message":
            self._position(frame)

    def _connected(self, frame: Frame) -> None:
        self.resumed = frame["resumed"] is True
        if self.resumed and not self._since:
            self._fault("first", "resumed, but nothing was asked for")
        if self.resumed:
            for account in self.accounts.values():
                account.begins(position_of(self._since)[1])
            self.last_seq = position_of(self._since)[1]
        else:
            self.last_id = ""
            if "id" in frame:  # snapshot=none: from here on
                for account in self.accounts.values():
                    account.begins(position_of(frame["id"])[1])

    def _account(self, frame: Frame) -> Account:
        account = self.accounts.get(frame["filter"])
        if account is None:
            self._fault("owed", f"{frame['filter']} was not subscribed here")
        if account.left:
            self._fault("silent", f"{frame['filter']} was unsubscribed")
        return account

    def _snapshot(self, frame: Frame) -> None:
        account = self._account(frame)
        self._assemble(frame, account)
        if not frame["more"]:
            account.whole, account.hurt = True, False
            account.repaired = -1  # as far as the position says that comes with it or after it

    def _event(self, frame: Frame) -> None:
        account = self._account(frame)
        if account.start is None and not account.whole:
            self._fault("order", "an event before the state")
        index = self._find(account, frame)
        if account.start is None or account.repaired < 0:
            # The state came without a position, beside that of other filters: this is the first
            # event after it, so it stands for all before that has not been missed since.
            self._settle_repair(account, account.stream.events[index].seq - 1)
        self._check_told(account, index)
        account.received.add(index)
        account.at = max(account.at, index + 1)
        if "missed" in frame:
            self._replace(account, frame, index)
        self._assemble(frame, account)

    def _find(self, account: Account, frame: Frame) -> int:
        """The index of the event that has come."""
        path, value = parse(frame["path"]), frame.get("value", MISSING)
        events = account.stream.events
        if account.policy == LATEST and "missed" in frame:
            known = self._newest(account, path, value)
        else:
            known = account.stream.by_key.get(key_of(frame["type"], path, value), [])
            if "id" in frame and account.policy != LATEST:
                seq = position_of(frame["id"])[1]
                known = [index for index in known if events[index].seq == seq]
        if not known:
            self._fault("owed", "no change says so")
        turn = self._turn(account)
        for index in known:
            if index >= turn and index not in account.received:
                return index
        said = ", ".join(str(events[index]) for index in known[:3])
        twice = any(index in account.received for index in known)
        self._fault("order", f"{said}: {'comes twice' if twice else 'comes after later ones'}")

    def _turn(self, account: Account) -> int:
        """From which index on events may come: those of one change in any order, those of several
        in theirs, none from before the end of a gap.
        """
        turn = account.at
        if turn > account.begin:
            turn = account.stream.after(account.stream.events[turn - 1].seq - 1)
        told = max((account.stream.after(gap.to) for gap in account.gaps), default=0)
        return max(turn, account.repaired, account.begin, told)

    def _newest(self, account: Account, path: Path, value: Any) -> list[int]:
        """`latest` sends a place as it is: the last change at or inside it that made it so."""
        events = account.stream.events
        for index in reversed(account.stream.inside(path)):
            if index < account.begin:
                break
            if same(self.model.value_at(events[index].seq, path), value):
                return [index]
        return []

    def _replace(self, account: Account, frame: Frame, newest: int) -> None:
        """An event of `latest` says for how many older ones of its place it stands."""
        inside = account.stream.inside(parse(frame["path"]))
        older = {i for i in inside if account.begin <= i < newest} - account.received
        older -= account.replaced
        if frame["missed"] != len(older):
            self._fault("sum", f"stands for {frame['missed']} older ones, there are {len(older)}")
        account.replaced |= older

    def _check_told(self, account: Account, index: int) -> None:
        """What was lost is told before anything newer comes (`latest` says it with what comes)."""
        if account.policy == LATEST or account.leaving:
            return
        first = account.stream.after(account.stream.events[index].seq - 1)
        lost = max(first, account.begin) - account.begin - len(account.received)
        if lost > account.announced:
            missing = account.stream.events[account.missing(index)[-1]]
            self._fault("gap", f"{missing} is missing and has not been told")

    def _gap(self, frame: Frame) -> None:
        missed = frame["missed"]
        if not isinstance(missed, int) or missed < 1:
            self._fault("gap", f"missed is {missed!r}")
        in_room = "room" in frame
        account = self.rooms.get(frame["room"]) if in_room else self._account(frame)
        if account is None:
            self._fault("gap", "of a room that was not joined")
        after, to = position_of(frame["after"])[1], position_of(frame["to"])[1]
        if after >= to:
            self._fault("gap", f"nothing lies after {after} up to {to}")
        account.gaps.append(Gap(missed, after, to))
        account.hurt = not in_room

    def _message(self, frame: Frame) -> None:
        account = self.rooms.get(frame["room"])
        if account is None:
            self._fault("owed", f"{frame['room']} was not joined")
        known = account.stream.by_key.get(key_of("message", (), frame["data"]), [])
        if not known:
            self._fault("owed", "nobody published this")
        if known[0] < account.at:
            self._fault("order", f"message {known[0]} comes twice or after later ones")
        account.received.add(known[0])
        account.at = known[0] + 1

    def _position(self, frame: Frame) -> None:
        epoch, seq = position_of(frame["id"])
        if self.model.epoch and epoch != self.model.epoch:
            self._fault("position", f"of epoch {epoch}, now is {self.model.epoch}")
        rises = seq > self.last_seq or (seq == self.last_seq and frame["type"] == "snapshot")
        if not rises and frame["type"] != "connected":
            self._fault("position", f"{seq} does not rise above {self.last_seq}")
        self.last_id, self.last_seq = frame["id"], seq
        for account in self.accounts.values():
            if account.left or account.leaving:
                continue
            if account.whole and (account.start is None or account.repaired < 0):
                self._settle_repair(account, seq)
            self._promise(account, seq)

    def _settle_repair(self, account: Account, seq: int) -> None:
        """A snapshot stands for everything up to `seq`: what is older may not come any more."""
        if account.start is None:
            account.begins(seq)
        account.repaired = account.stream.after(seq)
        account.at = max(account.at, account.repaired)

    def _promise(self, account: Account, seq: int) -> None:
        if account.start is None:
            self._fault("position", f"{seq} is told before the state of {account.name}")
        if account.hurt:
            self._fault("position", f"{seq} is told between a gap and its repair")
        events = account.stream.events
        for index in range(max(account.repaired, account.begin), account.stream.after(seq)):
            if index in account.received or index in account.replaced:
                continue
            if account.policy == LATEST and account.stream.replaced_later(index):
                continue
            self._fault("position", f"{seq} is told, but {events[index]} is missing")

    def _assemble(self, frame: Frame, account: Account) -> None:
        try:
            self.views.take(frame)
        except AssemblyFault as fault:
            # Between a gap and its repair nothing fits; and of a place that came and went again
            # `latest` says that it went.
            went = account.policy == LATEST and frame["type"] == "delete" and "missed" in frame
            if not account.hurt and not went:
                self._fault("view", str(fault)[:300])

    # ── sums ────────────────────────────────────────────────────────────────────────────────────

    def subscribed(self, text: str, policy: str) -> None:
        """The `ok` of a subscription has come; its state follows."""
        self.accounts[text] = Account(text, self.model.streams[text], policy)

    def leaving(self, text: str) -> None:
        """An unsubscription has been sent."""
        self.accounts[text].leaving = True

    def unsubscribed(self, text: str) -> None:
        """The `ok` of an unsubscription has come."""
        self.accounts[text].left = True
        self.views.forget(text)

    def owes(self) -> str:
        """What has still to come, in words; "" when all has come that is owed until now."""
        for account in [*self.accounts.values(), *self.rooms.values()]:
            if account.left:
                continue
            if account.start is None:
                return f"{account.name}: the state has not come"
            if account.hurt:
                return f"{account.name}: a gap has not been repaired"
            count = len(account.received) + account.announced
            if account.policy == LATEST and not account.replaced:
                if self._newest_missing(account):
                    return f"{account.name}: the newest value of a place has not come"
            elif count < account.matched():
                return (
                    f"{account.name}: {len(account.received)} sent + {account.announced} announced "
                    f"of {account.matched()} matched"
                )
        return ""

    def _newest_missing(self, account: Account) -> bool:
        """Whether something is missing that nothing newer stands for, nor a snapshot."""
        if account.repaired < 0:
            return True
        missing = (i for i in account.missing(len(account.stream.events)) if i >= account.repaired)
        return not all(account.stream.replaced_later(index) for index in missing)

    def check(self) -> None:
        """All that is owed has come: are the sums right, and the views? Raises `Violation`."""
        if owed := self.owes():
            raise Violation("sum", owed, self.frames[-SHOWN:])
        for account in [*self.accounts.values(), *self.rooms.values()]:
            if not account.left:
                self._check_sum(account, len(account.stream.events))
        for text, account in self.accounts.items():
            if not account.left:
                self._check_view(text)

    def check_part(self, account: Account) -> None:
        """The connection, or the subscription, has ended in the middle: is what came a whole up to
        the last event or gap? What was dropped after that nobody could be told.
        """
        if account.start is None or account.policy in (LATEST, "drop-oldest"):
            return
        if account.repaired >= 0:
            self._check_sum(account, account.reached())

    def check_parts(self) -> None:
        """`check_part` of all accounts."""
        for account in [*self.accounts.values(), *self.rooms.values()]:
            if not account.left:
                self.check_part(account)

    def _check_sum(self, account: Account, end: int) -> None:
        missing = account.missing(end)
        told = sum(gap.missed for gap in account.gaps)
        # Who replaces without saying so may: what was replaced is not missing.
        silently = account.policy == LATEST and not account.replaced
        if told > len(missing) or (told < len(missing) and not silently):
            events, matched = account.stream.events, max(0, end - account.begin)
            first = f"; first missing: {events[missing[0]]}" if missing else ""
            sent, announced = len(account.received), account.announced
            sums = f"{sent} sent + {announced} announced, {matched} matched"
            raise Violation("sum", f"{account.name}: {sums}{first}", self._around(account, missing))
        if not silently:
            self._check_ranges(account, missing)

    def _check_ranges(self, account: Account, missing: list[int]) -> None:
        seqs = [account.stream.events[index].seq for index in missing]
        disjoint = all(
            a.to <= b.after for a, b in zip(account.gaps, account.gaps[1:], strict=False)
        )
        for gap in account.gaps:
            inside = sum(gap.after < seq <= gap.to for seq in seqs)
            if inside < gap.missed or (disjoint and inside != gap.missed):
                detail = f"{gap} of {account.name}, but {inside} are missing there"
                raise Violation("gap", detail, self._gaps(account))

    def _check_view(self, text: str) -> None:
        view, wanted = self.views.views.get(text, {}), self.model.view(text)
        wrong = [
            path
            for path in {**view, **wanted}
            if not same(view.get(path, MISSING), wanted.get(path, MISSING))
        ]
        if wrong:
            have, want = view.get(wrong[0], MISSING), wanted.get(wrong[0], MISSING)
            detail = f"{text}: {len(wrong)} places, first {wrong[0]}: {have!r:.80} for {want!r:.80}"
            raise Violation("view", detail, self.frames[-SHOWN:])

    def totals(self) -> dict[str, int]:
        """Counts for the report."""
        accounts = [*self.accounts.values(), *self.rooms.values()]
        return {
            "matched": sum(a.reached() - a.begin for a in accounts if a.start is not None),
            "sent": sum(len(account.received) for account in accounts),
            "announced": sum(account.announced for account in accounts),
            "gaps": sum(len(account.gaps) for account in accounts),
            "snapshots": sum(f["type"] == "snapshot" and not f["more"] for f in self.frames),
        }

    def _gaps(self, account: Account) -> list[Frame]:
        about = ("filter", "room")
        gaps = [frame for frame in self.frames if frame["type"] == "gap"]
        return [gap for gap in gaps if account.name in (gap.get(name) for name in about)][-SHOWN:]

    def _around(self, account: Account, missing: list[int]) -> list[Frame]:
        """The frames at which the first loss shows: the last before it, and the first after it."""
        if not missing:
            return self._gaps(account)
        seq = account.stream.events[missing[0]].seq
        for index, frame in enumerate(self.frames):
            with contextlib.suppress(KeyError, ValueError):
                if frame["type"] != "message" and position_of(frame["id"])[1] > seq:
                    return self.frames[max(0, index - SHOWN + 1) : index + 1]
        return self.frames[-SHOWN:]

    def _fault(self, rule: str, detail: str) -> NoReturn:
        raise Violation(rule, detail, self.frames[-SHOWN:])

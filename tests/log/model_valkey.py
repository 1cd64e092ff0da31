"""A model of the server of a shared log, in Python: what `app/log/shared/scripts` decide.

`test_scripts.py` holds that the model and the scripts on real servers say and keep the same. A
server keeps what it was, so that a replica, a file or a backup can be any earlier state of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from triode.app.log.shared.recent import LogEntry
from triode.app.log.shared.terms import last_term, parse_terms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from triode.app.log.shared.scripts import Name

Reply = list[str | int]

KEPT: Final = 64
STALLED_MS: Final = 2000
DAY_MS: Final = 24 * 3600 * 1000
NEW_WINDOWS: Final = 4
# Earlier states that a replica may have.
STATES: Final = 400


@dataclass(frozen=True, slots=True)
class Data:
    """What is kept, at one moment. Never changed, only replaced."""

    meta: dict[str, str] = field(default_factory=dict)
    log: tuple[LogEntry, ...] = ()
    nodes: dict[str, int] = field(default_factory=dict)
    bids: dict[str, str] = field(default_factory=dict)
    pieces: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Begun:
    """A term that was begun, for who checks that it was right to."""

    bids: dict[str, str]
    opened_ms: int
    now_ms: int
    lineage: str
    seq: int


class Refused(Exception):
    """An error reply: nothing was done."""


def _first(text: str, items: int) -> list[str]:
    return text.split(" ")[:items]


class Server:
    """One process. `replication_id` is a new one whenever it starts, or becomes a primary."""

    def __init__(self, replication_id: str, data: Data | None = None) -> None:
        self.replication_id = replication_id
        self.is_primary = True
        self.is_full = False
        self.data = data or Data()
        self.states: list[Data] = [self.data]
        self.begun: list[Begun] = []

    # Of the data, while a script runs.
    meta: dict[str, str]
    log: list[LogEntry]
    nodes: dict[str, int]
    bids: dict[str, str]

    def put(self, data: Data) -> None:
        """It is this now, and was something else."""
        self.data = data
        self.states.append(data)
        if len(self.states) > STATES:
            del self.states[: STATES // 2]

    def earlier(self, states: int) -> Data:
        """What it was so many writes ago."""
        return self.states[max(0, len(self.states) - 1 - states)]

    def put_piece(self, key: str, piece: object) -> None:
        """SET."""
        self._require_writable()
        self.put(replace(self.data, pieces={**self.data.pieces, key: piece}))

    def _require_writable(self) -> None:
        if not self.is_primary:
            raise Refused("READONLY")

    def read(self, after: str, count: int) -> list[LogEntry]:
        """XREAD."""
        term, seq = map(int, after.split("-"))
        found: list[LogEntry] = []
        for entry in reversed(self.data.log):
            if (entry.term, entry.seq) <= (term, seq):
                break
            found.append(entry)
        return found[::-1][:count]

    def run(
        self, name: Name, args: Sequence[str | bytes], now_ms: int, pieces: Sequence[str] = ()
    ) -> Reply:
        """EVAL. Raises `Refused`."""
        self._require_writable()
        if name == "append" and self.is_full:
            raise Refused("OOM")
        data = self.data
        self.meta, self.log = dict(data.meta), list(data.log)
        self.nodes, self.bids = dict(data.nodes), dict(data.bids)
        if name == "attach":
            reply = self._attach([str(arg) for arg in args], now_ms)
        elif name == "append":
            reply = self._append(args, now_ms)
        elif name == "salvage":
            reply = self._salvage(args, now_ms, pieces)
        else:
            reply = self._snapshot([str(arg) for arg in args], now_ms, pieces)
        self.put(Data(self.meta, tuple(self.log), self.nodes, self.bids, data.pieces))
        return reply

    def _is_ours(self) -> bool:
        return self.meta.get("srv") == self.replication_id

    def _add(self, entry: LogEntry) -> None:
        if self.log:
            last = self.log[-1]
            assert (entry.term, entry.seq) > (last.term, last.seq), "XADD would refuse it"
        self.log.append(entry)

    # ── attach ──────────────────────────────────────────────────────────────────────────────────

    def _attach(self, args: list[str], now_ms: int) -> Reply:
        node, term, epoch, seq_text, bids, roster, new_epoch, window, lease = args
        meta, seq, lease_ms = self.meta, int(seq_text), int(lease)
        if meta.get("format", "1") != "1":
            return ["format", meta["format"]]
        live = {n: at for n, at in self.nodes.items() if now_ms < at <= now_ms + lease_ms}
        self.nodes = {**live, node: now_ms + lease_ms}
        last = self._last_term()
        ahead = meta.get("state") == "open" and (
            (epoch == last[1] and seq > self._seq()) or (bids == "1" and not meta.get("snap"))
        )
        if not self._is_ours() or ahead:
            self._open(now_ms)
            meta = self.meta
        left, elected = 0, ""
        if meta["state"] == "recovering":
            self.bids[node] = f"{term} {seq_text} {roster}" if bids == "1" else "0 0 "
            left, elected = self._recover(node, new_epoch, int(window), now_ms)
        follows = self._follows(seq)
        names = ",".join(sorted(self.nodes, key=lambda name: (self.nodes[name], name)))
        return [
            meta["state"], meta["lineage"], self._seq(), now_ms, left, elected,
            int(meta.get("round", "0")), int(follows), meta.get("snap", ""), names, 0,
        ]  # fmt: skip

    def _seq(self) -> int:
        return int(self.meta.get("seq", "0"))

    def _last_term(self) -> tuple[int, str]:
        lineage = self.meta.get("lineage", "")
        if not lineage:
            return 0, ""
        number, epoch, _since = lineage.rpartition(";")[2].split(" ")
        return int(number), epoch

    def _open(self, now_ms: int) -> None:
        self.bids = {}
        if not self.meta.get("snap"):
            self.log = []
            self.meta = {"round": self.meta.get("round", "0")}
        self.meta.update(
            format="1", srv=self.replication_id, state="recovering", opened=str(now_ms), elected="",
            lineage=self.meta.get("lineage", ""), seq=str(self._seq()),
        )  # fmt: skip

    def _bids(self) -> Iterator[tuple[str, int, int, str]]:
        for name in sorted(self.bids):
            term, seq, roster = self.bids[name].split(" ")
            yield name, int(term), int(seq), roster

    def _recover(self, node: str, new_epoch: str, window: int, now_ms: int) -> tuple[int, str]:
        meta = self.meta
        if now_ms < int(meta["opened"]):
            meta["opened"] = str(now_ms)
        elected = self._still_elected(node, now_ms)
        own = (self._last_term()[0], self._seq())
        best, best_at, seen = "", own, set()
        for name, term, seq, roster in self._bids():
            if (term, seq) > best_at:
                best, best_at = name, (term, seq)
            seen |= set(roster.split(",")) - {""}
        left = 0
        if not seen or not seen <= set(self.bids):
            windows = 1 if best_at[0] else NEW_WINDOWS
            left = max(0, int(meta["opened"]) + window * windows - now_ms)
        if not elected and not left:
            elected = best
            if best:
                meta["round"] = str(int(meta.get("round", "0")) + 1)
                meta.update(elected=best, progress=str(now_ms))
            else:
                self._begin(own[0] + 1, new_epoch, now_ms)
        return left, elected

    def _still_elected(self, node: str, now_ms: int) -> str:
        elected = self.meta["elected"]
        if not elected:
            return ""
        term, seq = map(int, _first(self.bids.get(elected, "0 0 "), 2))
        if (term, seq) <= (self._last_term()[0], self._seq()):
            return ""
        progress = int(self.meta["progress"])
        if node == elected or now_ms < progress:
            self.meta["progress"] = str(now_ms)
        elif now_ms - progress > STALLED_MS:
            del self.bids[elected]
            return ""
        return elected

    def _begin(self, term: int, epoch: str, now_ms: int) -> None:
        meta = self.meta
        records = [record for record in meta["lineage"].split(";") if record]
        records.append(f"{term} {epoch} {meta['seq']}")
        opened = int(meta["opened"])
        meta.update(state="open", lineage=";".join(records[-KEPT:]), term=str(term), epoch=epoch)
        for name in ("opened", "elected", "progress"):
            meta.pop(name, None)
        self.begun.append(Begun(self.bids, opened, now_ms, meta["lineage"], self._seq()))
        self.bids = {}

    def _follows(self, seq: int) -> bool:
        if seq >= self._seq():
            return True
        term = last_term(parse_terms(self.meta["lineage"]), seq).number
        for entry in self.log:
            if (entry.term, entry.seq) > (term, seq):
                return entry.since == seq
        return False

    # ── append, salvage, snapshot ───────────────────────────────────────────────────────────────

    def _append(self, args: Sequence[str | bytes], now_ms: int) -> Reply:
        node, no, epoch, ops = map(str, args[:4])
        meta = self.meta
        if not self._is_ours() or meta.get("state") != "open" or meta.get("epoch") != epoch:
            return ["attach", 0, 0]
        known = meta.get(f"p:{node}")
        if known is not None:
            last_no, last_seq, last_ms = map(int, known.split(" "))
            if int(no) <= last_no:
                return ["ok" if int(no) == last_no else "old", last_seq, last_ms]
        seq = self._seq() + int(ops)
        time_ms = max(now_ms, int(meta.get("time", "0")))
        body = args[4]
        assert isinstance(body, bytes)
        self._add(LogEntry(int(meta["term"]), seq, f"{node}:{no}", int(ops), time_ms, epoch, body))
        meta.update({"seq": str(seq), "time": str(time_ms), f"p:{node}": f"{no} {seq} {time_ms}"})
        return ["ok", seq, time_ms]

    def _salvage(self, args: Sequence[str | bytes], now_ms: int, pieces: Sequence[str]) -> Reply:
        node, round_, replaces, base, lineage, seq, snap = map(str, args[:7])
        meta = self.meta
        if not self._is_ours() or meta.get("state") != "recovering":
            return ["attach", 0]
        if meta["elected"] != node or meta["round"] != round_:
            return ["attach", 0]
        if replaces == "1":
            if not all(piece in self.data.pieces for piece in pieces):
                return ["missing", 0]
            self.log = []
            for name in [name for name in meta if name.startswith("p:")]:
                del meta[name]
            meta["snap"] = snap
        elif self._seq() != int(base):
            return ["attach", self._seq()]
        time_ms = int(meta.get("time", "0"))
        for at in range(7, len(args), 6):
            id_, nonce, ops, t, epoch = map(str, args[at : at + 5])
            body = args[at + 5]
            assert isinstance(body, bytes)
            term, _, entry_seq = id_.partition("-")
            self._add(LogEntry(int(term), int(entry_seq), nonce, int(ops), int(t), epoch, body))
            time_ms = max(time_ms, int(t))
        meta.update(seq=seq, lineage=lineage, time=str(time_ms), progress=str(now_ms))
        return ["ok", int(seq)]

    def _snapshot(self, args: list[str], now_ms: int, pieces: Sequence[str]) -> Reply:
        epoch, named = args
        meta = self.meta
        if not self._is_ours() or meta.get("state") != "open" or meta.get("epoch") != epoch:
            return ["attach", ""]
        seq = int(named.split(" ")[1])
        newest, _, older = meta.get("snap", "").partition(";")
        if seq > self._seq() or (newest and seq <= int(newest.split(" ")[1])):
            return ["old", ""]
        if not all(piece in self.data.pieces for piece in pieces):
            return ["missing", ""]
        meta["snap"] = f"{named};{newest}" if newest else named
        if not newest:
            return ["ok", ""]
        kept_seq, kept_term = map(int, newest.split(" ")[1:3])
        floor = (kept_term, kept_seq + 1)
        self.log = [entry for entry in self.log if (entry.term, entry.seq) >= floor]
        for name in [name for name in meta if name.startswith("p:")]:
            is_old = int(meta[name].split(" ")[2]) < now_ms - DAY_MS
            if is_old and name[2:] not in self.nodes:
                del meta[name]
        return ["ok", older]

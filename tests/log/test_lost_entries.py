"""What was lost is told to who runs the server; what was written is not for a log file."""

from __future__ import annotations

from triode.app.log.shared.lost_entries import in_words
from triode.app.log.shared.recent import LogEntry
from triode.store.entry import Entry, encode_batch, encode_entry
from triode.store.operation import Batch, Set
from triode.store.records import Record


def entry(*entries: Entry) -> LogEntry:
    body = encode_batch([encode_entry(one) for one in entries])
    return LogEntry(3, 9, "n-1", len(entries), 0, "k3f9", body)


def test_where_and_by_whom_and_never_what() -> None:
    said = in_words(
        entry(
            Entry(1, Set(("a", 0, "b c"), "the secret"), by="ann"),
            Entry(1, Record("token/x", {"digest": "the secret"})),
            Entry(1, Batch((Set(("x",), "the secret"),)), by="shop"),
        )
    )
    assert said == '3 operations: set .a[0]["b c"] by ann, record . by the server, batch . by shop'


def test_many_and_long_ones_are_cut() -> None:
    said = in_words(entry(*(Entry(1, Set(("a" * 1000,), 1), by="ann") for _ in range(9))))
    assert said.startswith("9 operations: set .aaa")
    assert said.endswith(", …")
    assert len(said) < 1100


def test_what_cannot_be_read() -> None:
    assert in_words(LogEntry(1, 2, "n", 2, 0, "e", b"\xff")) == "2 operations, which cannot be read"

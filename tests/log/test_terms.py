"""Which logs are one log, and up to where."""

from __future__ import annotations

import pytest

from triode.app.log.shared.recent import KEPT_BYTES, KEPT_S, LogEntry, Recent
from triode.app.log.shared.terms import (
    Term,
    as_of,
    common,
    format_terms,
    holds,
    last_term,
    lineage,
    parse_terms,
    stream_id,
)
from triode.store.change import Position

TERMS = parse_terms("7 aaaa 0;8 bbbb 95;9 cccc 95;10 dddd 120")


def test_as_text() -> None:
    assert TERMS[1] == Term(8, "bbbb", 95)
    assert parse_terms(format_terms(TERMS)) == TERMS
    assert parse_terms("") == ()


@pytest.mark.parametrize(
    ("seq", "kept", "number"), [(0, 1, 7), (94, 1, 7), (95, 3, 9), (119, 3, 9), (120, 4, 10)]
)
def test_a_term_that_was_begun_at_the_end_belongs_to_it(seq: int, kept: int, number: int) -> None:
    assert as_of(TERMS, seq) == TERMS[:kept]
    assert last_term(TERMS, seq).number == number
    assert stream_id(TERMS, seq) == f"{number}-{seq}"


def test_before_the_first_term() -> None:
    assert last_term((), 0).number == 0
    assert stream_id((), 0) == "0-0"


@pytest.mark.parametrize(
    ("epoch", "seq", "is_held"),
    [
        ("aaaa", 95, True), ("aaaa", 96, False), ("bbbb", 96, False), ("cccc", 95, False),
        ("cccc", 96, True), ("cccc", 120, True), ("dddd", 120, False), ("dddd", 500, True),
        ("eeee", 96, False),
    ],
)  # fmt: skip
def test_an_entry_belongs_to_the_term_that_has_its_number(
    epoch: str, seq: int, is_held: bool
) -> None:
    assert holds(TERMS, epoch, seq) is is_held


@pytest.mark.parametrize(
    ("ours", "our_seq", "theirs", "their_seq", "until"),
    [
        # One is behind.
        ("7 a 0", 40, "7 a 0", 90, 40),
        ("7 a 0;8 b 95", 100, "7 a 0", 93, 93),
        # Written by the old primary when the new one had begun.
        ("7 a 0", 100, "7 a 0;8 b 95", 110, 95),
        ("7 a 0;8 b 95", 110, "7 a 0;8 c 97", 120, 95),
        # A term that has nothing yet.
        ("7 a 0;8 b 95", 95, "7 a 0;8 b 95", 95, 95),
        # Told of the newer term, and not that far yet.
        ("7 a 0;8 b 95", 90, "7 a 0;8 c 93", 99, 90),
        # The oldest are no longer known.
        ("7 a 0;8 b 95", 99, "8 b 95;9 c 98", 120, 98),
        # Nothing in common, or nothing at all.
        ("7 a 0", 40, "7 b 0", 40, -1),
        ("", 0, "7 b 0", 40, -1),
        ("7 b 0", 40, "", 0, -1),
    ],
)
def test_two_logs_are_equal_up_to_the_end_of_what_both_have(
    ours: str, our_seq: int, theirs: str, their_seq: int, until: int
) -> None:
    assert common(parse_terms(ours), our_seq, parse_terms(theirs), their_seq) == until
    assert common(parse_terms(theirs), their_seq, parse_terms(ours), our_seq) == until


def test_positions_of_ended_terms_are_good_up_to_their_end() -> None:
    known = lineage(TERMS)
    assert known.epoch == "dddd"
    assert known.ended == (Position("aaaa", 95), Position("bbbb", 95), Position("cccc", 120))


def entry(seq: int, body: bytes = b"x") -> LogEntry:
    return LogEntry(1, seq, f"n:{seq}", 1, 0, "aaaa", body)


def test_recent_entries_go_when_newer_ones_come_and_not_by_time_alone() -> None:
    recent = Recent(4)
    recent.add(entry(5), 0.0)
    recent.add(entry(6), KEPT_S)
    assert [e.seq for e in recent.behind(4)] == [5, 6]
    assert recent.floor == 4
    recent.add(entry(7), KEPT_S + 1)
    assert [e.seq for e in recent.behind(0)] == [6, 7]
    assert recent.floor == 5


def test_recent_entries_have_a_bound_in_bytes_and_the_newest_stays() -> None:
    recent = Recent()
    recent.add(entry(1), 0.0)
    recent.add(entry(2, bytes(KEPT_BYTES + 1)), 0.0)
    assert (recent.floor, recent.bytes) == (1, KEPT_BYTES + 1)
    assert [e.seq for e in recent.behind(0)] == [2]


def test_parts_of_what_is_recent() -> None:
    recent = Recent()
    for seq in range(1, 6):
        recent.add(entry(seq, b"xxx"), 0.0)
    assert [e.seq for e in recent.behind(1, 6)] == [2, 3]
    assert [e.seq for e in recent.behind(1, 1)] == [2]
    assert [e.seq for e in recent.newest(7)] == [4, 5]
    assert recent.newest(2) == []

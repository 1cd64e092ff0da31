"""Which logs are one log, and up to where.

A log is written in terms. Each was begun by one server, under an epoch of its own that nobody else
can have made, behind all that was there then. So a position, which is an epoch and a number, names
one state for ever; and two logs are equal up to the end of the last epoch that both have.

    7 kfmwtrzq 0;8 pldhsnva 95     1 to 95 were written in the first, the others in the second
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from triode.store.change import Position
from triode.store.lineage import Lineage

if TYPE_CHECKING:
    from collections.abc import Sequence


class Term(NamedTuple):
    """A term has the entries behind `since`, up to where the next one begins."""

    number: int
    epoch: str
    since: int


Terms = tuple[Term, ...]


def parse_terms(text: str) -> Terms:
    """Terms as the server keeps them, oldest first."""
    records = (record.split(" ") for record in text.split(";") if record)
    return tuple(Term(int(number), epoch, int(since)) for number, epoch, since in records)


def format_terms(terms: Terms) -> str:
    """Terms as the server keeps them."""
    return ";".join(f"{term.number} {term.epoch} {term.since}" for term in terms)


def as_of(terms: Terms, seq: int) -> Terms:
    """What the terms were when the log ended at `seq`."""
    kept = len(terms)
    while kept and terms[kept - 1].since > seq:
        kept -= 1
    return terms[:kept]


def last_term(terms: Terms, seq: int) -> Term:
    """The term of a position; number 0 before the first."""
    known = as_of(terms, seq)
    return known[-1] if known else Term(0, "", 0)


def stream_id(terms: Terms, seq: int) -> str:
    """What lies behind it in the stream is what comes after `seq`."""
    return f"{last_term(terms, seq).number}-{seq}"


def holds(terms: Terms, epoch: str, seq: int) -> bool:
    """Whether the entry `seq` of that epoch is one of a log with these terms."""
    until: float = float("inf")
    for term in reversed(terms):
        if term.epoch == epoch:
            return term.since < seq <= until
        until = term.since
    return False


def common(ours: Terms, our_seq: int, theirs: Terms, their_seq: int) -> int:
    """Up to where two logs are equal; -1 if they share no term, so not even what they began with.
    `our_seq` and `their_seq` are where they end.
    """
    ours, theirs = as_of(ours, our_seq), as_of(theirs, their_seq)
    ends = {term.epoch: end for term, end in _with_ends(theirs, their_seq)}
    for term, end in reversed(list(_with_ends(ours, our_seq))):
        if term.epoch in ends:
            return min(end, ends[term.epoch])
    return -1


def _with_ends(terms: Terms, seq: int) -> Sequence[tuple[Term, int]]:
    ends = [term.since for term in terms[1:]] + [seq]
    return list(zip(terms, ends, strict=False))


def lineage(terms: Terms) -> Lineage:
    """As clients' positions are judged by."""
    ended = [Position(term.epoch, end) for term, end in _with_ends(terms, 0)[:-1]]
    return Lineage(terms[-1].epoch, tuple(ended))

"""What the server of a shared log decides: one Lua script for each question, run by its hash.

All of one document is in one slot: `tri:{D}:…`. Keys, in this order, of every script:

    1 meta    hash     format, srv, state, lineage, seq, time, snap, term, epoch, p:NODE, and while
                       recovering opened, elected, round, progress
    2 log     stream   id TERM-SEQ (SEQ of its last operation); n NODE:NO, c operations, t ms,
                       e epoch, b body; in this order
    3 nodes   zset     node → end of its lease, ms of the server
    4 bids    hash     node → "term seq node,node,…", while recovering
    5…        strings  the pieces of the snapshot to be named, for `snapshot` and `salvage`
    5         list     the box of a node, for `letter`: "end-ms LETTER"

    script    arguments                               reply
    attach    node term epoch seq bids roster         [state, lineage, seq, now ms, left ms,
              new_epoch window_ms lease_ms             elected, round, follows, snap, nodes,
                                                       bytes of the log]
    append    node no epoch count body                ["ok" | "old" | "attach", seq, time ms]
    salvage   node round replaces base lineage seq    ["ok" | "missing" | "attach", seq]
              snap, then for each entry id n c t e b
    snapshot  epoch "id seq term pieces"              ["ok" | "old" | "missing" | "attach", text]
    letter    node ms letter                          "ok" | "gone" | "full"

attach    state is `open`, `recovering`, or `format` (then the second item is the log's format).
          `term epoch seq` is the node's position; `bids` 1 unless it has given up giving back;
          `roster` are the nodes that had a lease when it was last a part of the log. A log that
          belongs to another run of the server is recovering from then on, and whoever attaches
          bids. The window is over when all in the rosters have bid, or after `window_ms`. Then the
          best bid (term, then seq) is elected if it is better than what the log has; else the term
          begins, as `new_epoch`.
          `follows` is 1 if the entry behind the position is there, or the position is the end.
append    is refused (`attach`) in another epoch than the open one. A number that was appended is
          answered as it was then; one below it is `old`.
salvage   only of the elected node in its `round`. `replaces` 0: the entries follow `base`, which
          has to be the log's end. 1: they and the snapshot `snap` take the place of the log.
          `lineage` is the node's as of `seq`, its last entry here.
snapshot  the text is the snapshot that is no longer kept. `missing`: a piece is not there.

    lineage   "term epoch since;…"   oldest first, at most 64; the term has what is behind `since`
    snap      "id seq term pieces;…" newest first, at most 2; term is that of the position seq
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final, Literal

Name = Literal["attach", "append", "salvage", "snapshot", "letter"]

# Appending alone is refused by a server whose memory is full; the others say so or make room.
ALLOWED_IN_FULL: Final = {"attach", "salvage", "snapshot"}


@cache
def script(name: Name) -> str:
    """The text of a script, as it goes to SCRIPT LOAD and EVAL."""
    here = files(__name__)
    flags = " flags=allow-oom" if name in ALLOWED_IN_FULL else ""
    parts = [here.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name)]
    return f"#!lua{flags}\n" + "\n".join(parts)

"""The log in `/stats`, `/metrics` and the console: how it grows, how commits go, how old the
snapshot is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from triode.app.runtime.metrics import Gauge

if TYPE_CHECKING:
    from triode.app.config.settings import Settings
    from triode.app.service.triode import Triode


def log_facts(triode: Triode) -> dict[str, Any]:
    """The member `log` of `/stats`: what does not change much, or is no number."""
    journal, settings = triode.journal, triode.settings
    if journal is None:
        return {"kept": "memory"}
    saved = journal.saved
    return {
        "kept": _kept(settings),
        "durability": settings.durability,
        "full": journal.full.is_set(),
        "snapshot": None if saved is None else {"seq": saved.seq, "time": saved.time_ms},
    }


def _kept(settings: Settings) -> str:
    if settings.log is not None:
        return "shared"
    return "disk" if settings.data is not None else "elsewhere"


def log_gauges(triode: Triode) -> list[Gauge]:
    """The numbers; none where no log is kept."""
    journal = triode.journal
    if journal is None or not journal.is_begun:
        return []
    commits, now = journal.commits, trio.current_time()
    gauges = [
        Gauge("log_full", "1 while the disk is full and writes are refused", journal.full.is_set()),
        Gauge("log_disk_bytes", "Size of the log's files", journal.log.disk_bytes()),
        Gauge("log_unsaved_bytes", "Log since the newest snapshot", journal.log.bytes),
        Gauge("log_waiting", "Writes that are not decided yet", journal.under_way),
        Gauge("log_commits_total", "Commits", commits.total),
        Gauge("log_entries_total", "Writes in them", commits.entries),
        Gauge("log_commit_seconds_total", "Time that commits took", commits.seconds),
        Gauge("log_group", "Writes of one commit, on average of late", commits.group),
        Gauge("log_commit_median_seconds", "Time of a commit of late", commits.took(0.5)),
        Gauge("log_commit_p99_seconds", "The same of the slowest hundredth", commits.took(0.99)),
        Gauge("log_boot_seconds", "Time that reading the log took at the start", triode.boot_s),
    ]
    if journal.end is not None:
        gauges += [
            Gauge(
                "log_rewinds_total", "Times the log had lost what was here", journal.anew["rewound"]
            ),
            Gauge("log_reloads_total", "Times what comes next was trimmed", journal.anew["behind"]),
            Gauge("log_lost_total", "Writes that were here, and are lost", journal.lost),
            Gauge(
                "log_position_waits_total", "Reads that waited for a position", journal.end.waits
            ),
            Gauge("log_position_late_total", "Of them in vain", journal.end.waits_in_vain),
        ]
    if commits.last_at is not None:
        gauges.append(
            Gauge("log_last_commit_seconds", "Time since the last commit", now - commits.last_at)
        )
    if journal.saved is not None:
        age_s = max(triode.clock.unix_ms() - journal.saved.time_ms, 0) / 1000
        gauges.append(Gauge("log_snapshot_age_seconds", "Age of the newest snapshot", age_s))
    return gauges

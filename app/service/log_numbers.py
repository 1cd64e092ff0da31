"""The log in `/stats`, `/metrics` and the console: how it grows, how commits go, how old the
snapshot is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from triode.app.runtime.metrics import Gauge

if TYPE_CHECKING:
    from triode.app.config.settings import Settings
    from triode.app.service.cluster import Cluster
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
        Gauge("log_waiting_bytes", "Their bytes", journal.held_bytes),
        Gauge("log_commits_total", "Commits", commits.total),
        Gauge("log_entries_total", "Writes in them", commits.entries),
        Gauge("log_commit_seconds_total", "Time that commits took", commits.seconds),
        Gauge("log_group", "Writes of one commit, on average of late", commits.group),
        Gauge("log_commit_median_seconds", "Time of a commit of late", commits.took(0.5)),
        Gauge("log_commit_p99_seconds", "The same of the slowest hundredth", commits.took(0.99)),
        Gauge("log_boot_seconds", "Time that reading the log took at the start", triode.boot_s),
    ]
    if triode.cluster is not None:
        gauges += _shared_gauges(triode, triode.cluster)
    if triode.peers is not None:
        peers = triode.peers
        gauges += [
            Gauge("log_asked_total", "Questions to other Triodes", peers.asked),
            Gauge("log_unanswered_total", "Those without an answer", peers.unanswered),
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


def _shared_gauges(triode: Triode, cluster: Cluster) -> list[Gauge]:
    own, live = cluster.own(), cluster.facts()
    return [
        Gauge("log_live", "1 while the shared log is in reach and takes writes", live["live"]),
        Gauge("log_term", "The term of the shared log: one more with each failover", own.term),
        Gauge("log_nodes", "Triodes that share the log", len(live["nodes"])),
        Gauge("log_lag_ops", "Entries of the log that are not carried out here", own.lag_ops),
        Gauge("log_lag_seconds", "For how long there has been one", own.lag_s),
        Gauge("log_rtt_seconds", "Time of a question to the log's server", own.rtt_s),
        Gauge("log_given_back_total", "Entries given back to a server", own.given_back),
        Gauge("log_answered_lost_total", "Writes answered here, and lost", own.answered_lost),
        Gauge("log_mismatches_total", "Times another held another document", cluster.mismatches),
        Gauge("log_mismatch", "Triodes that hold another document now", len(cluster.differ)),
    ]

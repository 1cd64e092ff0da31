"""The numbers of several workers as those of one server: what each counts is added up; what all see
alike, such as the document, is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from triode.app.service.filter_costs import SHOWN

# The least of all: what the worst of them says.
_LEAST: Final = {"log_live", "log_last_commit_seconds"}
_ADDED_OF_LOG: Final = {"log_waiting", "log_waiting_bytes"}
# The greatest: all have the same, or the worst counts.
_GREATEST: Final = {
    "document_bytes", "history_items", "history_bytes", "rooms", "room_log_bytes", "tokens",
    "queued_oldest_seconds", "loop_lag_seconds", "uptime_seconds", "draining",
}  # fmt: skip
_OWN: Final = ("position", "checksum", "log")
_EACH: Final = (
    "clients", "queued_bytes", "memory_rss_bytes", "cpu_seconds_total", "loop_lag_seconds",
    "uptime_seconds",
)  # fmt: skip


def added(
    asked: int, bodies: Mapping[int, dict[str, Any]], count: int, deaths: int, limit: int
) -> dict[str, Any]:
    """Worker `asked`'s answer for all: those in `bodies` have answered, of `count`."""
    all_bodies = list(bodies.values())
    own = bodies[asked]
    missing = [number for number in range(1, count + 1) if number not in bodies]
    body = {name: own[name] for name in (*_OWN, "cluster") if name in own} | {
        "counters": _sum([each["counters"] for each in all_bodies]),
        "rates": _sum([each["rates"] for each in all_bodies])
        | {"window_s": own["rates"]["window_s"]},
        "gauges": _gauges([each["gauges"] for each in all_bodies])
        | {"workers": len(bodies), "workers_missing": len(missing), "worker": asked,
           "worker_deaths_total": deaths},
        "memory": _sum([each["memory"] for each in all_bodies]),
        "cpu": _cpu([each["cpu"] for each in all_bodies]),
        "ends_log": _ends([each["ends_log"] for each in all_bodies]),
        "workers": {
            "asked": asked,
            "missing": missing,
            "deaths": deaths,
            "each": [
                {"worker": number, "pid": each["pid"], "position": each["position"]}
                | {name: each["gauges"][name] for name in _EACH}
                for number, each in sorted(bodies.items())
            ],
        },
    }  # fmt: skip
    if "clients" in own:
        clients = [client for each in all_bodies for client in each["clients"]]
        clients.sort(key=lambda client: (client["queued_bytes"], client["dropped"]), reverse=True)
        body["clients"] = clients[:limit]
    return body


def _sum(trees: Sequence[Any]) -> Any:
    """Of numbers, or of objects of them; an account's bound of None stays that."""
    first = trees[0]
    if isinstance(first, dict):
        names = dict.fromkeys(name for tree in trees for name in tree)
        return {name: _sum([tree[name] for tree in trees if name in tree]) for name in names}
    return None if None in trees else sum(trees)


def _gauges(all_gauges: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for gauges in all_gauges for name in gauges)
    return {
        name: _rule(name)([gauges[name] for gauges in all_gauges if name in gauges])
        for name in names
    }


def _rule(name: str) -> Any:
    if name in _LEAST:
        return min
    is_log = name.startswith("log_") and name not in _ADDED_OF_LOG
    if name in _GREATEST or (is_log and not name.endswith("_total")):
        return max
    return sum


def _cpu(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The dearest of all."""
    return {
        "share_s": costs[0]["share_s"],
        "filters": sorted(
            (one for cost in costs for one in cost["filters"]), key=lambda one: -one["s"]
        )[:SHOWN],
        "principals": sorted(
            (one for cost in costs for one in cost["principals"]), key=lambda one: -one["owes_s"]
        )[:SHOWN],
    }


def _ends(logs: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The newest first."""
    most = max(map(len, logs))
    return sorted((end for log in logs for end in log), key=lambda end: -end["time"])[:most]

"""What is the matter with those who share a log, and what to do: sentences for who runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

# Beyond these a node is behind: a busy one is some milliseconds late, always.
LATE_S: Final = 2.0
LATE_OPS: Final = 10_000
# A node tells each second how it stands.
SILENT_S: Final = 4.0


def advice(facts: Mapping[str, Any]) -> list[str]:
    """Of the facts that `/stats` has as `cluster`; none: all is well."""
    return [*_server(facts), *_documents(facts), *_nodes(facts), *_lost(facts)]


def is_behind(node: Mapping[str, Any]) -> bool:
    """Whether it is later than busy ones are."""
    return bool(node["lag_s"] > LATE_S or node["lag_ops"] > LATE_OPS)


def is_silent(node: Mapping[str, Any]) -> bool:
    """Whether nothing is heard of it."""
    return bool(node["silent_s"] > SILENT_S)


def _server(facts: Mapping[str, Any]) -> Iterator[str]:
    own = next((node for node in facts["nodes"] if node["own"]), None)
    if not facts["live"]:
        since = f" for {own['lag_s']:.0f} s" if own else ""
        why = f" ({facts['why']})" if facts["why"] else ""
        yield (
            f"The log has been out of reach of this Triode{since}{why}: reads go on, writes wait "
            f"and are refused. Look whether the server {facts['server']} runs, and can be reached "
            "from here."
        )
    elif facts["state"] == "recovering":
        yield (
            "The server of the log was replaced or started anew; the Triodes are giving back what "
            "it lost. Wait: that takes a second or two."
        )


def _documents(facts: Mapping[str, Any]) -> Iterator[str]:
    differ, names = facts["differ"], _names(facts)
    for node, position in differ.items():
        yield (
            f"{names.get(node, node)} holds another document than {names[facts['node']]}, since "
            f"{position} or before: that must not be, please report it. Start the one anew whose "
            "document the others do not have."
        )


def _nodes(facts: Mapping[str, Any]) -> Iterator[str]:
    names = _names(facts)
    # What is out of reach says nothing of the others.
    for node in facts["nodes"] if facts["live"] else ():
        name = names[node["node"]]
        if is_silent(node):
            yield (
                f"{name} has said nothing for {node['silent_s']:.0f} s: it is frozen, or cut off "
                "from the server. Look at it; its clients go elsewhere when it is stopped."
            )
        elif is_behind(node):
            yield (
                f"{name} is behind by {node['lag_ops']} writes, {node['lag_s']:.1f} s: it has too "
                "much to do, or its way to the server is slow. Look at its CPU."
            )
    versions = sorted({node["version"] for node in facts["nodes"]})
    if len(versions) > 1:
        yield f"Triodes {' and '.join(versions)} share the log: bring all to the newest."


def _lost(facts: Mapping[str, Any]) -> Iterator[str]:
    lost = sum(node["answered_lost"] for node in facts["nodes"])
    if lost:
        yield (
            f"{lost} writes that were answered are lost: the server lost them, and no Triode that "
            "had them was in time. Which they are is in the log of the Triode that had answered "
            "them; see docs/cluster.md, What is promised."
        )


def _names(facts: Mapping[str, Any]) -> dict[str, str]:
    """As people know them: where it listens, unless that is said of two."""
    places = [node["where"] for node in facts["nodes"]]
    return {
        node["node"]: node["where"]
        if places.count(node["where"]) == 1
        else f"{node['where']} ({node['node']})"
        for node in facts["nodes"]
    }

"""Values that cases abbreviate, and documents in which the places that a case names exist."""

from __future__ import annotations

import copy
import re
from typing import Any

_STEP = re.compile(
    r"\.(?P<name>[^.\[\]\"*]+)|\[(?P<index>\d+)\]|\[(?P<test>\w+)=(?P<want>[^\]]*)\]|(?P<any>\[\*\])"
)
LAST, MEMBERS, DESCENT = object(), object(), object()


def expand(value: Any) -> Any:
    """`{"$repeat":[s,n]}`, `{"$concat":[…]}`, `{"$array_of":[x,n]}` written out."""
    if isinstance(value, list):
        return [expand(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$repeat"}:
        text, times = value["$repeat"]
        return expand(text) * times
    if value.keys() == {"$concat"}:
        return "".join(expand(one) for one in value["$concat"])
    if value.keys() == {"$array_of"}:
        item, times = value["$array_of"]
        return [copy.deepcopy(expand(item)) for _ in range(times)]
    return {key: expand(one) for key, one in value.items()}


def plant(document: Any, path: str) -> Any:
    """The document, extended so that `path` selects something in it."""
    document = copy.deepcopy(document)
    steps: list[Any] = []
    for found in _STEP.finditer(path):
        if found["name"]:
            steps.append(found["name"])
        elif found["test"]:
            steps.append((found["test"], found["want"]))
        else:
            steps.append(int(found["index"] or 0))
    return _extend(document, steps)


def _extend(node: Any, steps: list[Any]) -> Any:
    if not steps:
        return "before" if node is None else node
    step, rest = steps[0], steps[1:]
    if isinstance(step, str):
        node = node if isinstance(node, dict) else {}
        return {**node, step: _extend(node.get(step), rest)}
    rows = list(node) if isinstance(node, list) else []
    if isinstance(step, tuple):
        return [*rows, _extend({step[0]: step[1]}, rest)]
    rows += [None] * (step + 1 - len(rows))
    rows[step] = _extend(rows[step], rest)
    return rows


def get_segments(segments: list[dict[str, Any]]) -> list[Any]:
    """The segments of a parsed path as steps."""
    kinds = {"wildcard": 0, "last": LAST, "members": MEMBERS, "descent": DESCENT}
    steps: list[Any] = []
    for one in segments:
        if one["type"] == "descent":
            steps += [DESCENT, one["value"]]
        elif one["type"] in ("property", "index"):
            steps.append(one["value"])
        elif one["type"] != "root":
            steps.append(kinds[one["type"]])
    return steps


def plant_segments(steps: list[Any], value: Any) -> Any:
    """The smallest document with `value` where the steps lead."""
    if not steps:
        return value
    below = plant_segments(steps[1:], value)
    step = steps[0]
    if step is LAST:
        return ["decoy", below]
    if step is MEMBERS or step is DESCENT:
        return {"any": below}
    if isinstance(step, int):
        return ["decoy"] * step + [below]
    return {step: below}

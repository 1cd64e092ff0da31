"""What the store is held against: the subscriber's side of the bargain, and random input for it.

`View` is a client that follows the assembling rule of the wire to the letter and knows nothing
else. The strategies draw from small alphabets, so that filters, documents and writes meet each
other often; a filter that never selects anything proves nothing.
"""

from __future__ import annotations

import copy
import json
import os
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from triode.store.operation import (
    Append,
    Batch,
    Delete,
    Increment,
    Merge,
    Operation,
    Patch,
    Push,
    Set,
)
from triode.store.value import MISSING, equal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypothesis.strategies import DrawFn, SearchStrategy

    from triode.store.event import Event
    from triode.store.filter import Filter
    from triode.store.path import Path
    from triode.store.value import Json, Missing

# How hard to try. TRIODE_NIGHTLY=1 tries harder.
NIGHTLY = os.environ.get("TRIODE_NIGHTLY", "") not in ("", "0")
EXAMPLES, EDITS = (3000, 20) if NIGHTLY else (300, 12)

# ---------------------------------------------------------------------------- the assembler


class View:
    """A map from selected path to value, kept by events alone."""

    def __init__(self, items: Iterable[tuple[Path, Json]] = ()) -> None:
        self.places: dict[Path, Any] = {}
        self.snapshot(items)

    def take(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.kind == "snapshot":
                assert isinstance(event.value, list)
                self.snapshot(event.value)
            elif event.kind == "update":
                assert event.value is not MISSING
                self.update(event.path, event.value)
            elif event.kind == "delete":
                self.delete(event.path)
            else:
                raise AssertionError(f"{event} is nothing a client can assemble")

    def snapshot(self, items: Iterable[tuple[Path, Json]]) -> None:
        self.places = {path: copy.deepcopy(value) for path, value in items}

    def update(self, path: Path, value: Json) -> None:
        covered = False
        for place in list(self.places):
            if place == path[: len(place)]:
                covered = True
                if place == path:
                    self.places[place] = copy.deepcopy(value)
                else:
                    _put(self.places[place], path[len(place) :], copy.deepcopy(value))
            elif place[: len(path)] == path:
                inner = find(value, place[len(path) :])
                if inner is MISSING:
                    del self.places[place]
                else:
                    self.places[place] = copy.deepcopy(inner)
        if not covered:
            self.places[path] = copy.deepcopy(value)

    def delete(self, path: Path) -> None:
        found = False
        for place in list(self.places):
            if place[: len(path)] == path:
                found = True
                del self.places[place]
            elif place == path[: len(place)]:
                found = True
                _take(self.places[place], path[len(place) :])
        assert found, f"delete of {path}, which is neither selected nor inside a selected place"


def _put(value: Any, steps: Path, new: Json) -> None:
    for step in steps[:-1]:
        value = value[step]
    last: Any = steps[-1]
    if isinstance(value, list) and last == len(value):
        value.append(new)
    else:
        assert isinstance(value, dict if isinstance(last, str) else list)
        value[last] = new


def _take(value: Any, steps: Path) -> None:
    for step in steps[:-1]:
        value = value[step]
    if isinstance(value, list):
        assert steps[-1] == len(value) - 1
    del value[steps[-1]]


def find(value: Any, steps: Path) -> Any:
    """The value at that place inside, or MISSING."""
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step, MISSING) if isinstance(step, str) else MISSING
        elif isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value):
            value = value[step]
        else:
            return MISSING
    return value


def selected(filter: Filter, root: Json) -> dict[Path, Json]:
    """What a subscriber of the filter must be holding."""
    return dict(filter.select(root))


def same_places(a: dict[Path, Json], b: dict[Path, Json]) -> bool:
    """Whether two views are the same, as JSON is the same (`True` is not 1)."""
    return a.keys() == b.keys() and all(equal(a[path], b[path]) for path in a)


# ---------------------------------------------------------------------------- random input

KEYS = ("a", "b", "c", "id", "name")
_LITERALS = ("1", "2", "1.0", "true", "false", "null", '"1"', "x", '"true"')

keys = st.sampled_from(KEYS)
scalars: SearchStrategy[Json] = st.sampled_from(
    (1, 2, 1.0, 0, True, False, None, "1", "x", "true", "")
)


def weighted(*choices: tuple[int, SearchStrategy[Any]]) -> SearchStrategy[Any]:
    """One of the strategies, as often as its weight says. (`|` weighs each of its leaves alike.)"""
    table = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.integers(0, len(table) - 1).flatmap(table.__getitem__)


def _containers(inner: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)


# Records in arrays are what conditions are for; hypothesis alone would seldom make them.
records = st.lists(st.dictionaries(keys, scalars, min_size=1, max_size=4), min_size=1, max_size=4)
_nested = st.recursive(scalars, _containers, max_leaves=10)
values: SearchStrategy[Any] = weighted((1, scalars), (1, records), (1, _nested))
_wide: SearchStrategy[Any] = st.fixed_dictionaries(
    {"a": records, "b": st.dictionaries(keys, values, min_size=2)},
    optional={
        "c": st.lists(records, min_size=1, max_size=2),
        "id": values,
        "name": records | values,
    },
)
documents: SearchStrategy[Any] = weighted((6, _wide), (1, records), (1, values))

_names = keys.flatmap(lambda key: st.sampled_from((f".{key}", f".{key}", f'["{key}"]')))
_indexes = st.sampled_from(("[0]", "[0]", "[1]", "[2]"))
_wildcards = st.sampled_from(("[*]", "[*]", ".*"))
_operators = st.sampled_from(("=", "=", "=", "!=", "<", "<=", ">", ">="))
_conditions = st.builds(
    lambda k, o, v: f"[{k}{o}{v}]", keys, _operators, st.sampled_from(_LITERALS)
)
_indexable = weighted((2, _names), (1, _indexes), (2, _wildcards), (2, _conditions))
_others = st.sampled_from(("[-1]", "[-2]", "[0:2]", "[1:]", "[-2:]", "[:-1]")) | st.builds(
    lambda key, bare: f"..{key}" if bare else f'..["{key}"]', keys, st.booleans()
)

indexable_filters = st.lists(_indexable, max_size=5).map(lambda parts: "".join(parts) or ".")
evaluated_filters = st.builds(
    lambda before, other, after: "".join((*before, other, *after)),
    st.lists(_names | _wildcards, max_size=2),
    _others,
    st.lists(_indexable | _others, max_size=2),
)
pointers = st.lists(st.sampled_from((*KEYS, "0", "1")), min_size=1, max_size=3).map(
    lambda tokens: "".join(f"/{token}" for token in tokens)
)

_queries = (
    "$", "$.*", "$..*", "$[0]", "$[-1]", "$[0,0]", "$[::2]", "$[::-1]", "$..[0]", "$..[-1]",
    "$.@", "$.@[*]", "$.@[0,1]", "$.@[1:]", "$..@", "$..@..#", "$.@.#", "$['@','#']",
    "$..['@','#']", "$.@[0].#", "$[?@.@]", "$[?@.@==1]", "$.@[?@.#=='x']", "$.@[?@.#>=1]",
    "$..[?@.@]", "$..[?@.@==true]", "$.@[?@.# == $.#]", "$[?count(@.*) > 1]",
    "$.@[?length(@) > 1].#", "$[?@ == $['@']]", "$..[?@.@ || !@.#]", "$.*[?@ != 1]",
)  # fmt: skip
jsonpaths = st.builds(
    lambda query, a, b: (
        query.replace(".@", f".{a}").replace("'@'", f"'{a}'").replace("#", b)
        if query != "$..@..#"
        else f"$..{a}..{b}"
    ),
    st.sampled_from(_queries),
    keys,
    keys,
)
filters = weighted((3, indexable_filters), (2, evaluated_filters), (2, jsonpaths), (1, pointers))


def places(root: Json) -> list[Path]:
    """Every place of a document, the root first."""
    found: list[Path] = []
    todo: list[tuple[Path, Any]] = [((), root)]
    while todo:
        path, value = todo.pop()
        found.append(path)
        if isinstance(value, dict):
            todo += [((*path, key), member) for key, member in value.items()]
        elif isinstance(value, list):
            todo += [((*path, i), element) for i, element in enumerate(value)]
    return sorted(found, key=len)


@st.composite
def filters_on(draw: DrawFn, root: Json) -> str:
    """A filter made from a place of the document, so that it selects that one if not more."""
    there = places(root)
    path = there[draw(st.integers(len(there) // 2, len(there) - 1))]
    text = ""
    for depth, step in enumerate(path):
        if isinstance(step, int):
            # An element of an array, or the only thing that a condition on the array leaves.
            element = find(root, path[: depth + 1])
            asked = draw(_tests_of(element)) if draw(st.booleans()) else ""
            length = len(find(root, path[:depth]))
            last = f"[{step - length}]"
            text += asked or draw(st.sampled_from((f"[{step}]", "[*]", "[*]", last, f"[{step}:]")))
            continue
        if draw(st.integers(0, 3)) == 0:
            text += draw(_tests_of(find(root, path[:depth])))
        text += draw(st.sampled_from((f".{step}", f".{step}", f'["{step}"]', ".*", f"..{step}")))
    if draw(st.integers(0, 2)) == 0:
        text += draw(_tests_of(find(root, path)))
    return text or "."


@st.composite
def _tests_of(draw: DrawFn, value: Any) -> str:
    """One or two conditions about members that the object has; mostly they hold."""
    members = value.items() if isinstance(value, dict) else ()
    tested = [key for key, member in members if not isinstance(member, dict | list)]
    text = ""
    for key in draw(st.permutations(tested))[: draw(st.sampled_from((1, 1, 2)))]:
        holds = f"={json.dumps(value[key])}"
        chance = f"{draw(_operators)}{draw(st.sampled_from(_LITERALS))}"
        text += f"[{key}{draw(st.sampled_from((holds, holds, chance)))}]"
    return text


def mixed(root: Json) -> SearchStrategy[list[str]]:
    """Filters for a test: some made for this document, some for none."""
    made = filters_on(root)
    return st.lists(weighted((2, made), (1, filters)), min_size=6, max_size=10).map(
        lambda texts: list(dict.fromkeys(texts))
    )


@st.composite
def paths_in(draw: DrawFn, root: Json) -> Path:
    """A place that is there, or one that could be made there. The root only now and then."""
    there = places(root)
    low = 1 if len(there) > 1 and draw(st.integers(0, 9)) else 0
    path = there[draw(st.integers(low, len(there) - 1))]
    value: Json | Missing = find(root, path)
    if isinstance(value, dict) and draw(st.booleans()):
        return (*path, draw(keys))
    if isinstance(value, list) and draw(st.booleans()):
        return (*path, len(value))
    return path


@st.composite
def operations(draw: DrawFn, root: Json, *, batch: bool = True) -> Operation:
    """A write of any kind, which most documents that look like `root` accept."""
    path = draw(paths_in(root))
    kinds = (
        *("set", "set", "set", "merge", "patch", "delete", "delete"),
        *("increment", "append", "push"),
    )
    kind = draw(st.sampled_from((*kinds, "batch") if batch else kinds))
    if kind == "set":
        create = draw(st.booleans())
        if create and draw(st.booleans()):
            path = (*path, draw(keys))
        return Set(path, draw(weighted((2, scalars), (1, values))), create=create)
    if kind == "merge":
        return Merge(path, draw(st.dictionaries(keys, values, max_size=3) | scalars))
    if kind == "patch":
        return Patch((), draw(_patches(root)))
    if kind == "delete":
        return Delete(path)
    if kind == "increment":
        return Increment(path, draw(st.sampled_from((1, -1, 0.5))))
    if kind == "append":
        arrays = [at for at in places(root) if isinstance(find(root, at), list)]
        if arrays and draw(st.integers(0, 4)) > 0:
            path = arrays[draw(st.integers(0, len(arrays) - 1))]
        return Append(path, draw(values))
    if kind == "push":
        return Push(path, draw(values))
    parts = draw(st.lists(operations(root, batch=False), min_size=1, max_size=3))
    return Batch(tuple(parts))


@st.composite
def _patches(draw: DrawFn, root: Json) -> list[Any]:
    patch: list[Any] = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(("add", "add", "remove", "replace", "move", "copy", "test")))
        path = draw(paths_in(root))
        step: dict[str, Any] = {"op": kind, "path": _pointer(path)}
        if kind in ("add", "replace"):
            step["value"] = draw(values)
        elif kind == "test":
            step["value"] = copy.deepcopy(find(root, path))
            if step["value"] is MISSING:
                continue
        elif kind in ("move", "copy"):
            step["from"] = _pointer(draw(paths_in(root)))
        patch.append(step)
    return patch


def _pointer(path: Path) -> str:
    return "".join(f"/{step}" for step in path)


def as_json(value: Any) -> str:
    """For failure messages."""
    return json.dumps(value, default=repr)

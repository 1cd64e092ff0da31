"""The trie of filters: what is subscribed below a place, and what of it a value holds.

A node stands for a run of filter segments. Its edges are the segments that follow in some filter:
names and indexes (one dict; a str and an int never meet), `[*]`, `.*`, and groups of conditions.
Filters end at nodes. A filter that the trie cannot express (descent, slices, JSONPath) hangs at
the node of its fixed prefix as `evaluated`: whatever it selects lies at or below that place.

In one document a filter's places never lie inside each other. (Each segment turns a place into
itself or into some of its children, never into both.) So no place is found twice, and a node is
reached at most once on the way down to an edit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from triode.store.condition_index import Groups
from triode.store.filter import Conditions, Elements, Index, Members, Name
from triode.store.work import TooCostly

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from triode.store.evaluated import Evaluated
    from triode.store.filter import Filter, Segment
    from triode.store.path import Path
    from triode.store.value import Json
    from triode.store.work import Work

# What an element costs that is found, and told from those that were there before.
GATHER_STEPS: Final = 2
# Elements that no condition is asked of: so many are one step.
PASSED_A_STEP: Final = 16

# For each selection, its places in some value, in document order. An evaluated selection that may
# have places there is listed with none.
Found: TypeAlias = "dict[Selection, dict[Path, Json]]"


class Selection:
    """A filter in an index, shared by all that asked for the same text.

    `watchers` is a free slot for whoever owns the index. `references` counts `add`s that have not
    been removed yet. The rest belongs to the index. Compares and hashes by identity.
    """

    __slots__ = ("evaluated", "filter", "node", "references", "watchers")

    def __init__(self, filter: Filter, node: Node, evaluated: Evaluated | None) -> None:
        self.filter = filter
        self.watchers: Any = None
        self.references = 0
        self.node = node
        self.evaluated = evaluated

    def __repr__(self) -> str:
        return f"<Selection {self.filter.text} x{self.references}>"


class Node:
    """A place in the trie. `edge` is how its parent reaches it; the root has neither."""

    __slots__ = ("edge", "elements", "ends", "evaluated", "fixed", "groups", "members", "parent")

    def __init__(self, parent: Node | None = None, edge: Segment | None = None) -> None:
        self.parent = parent
        self.edge = edge
        self.fixed: dict[str | int, Node] = {}
        self.elements: Node | None = None
        self.members: Node | None = None
        self.groups: Groups[Node] | None = None
        # Dicts as ordered sets: a set's order differs between processes, and with it the order in
        # which frames are made. More than one, as two spellings of one filter (`.a`, `["a"]`) end
        # at the same node.
        self.ends: dict[Selection, None] = {}
        self.evaluated: dict[Selection, None] = {}

    @property
    def has_children(self) -> bool:
        return bool(self.fixed or self.elements or self.members or self.groups)

    @property
    def is_empty(self) -> bool:
        return not (self.ends or self.evaluated or self.has_children)


def descend(node: Node, segments: Iterable[Segment]) -> Node:
    """The node at the end of these segments, made as far as it is not there yet."""
    for segment in segments:
        node = _child(node, segment)
    return node


def _child(node: Node, segment: Segment) -> Node:
    # `or` holds because a `Node` is always true: given a `__len__`, an empty one would be replaced,
    # with the selections that know it. (`Groups` has one; `_detach` leaves no empty one behind.)
    match segment:
        case Name(key=edge) | Index(i=edge):
            child = node.fixed.get(edge)
            if child is None:
                child = node.fixed[edge] = Node(node, segment)
        case Elements():
            child = node.elements = node.elements or Node(node, segment)
        case Members():
            child = node.members = node.members or Node(node, segment)
        case Conditions(tests=tests):
            groups = node.groups = node.groups or Groups()
            found = groups.get(tests)
            if found is None:
                found = Node(node, segment)
                groups.add(tests, found)
            child = found
        case _:
            raise TypeError(f"no edge of the trie: {segment!r}")
    return child


def prune(node: Node) -> None:
    """Remove this node and its ancestors as far as nothing needs them any more."""
    # The root stays, empty or not: the index holds it.
    while node.is_empty and node.parent is not None:
        _detach(node.parent, node.edge)
        node = node.parent


def _detach(parent: Node, edge: Segment | None) -> None:
    match edge:
        case Name(key=key) | Index(i=key):
            del parent.fixed[key]
        case Elements():
            parent.elements = None
        case Members():
            parent.members = None
        case Conditions(tests=tests):
            assert parent.groups is not None
            parent.groups.remove(tests)
            if not parent.groups:
                parent.groups = None


def selections_below(node: Node) -> Iterator[Selection]:
    """All that hang below this node, not those at it."""
    todo = [node]
    while todo:
        each = todo.pop()
        if each is not node:
            yield from each.ends
            yield from each.evaluated
        todo += each.fixed.values()
        todo += [child for child in (each.members, each.elements) if child is not None]
        if each.groups is not None:
            todo += each.groups.nodes()


class Gathering:
    """What is found, before an edit and after, and what may be spent on it.

    `stale` are the selections for which there were not enough steps: what is found of them is not
    all. What is charged is what one filter makes us look at however little it selects: the elements
    that a wildcard or a condition goes through. A look-up of a name is part of having the filter.
    """

    __slots__ = ("now", "stale", "was", "work")

    def __init__(self, work: Work) -> None:
        self.was: Found = {}
        self.now: Found = {}
        self.work = work
        self.stale: dict[Selection, None] = {}

    def give_up(self, nodes: Iterable[Node]) -> None:
        """There are not enough steps for what hangs at and below these nodes."""
        for node in nodes:
            self.stale.update(node.ends)
            self.stale.update(node.evaluated)
            self.stale.update(dict.fromkeys(selections_below(node)))


def gather(node: Node, value: Json, place: Path, found: Found, gathering: Gathering) -> None:
    """Everything that the filters through `node` select in `value`, which stands at `place`."""
    for selection in node.ends:
        found.setdefault(selection, {})[place] = value
    for selection in node.evaluated:
        # Without places, which nobody knows here: that it is listed makes it be evaluated.
        found.setdefault(selection, {})
    gather_below(node, value, place, found, gathering)


def gather_below(node: Node, value: Json, place: Path, found: Found, gathering: Gathering) -> None:
    """The same without the filters that end at `node` itself."""
    # Recursive, and deep enough for the longest filter: 256 segments, each three of the 1 000 calls
    # that Python allows. However deep the document, it is gone down no further than filters reach.
    if type(value) is dict:
        _gather_object(node, value, place, found, gathering)
    elif type(value) is list:
        _gather_array(node, value, place, found, gathering)


def _gather_object(
    node: Node, value: dict[str, Json], place: Path, found: Found, gathering: Gathering
) -> None:
    fixed = node.fixed
    # Go over the shorter one: 10 000 filters on 3 members cost 3, and the other way round. The two
    # orders differ and nobody sees it: a selection goes through one of these edges alone, so its
    # own places come in document order all the same.
    for key in fixed if len(fixed) <= len(value) else value:
        if key in value and key in fixed:
            gather(fixed[key], value[key], (*place, key), found, gathering)
    if node.members is not None:
        try:
            for key, member in value.items():
                gathering.work.charge(GATHER_STEPS)
                gather(node.members, member, (*place, key), found, gathering)
        except TooCostly:
            # Here, and not once around all: what others select has been found whole, and counts.
            # What was found of these stays in `found`; the index passes over who is stale.
            gathering.give_up([node.members])
    if node.groups is not None:
        try:
            for child in node.groups.met_by(value, gathering.work):
                # At the same place: a condition chooses among objects, and leads into none.
                gather(child, value, place, found, gathering)
        except TooCostly:
            gathering.give_up(node.groups.nodes())


def _gather_array(
    node: Node, value: list[Json], place: Path, found: Found, gathering: Gathering
) -> None:
    fixed = node.fixed
    length = len(value)
    # Also the names of members are in `fixed`, which are in no order with a length. No index is
    # negative: which element that is depends on the length, so such a filter is evaluated.
    for index in fixed if len(fixed) <= length else range(length):
        if type(index) is int and index < length and index in fixed:
            gather(fixed[index], value[index], (*place, index), found, gathering)
    if node.elements is not None:
        try:
            for index, element in enumerate(value):
                gathering.work.charge(GATHER_STEPS)
                gather(node.elements, element, (*place, index), found, gathering)
        except TooCostly:
            gathering.give_up([node.elements])
    if node.groups is not None:
        try:
            # At once, and before: no test is asked of what is no object, so it has no other charge.
            gathering.work.charge(length // PASSED_A_STEP)
            for index, element in enumerate(value):
                if type(element) is dict:
                    for child in node.groups.met_by(element, gathering.work):
                        gather(child, element, (*place, index), found, gathering)
        except TooCostly:
            gathering.give_up(node.groups.nodes())

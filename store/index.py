"""Which subscribers does an edit concern, and what is it for them?

The rules are those of the wire (docs: "What a subscriber is owed"). A filter selects places; a
subscriber holds the value of each. For an edit at path E and a place P that is selected
  - P is E, or above it: it gets the edit as it is, path E. (All such subscribers get the same.)
  - P is inside E: what was selected and is not any more is a delete, everything that is selected
    now an update, whether or not its value differs. A write above is a write.
  - P is beside E: nothing.

**The walk.** Filters live in a trie (trie.py). `match` goes down the edit's path with the set of
nodes that the path leads to: a fixed name, `.*` and a condition may all be alive at once. Filters
that end on the way have P above E. At E itself the walk stops, and the sub-tries of the nodes
reached are gathered from `before` and from `after`; the difference of the two is the answer. So the
cost follows the filters that match, plus the depth, and does not know how many there are.

**Conditions.** A node's condition groups are asked of the objects on the path. A test looks at a
member of the object and compares with a scalar. So the only edits that change its answer are those
at exactly object + key: a deeper edit leaves that member a container, for which every test
answers as before (`!=` yes, all else no). Hence a condition can only flip at the parent of E.
There it is asked before and after; where the answers differ, the rest of the sub-trie is gathered
from the whole object: as it was if it ceased to meet the tests, as it is if it began to.

**The rest.** Filters that the trie cannot express hang at their fixed prefix and are evaluated
again when the walk or the gathering passes there (evaluated.py).

The document is mutated in place; `match` must be called after each single edit and before the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from triode.store.condition_index import put_back
from triode.store.evaluated import STALE, Evaluated, Remembered
from triode.store.event import Event, as_it_is, difference
from triode.store.filter import Index as At
from triode.store.filter import Name
from triode.store.trie import (
    Gathering,
    Node,
    Selection,
    descend,
    gather,
    gather_below,
    prune,
)
from triode.store.value import MISSING
from triode.store.work import FREE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triode.store.change import Edit
    from triode.store.condition_index import Groups
    from triode.store.filter import Filter
    from triode.store.value import Json
    from triode.store.work import Work

__all__ = ["Event", "Index", "Selection"]

# What a filter takes, with its audience and what of the trie is there for it alone; measured with
# tracemalloc for eight kinds. For each character its text, twice, and the name of a segment.
_FILTER_BYTES: Final = 1_600
_SEGMENT_BYTES: Final = 470
_CHAR_BYTES: Final = 3.5


class Index:
    """All filters that anybody is subscribed to."""

    def __init__(self) -> None:
        self._root = Node()
        self._selections: dict[str, Selection] = {}
        # Those that are evaluated, which are few.
        self.evaluated: dict[Selection, None] = {}
        self.remembered = Remembered()
        # What all filters take, about; of those that are evaluated without their places.
        self.bytes = 0

    def __len__(self) -> int:
        """How many different filters there are."""
        return len(self._selections)

    def __contains__(self, text: str) -> bool:
        """Whether this filter is there."""
        return text in self._selections

    def __iter__(self) -> Iterator[Selection]:
        return iter(self._selections.values())

    def add(self, filter: Filter, root: Json, work: Work = FREE) -> Selection:
        """Subscribe once more to a filter of the document `root`. Undone by `remove`.

        O(length of the filter); for one that the trie cannot express, the first `add`
        evaluates it, if `work` has steps enough for that. If not, it is stale for now.
        """
        selection = self._selections.get(filter.text)
        if selection is None:
            selection = self._selections[filter.text] = self._insert(filter, root, work)
            self.bytes += _weight(filter)
        selection.references += 1
        return selection

    def _insert(self, filter: Filter, root: Json, work: Work) -> Selection:
        if filter.indexable:
            assert filter.segments is not None
            node = descend(self._root, filter.segments)
            selection = Selection(filter, node, None)
            node.ends[selection] = None
            return selection
        evaluated = Evaluated(filter, self.remembered)
        evaluated.renew(root, work)
        prefix = [Name(step) if isinstance(step, str) else At(step) for step in filter.prefix]
        node = descend(self._root, prefix)
        selection = Selection(filter, node, evaluated)
        node.evaluated[selection] = None
        self.evaluated[selection] = None
        return selection

    def remove(self, selection: Selection) -> None:
        """Undo one `add`. The last one forgets the filter and all that was there only for it.

        Raises ValueError for a selection that is not (or no longer) in this index.
        """
        if self._selections.get(selection.filter.text) is not selection:
            raise ValueError(f"{selection!r} is not in this index")
        selection.references -= 1
        if selection.references:
            return
        del self._selections[selection.filter.text]
        self.bytes -= _weight(selection.filter)
        if selection.evaluated is not None:
            selection.evaluated.forget()
            del self.evaluated[selection]
        node = selection.node
        del (node.ends if selection.evaluated is None else node.evaluated)[selection]
        prune(node)

    def forget_places(self, size: int) -> None:
        """Let go of about so many bytes of places, the largest first. Whoever hears these filters
        gets a snapshot at the next write that may concern them.
        """
        enough = self.remembered.bytes - size
        every = [
            s.evaluated for s in self.evaluated if s.evaluated is not None and s.evaluated.bytes
        ]
        for evaluated in sorted(every, key=lambda each: each.bytes, reverse=True):
            if self.remembered.bytes <= enough:
                return
            evaluated.forget()

    def match(
        self, root: Json, edit: Edit, work: Work = FREE, evaluating: Work | None = None
    ) -> list[tuple[Selection, list[Event]]]:
        """The events of an edit that `root` already shows, for each selection that has any.

        Per selection: deletes, then updates in document order; or one snapshot. Call it for every
        edit: selections that are evaluated remember what they selected; `evaluating` is for these,
        if it is not to come out of `work`. For what there are no steps left the snapshot is empty
        (`STALE`): whoever delivers it makes it. Never raises TooCostly.
        """
        if not self._selections:
            return []  # nobody watches anything
        path, after = edit.path, edit.after
        # This is the hot loop of a write. So attributes of nodes are read in place, without a
        # method call for each, and the two kinds of container have a loop each.
        above: list[Selection] = []  # selected at or above the edit: it goes to them as it is
        evaluated: list[Selection] = []
        gathering = Gathering(work)
        active = [self._root]
        # Groups below an array are asked of its elements, and only one of them has changed: the
        # one that the path goes through. They wait here until the walk has reached it.
        pending: list[Groups[Node]] = []
        # The document as it is now. On the way down nothing differs from before but the place of
        # the edit itself, so one walk serves for both.
        value = root
        last = len(path) - 1
        for depth, step in enumerate(path):
            inside: list[Node] = []
            if type(value) is dict:
                for groups in pending:
                    active += _meeting(groups, value, depth, edit, gathering)
                pending = []
                # `active` grows while it is gone through, on purpose: behind a condition stands
                # the same object, so its node belongs to this depth, not to the next.
                for node in active:
                    if node.ends:
                        above += node.ends
                    if node.evaluated:
                        evaluated += node.evaluated
                    child = node.fixed.get(step)
                    if child is not None:
                        inside.append(child)
                    if node.members is not None:
                        inside.append(node.members)
                    if node.groups is not None:
                        active += _meeting(node.groups, value, depth, edit, gathering)
            else:
                pending = []
                for node in active:
                    if node.ends:
                        above += node.ends
                    if node.evaluated:
                        evaluated += node.evaluated
                    child = node.fixed.get(step)
                    if child is not None:
                        inside.append(child)
                    if node.elements is not None:
                        inside.append(node.elements)
                    if node.groups is not None:
                        pending.append(node.groups)
            active = inside
            # Nobody watches anything below: most writes of a large document end here.
            if not inside and not pending:
                break
            # The last step may lead nowhere: what was removed is not there any more.
            if depth < last:
                value = value[step]  # type: ignore[index] # a path that was resolved
        else:  # not after the `break`: only a walk that has arrived may look below the edit
            for groups in pending:
                _gather_element(groups, edit, gathering)
            for node in active:
                above += node.ends
                evaluated += node.evaluated
                if node.has_children:
                    _gather_sides(node, edit, gathering)
        matched: list[tuple[Selection, list[Event]]] = []
        if above:
            # One object for all of them: whoever delivers sees by its identity that it has been
            # encoded already.
            event = as_it_is(path, after)
            matched = [(selection, [event]) for selection in above]
        if gathering.was or gathering.now:
            matched += _differences(gathering, evaluated)
        if gathering.stale:
            stale = gathering.stale
            for selection in stale:
                # What it remembers has missed this edit, and must not be compared with again.
                if selection.evaluated is not None:
                    selection.evaluated.forget()
                matched.append((selection, [STALE]))
            evaluated = [selection for selection in evaluated if selection not in stale]
        for selection in evaluated:
            assert selection.evaluated is not None
            events = selection.evaluated.refresh(root, edit, evaluating or work)
            if events:
                matched.append((selection, events))
        return matched


def _meeting(
    groups: Groups[Node], value: dict[str, Json], depth: int, edit: Edit, gathering: Gathering
) -> list[Node]:
    """The nodes behind the groups that an object on the path meets, before the edit and after.

    `value` stands at `edit.path[:depth]`. What began or ceased to be met is gathered at once.
    """
    met = groups.met_by(value)
    path, before = edit.path, edit.before
    key = path[depth]
    # Only an edit of exactly this member, and only of one that is tested, can change an answer
    # (see above). All others need not make the earlier object, which costs a copy.
    if depth < len(path) - 1 or key not in groups.keys:
        return met
    assert isinstance(key, str)
    met_before = dict.fromkeys(groups.met_before(value, key, before))
    met_after = dict.fromkeys(met)
    place = path[:depth]
    ceased = [node for node in met_before if node not in met_after]
    if ceased:
        # Flat is enough: what lies deeper is not the edit's, so both objects may share it.
        earlier: Json = put_back(dict(value), key, before)
        for node in ceased:
            gather(node, earlier, place, gathering.was, gathering)
    for node in met_after:
        if node not in met_before:
            gather(node, value, place, gathering.now, gathering)
    # The walk goes on only with those that were met before and are still: what began or ceased is
    # told in whole already, and would be told twice.
    return [node for node in met if node in met_before]


def _gather_sides(node: Node, edit: Edit, gathering: Gathering) -> None:
    # Not the node's own ends: those had the edit as it is.
    path, before, after = edit.path, edit.before, edit.after
    if before is not MISSING:
        gather_below(node, before, path, gathering.was, gathering)
    if after is not MISSING:
        gather_below(node, after, path, gathering.now, gathering)


def _gather_element(groups: Groups[Node], edit: Edit, gathering: Gathering) -> None:
    """The edit is of an array's element, and these groups ask the array's elements."""
    path, before, after = edit.path, edit.before, edit.after
    for value, found in ((before, gathering.was), (after, gathering.now)):
        if type(value) is dict:
            for node in groups.met_by(value):
                gather(node, value, path, found, gathering)


def _differences(
    gathering: Gathering, evaluated: list[Selection]
) -> list[tuple[Selection, list[Event]]]:
    """The events of all that was gathered; evaluated selections met there go into that list."""
    was, now = gathering.was, gathering.now
    matched: list[tuple[Selection, list[Event]]] = []
    # A dict and not a set: its order is that of the document, and the same in every process.
    for selection in {**was, **now}:
        if selection.evaluated is not None:
            evaluated.append(selection)
            continue
        if selection in gathering.stale:
            continue
        events = difference(was.get(selection, {}), now.get(selection, {}))
        if events:
            matched.append((selection, events))
    return matched


def _weight(filter: Filter) -> int:
    segments = len(filter.segments if filter.indexable and filter.segments else filter.prefix)
    return round(_FILTER_BYTES + segments * _SEGMENT_BYTES + len(filter.text) * _CHAR_BYTES)

"""The condition edges of a trie node: which groups of tests does an object meet?

`[trader=X]` is the filter everybody has, each with an X of their own. So a group is filed under
the key and literal of its first equality test, and an object looks itself up: one dictionary
access per key in use, however many literals there are. The other tests of the group are then
asked one by one. A group without an equality test is asked of every object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

from triode.store.condition import TESTS_A_STEP
from triode.store.value import MISSING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from triode.store.filter import Test
    from triode.store.value import Json, Missing
    from triode.store.work import Work

Tests: TypeAlias = "tuple[Test, ...]"
# A node of the trie, which is made of these.
Node = TypeVar("Node")

# Python calls True and 1 the same key of a dict. JSON does not.
_TRUE: Final = ("bool", True)
_FALSE: Final = ("bool", False)


def token(value: Json | Missing) -> Hashable:
    """A key that two scalars share exactly when they are JSON-equal; MISSING for anything else.

    1 and 1.0 share one, because Python hashes equal numbers alike.
    """
    if value is True:
        return _TRUE
    if value is False:
        return _FALSE
    # One key for all containers: no literal is one, so nothing is ever filed under it.
    return MISSING if isinstance(value, dict | list) else value


class _Group(Generic[Node]):
    __slots__ = ("cost", "node", "rest")

    def __init__(self, rest: Tests, node: Node) -> None:
        self.rest = rest  # those that the look-up has not answered yet
        self.cost = 1 + len(rest) // TESTS_A_STEP
        self.node = node

    def met_by(self, value: dict[str, Json]) -> bool:
        for test in self.rest:  # noqa: SIM110 # mostly empty, and a generator is not free
            if not test.holds(value.get(test.key, MISSING)):
                return False
        return True


class Groups(Generic[Node]):
    """Groups of tests (each an AND) and the trie node that each leads to."""

    __slots__ = ("_groups", "_hashed", "_scan_cost", "_scanned", "keys")

    def __init__(self) -> None:
        self._groups: dict[Tests, _Group[Node]] = {}
        self._hashed: dict[str, dict[Hashable, dict[Tests, _Group[Node]]]] = {}
        self._scanned: dict[Tests, _Group[Node]] = {}
        self._scan_cost = 1  # to ask is a step, also where no group is scanned
        # How many tests look at a member: an edit of any other member changes no answer.
        self.keys: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def get(self, tests: Tests) -> Node | None:
        """The node behind this group."""
        group = self._groups.get(tests)
        return None if group is None else group.node

    def add(self, tests: Tests, node: Node) -> None:
        """File a group that is not here yet."""
        first = _first_equality(tests)
        if first is None:
            group = self._scanned[tests] = _Group(tests, node)
            self._scan_cost += group.cost
        else:
            rest = tuple(test for test in tests if test is not first)
            literals = self._hashed.setdefault(first.key, {})
            filed = literals.setdefault(token(first.literal), {})
            group = filed[tests] = _Group(rest, node)
        self._groups[tests] = group
        for test in tests:
            self.keys[test.key] = self.keys.get(test.key, 0) + 1

    def remove(self, tests: Tests) -> None:
        """Take a group out, and every table that was there only for it."""
        del self._groups[tests]
        first = _first_equality(tests)
        if first is None:
            self._scan_cost -= self._scanned.pop(tests).cost
        else:
            literals = self._hashed[first.key]
            filed = literals[token(first.literal)]
            del filed[tests]
            if not filed:
                del literals[token(first.literal)]
            # Clients come and go with literals of their own: empty tables would pile up, and each
            # key left in `_hashed` costs every object a look-up.
            if not literals:
                del self._hashed[first.key]
        for test in tests:
            self.keys[test.key] -= 1
            if not self.keys[test.key]:
                del self.keys[test.key]

    def nodes(self) -> list[Node]:
        """The nodes behind all groups."""
        return [group.node for group in self._groups.values()]

    def met_by(self, value: dict[str, Json], work: Work | None = None) -> list[Node]:
        """The nodes behind the groups that this object meets.

        `work` is charged for groups that are asked one by one, by who asks them of many objects.
        """
        if work is not None:
            work.charge(self._scan_cost)
        nodes = [group.node for group in self._scanned.values() if group.met_by(value)]
        hashed = self._hashed
        # Go over the shorter one: neither wide objects nor many tested keys may cost by themselves.
        for key in hashed if len(hashed) <= len(value) else value:
            literals = hashed.get(key)
            if literals is None:
                continue
            filed = literals.get(token(value.get(key, MISSING)))
            if filed is not None:
                if work is not None:
                    work.charge(sum([group.cost for group in filed.values()]))
                nodes += [group.node for group in filed.values() if group.met_by(value)]
        return nodes

    def met_before(self, value: dict[str, Json], key: str, before: Json | Missing) -> list[Node]:
        """The same for the object as it was while its member `key` was `before`."""
        # Only what is tested is copied: an object may have 100 000 members, and one be asked for.
        if len(value) <= len(self.keys):
            earlier = dict(value)
        else:
            earlier = {tested: value[tested] for tested in self.keys if tested in value}
        return self.met_by(put_back(earlier, key, before))


def put_back(value: dict[str, Json], key: str, before: Json | Missing) -> dict[str, Json]:
    """Set (or, for MISSING, remove) the member in this very dict, and return it."""
    if before is MISSING:
        value.pop(key, None)
    else:
        value[key] = before
    return value


def _first_equality(tests: Tests) -> Test | None:
    # The first as it is written, not the one that is met least: `remove` has to find the group
    # where `add` has filed it, whatever came in between.
    for test in tests:
        if test.op == "=":
            return test
    return None

"""Random writes of every kind to a small document: fast, and the same for the same seed."""

from __future__ import annotations

import copy
from random import Random
from typing import Any, Final

from msgspec.structs import replace

from triode.app.runtime.clock import Clock
from triode.app.service.triode import Triode
from triode.app.service.write_key import make_key
from triode.limits.grant import Grant
from triode.limits.principal import OWNER, Principal
from triode.store.change import Position
from triode.store.entry import Bounds
from triode.store.operation import (
    Append,
    Batch,
    Delete,
    Expected,
    Expire,
    Increment,
    Merge,
    Operation,
    Patch,
    Push,
    Set,
    Touch,
)
from triode.store.outcomes import Key
from triode.store.path import Path
from triode.store.records import Record

ROOT: Final = b'{"a":{},"n":0,"list":[1],"users":[{"name":"x","n":1}],"deep":{"er":{"est":[]}}}'
NAMES: Final = (
    "a",
    "b",
    "n",
    "list",
    "users",
    "deep",
    "er",
    "est",
    "name",
    "\u00e9\u20ac",
    "x" * 40,
)
SCALARS: Final = (
    None, True, False, 0, 1, -1, 300, 2**53, 10**30, 0.5, 1.0, -2.5e-7, "", "t", "\u00fc\u20ac",
    "s" * 300,
)  # fmt: skip
PRINCIPALS: Final = (
    OWNER,
    Principal("token:t_1", "a", Grant(read=(".a", ".n"), write=(".a", ".n")), source="token"),
    Principal("token:t_2", "blind", Grant(read=(), write=(".",)), source="token"),
    Principal(
        "token:t_3", "lists", Grant(read=(".",), write=(".list", ".users[*]")), source="token"
    ),
)


class JumpingClock(Clock):
    """A clock that is set forward and back now and then."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._ms = 1_767_225_600_000

    def sync(self) -> None:
        """It is never right."""

    def unix_s(self) -> float:
        return self._ms / 1000

    def unix_ms(self) -> int:
        jump = 200_000 if self._random.random() < 0.01 else 20
        self._ms += self._random.randint(-jump // 4, jump)
        return self._ms


class Writes:
    """Writes for one Triode, made of what its document holds at the moment."""

    def __init__(self, random: Random, triode: Triode) -> None:
        self._random = random
        self._triode = triode
        self.clock = JumpingClock(random)
        self._sent: list[tuple[Operation, Principal, Key]] = []

    async def next(self) -> tuple[Operation | Bounds | Record, Principal, Key | None]:
        """An operation, who asks for it, and its key if it has one."""
        random = self._random
        if random.random() < 0.01:
            return self._bounds(), OWNER, None
        if random.random() < 0.01:
            value = random.choice(({"n": random.random()}, {}, None))
            return Record(f"a/{random.randrange(5)}", value), OWNER, None
        if self._sent and random.random() < 0.05:
            # The document takes over what is in an operation, so each is a copy.
            return copy.deepcopy(random.choice(self._sent[-50:]))
        principal = random.choice(PRINCIPALS) if random.random() < 0.3 else OWNER
        op = self._operation()
        if random.random() < 0.2:
            key = await make_key(principal, f"k{random.randrange(300)}", op)
            self._sent.append(copy.deepcopy((op, principal, key)))
            return op, principal, key
        return op, principal, None

    def _bounds(self) -> Bounds:
        random = self._random
        work = random.choice((30, 300, 20_000_000))
        return Bounds(
            random.choice((600, 3000, 8000)),
            work,
            random.choice((20_000, 50_000)),
            random.choice((2, 50)),
        )

    def _operation(self) -> Operation:
        random = self._random
        store = self._triode.store
        if random.random() < 0.04:
            at_ms = max(store.time_ms, self.clock.unix_ms())
            return Expire(tuple(store.deadlines.due(at_ms, 3)), at_ms)
        if random.random() < 0.08:
            many = tuple(self._single() for _ in range(random.randint(0, 5)))
            return Batch(many, if_position=self._condition())
        return self._single()

    def _single(self) -> Set | Delete | Increment | Append | Push | Merge | Patch | Touch:
        made = self._unconditional()
        if self._random.random() < 0.2 and not isinstance(made, Delete):
            made = replace(made, ttl_ms=self._random.choice((1, 500, 20_000)))
        if self._random.random() > 0.1:
            return made
        some = self._random.choice((0, 1, 300, "t"))
        tests = (
            Expected("equals", self._value()), Expected("exists", some == 0), Expected("less", some)
        )  # fmt: skip
        return replace(made, if_value=self._random.choice(tests))

    def _unconditional(self) -> Set | Delete | Increment | Append | Push | Merge | Patch | Touch:
        random = self._random
        condition = self._condition()
        kinds = (Set, Delete, Increment, Append, Push, Merge, Patch, Touch)
        kind = random.choices(kinds, (5, 3, 2, 2, 2, 2, 3, 1))[0]
        if kind is Touch:
            return Touch(self._path(), if_position=condition)
        if kind is Set:
            create = random.random() < 0.3
            return Set(self._path(), self._value(), create=create, if_position=condition)
        if kind is Delete:
            return Delete(self._path(), if_position=condition)
        if kind is Increment:
            return Increment(self._path(), random.choice((1, -3, 0.25, 10**18)), condition)
        if kind is Append:
            return Append(self._path(), self._value(), condition)
        if kind is Push:
            return Push(self._path(), self._value(), condition)
        if kind is Merge:
            return Merge(self._path(), self._value(), condition)
        return Patch(
            self._path(most=1), [self._step() for _ in range(random.randint(0, 4))], condition
        )

    def _step(self) -> dict[str, Any]:
        random = self._random
        kind = random.choice(("add", "remove", "replace", "move", "copy", "test"))
        step: dict[str, Any] = {"op": kind, "path": self._pointer()}
        if kind in ("move", "copy"):
            step["from"] = self._pointer()
        elif kind != "remove":
            step["value"] = self._value()
        return step

    def _condition(self) -> Position | None:
        random = self._random
        if random.random() > 0.2:
            return None
        seq = max(0, self._triode.store.seq - random.choice((0, 1, 3, 30, 400)))
        return Position(random.choice(("e0", "e0", "e0", "other")), seq)

    def _path(self, most: int = 4) -> Path:
        """Of a place that is there, or might be."""
        random = self._random
        node: Any = self._triode.store.document.root
        path: list[str | int] = []
        # Seldom the root: a write there leaves nothing of what was.
        for _ in range(random.choices(range(most + 1), (1, 9, 9, 5, 3)[: most + 1])[0]):
            if random.random() < 0.15:
                path.append(random.choice((*NAMES, -1, 0, 1)))
                node = None
            elif isinstance(node, dict) and node:
                path.append(random.choice(list(node)))
                node = node[path[-1]]
            elif isinstance(node, list):
                path.append(random.randint(-1, len(node)))
                node = node[path[-1]] if node and path[-1] < len(node) else None  # type: ignore[operator, index]  # an index
            else:
                break
        return tuple(path)

    def _pointer(self) -> str:
        random = self._random
        path = "".join(f"/{segment}" for segment in self._path(3) if segment != -1)
        return path + random.choice(("", "", "/-", f"/{random.choice(NAMES)}"))

    def _value(self, depth: int = 0) -> Any:
        random = self._random
        kind = random.random()
        if depth > 2 or kind < 0.6:
            return random.choice(SCALARS)
        if kind < 0.75:
            return [self._value(depth + 1) for _ in range(random.choice((0, 1, 3, 8)))]
        names = random.sample(NAMES, random.choice((0, 1, 2, 6)))
        return {name: self._value(depth + 1) for name in names}

"""The promise of the product, proved on the whole of it but the sockets (docs/wire.md, Events).

Each example is one Trio run with a real Triode and clients on lanes whose appetite the test
decides. `world` takes random steps: writes of every kind, connections, cuts and resumes, commands,
starving and feeding. What a client is sent is held against two things that know nothing of the
server: documents kept by `naive`, and views assembled by `watcher` from the bytes alone.

    TRIODE_HYPOTHESIS=long      more and longer examples, for as long as TRIODE_MINUTES says (10)
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from contextlib import ExitStack
from itertools import count
from typing import Any
from unittest.mock import patch

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.app.world import World
from triode.app.runtime import turns
from triode.app.service import running

LONG = os.environ.get("TRIODE_HYPOTHESIS") == "long"
# In rounds, because Hypothesis remembers every choice that it has made in one.
ROUNDS, EXAMPLES, STEPS = (10_000, 500, 60) if LONG else (1, 400, 25)
UNTIL = time.monotonic() + 60 * float(os.environ.get("TRIODE_MINUTES", "10")) if LONG else None

# So that small documents go the ways of big ones too: snapshots in pieces, snapshots in place of
# long events, groups that are full, writes in pieces. Patched wherever in `app` they are known.
SMALL = {
    "FRAME_BYTES": 150,
    "KEPT_BYTES": 300,
    "EVENTS_AT_ONCE": 3,
    "BYTES_AT_ONCE": 400,
    "WRITE_BYTES": 100,
    "CHUNK_BYTES": 120,
    "SIZE": 2,
    "EDITS_AT_ONCE": 1,
    "CHANGES_AT_ONCE": 2,
}


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize("starved", [False, True])
def test_everyone_sees_exactly_what_is_there(round: int, starved: bool) -> None:
    if UNTIL is not None and time.monotonic() > UNTIL:
        pytest.skip("the time is over")
    (prove_overflow if starved else prove)()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data(), st.booleans())
def prove(data: st.DataObject, small: bool) -> None:
    run(data, small=small, starved=False)


@settings(
    max_examples=EXAMPLES // 2,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data(), st.booleans())
def prove_overflow(data: st.DataObject, small: bool) -> None:
    run(data, small=small, starved=True)


def run(data: st.DataObject, *, small: bool, starved: bool) -> None:
    """One example, with the small bounds or the real ones."""
    names = count()
    # What is random would make compressed messages shorter or longer, and each run another one.
    unrandom: dict[str, Any] = {
        "token_urlsafe": lambda _: f"{next(names):022d}",
        "token_hex": lambda size: f"{next(names):0{2 * size}x}",
        "choice": lambda choices: choices[0],
    }
    with ExitStack() as stack:
        stack.enter_context(patch.multiple(secrets, **unrandom))
        # Time stands still while the world looks on.
        stack.enter_context(patch.object(turns, "SPARE_BURST_S", 1e6))
        for module in [m for n, m in sys.modules.items() if small and n.startswith("triode.app.")]:
            values = {name: value for name, value in SMALL.items() if name in vars(module)}
            if values:
                stack.enter_context(patch.dict(vars(module), values))
        trio.run(live, data, starved, clock=trio.testing.MockClock())


async def live(data: st.DataObject, starved: bool) -> None:
    """One world from beginning to end. What goes wrong is raised as it is, in no group."""
    wrong: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            world = World(data, nursery, starved=starved)
            await nursery.start(running.run, world.triode)
            if starved:
                await world.connect()
            for _ in range(data.draw(LENGTH)):
                await data.draw(STARVED_STEP if starved else STEP)(world)
            await world.end()
        except trio.Cancelled:
            raise
        except BaseException as error:
            wrong = error
        nursery.cancel_scope.cancel()
    if wrong is not None:
        raise wrong


STEP = st.sampled_from([step for weight, step in World.STEPS for _ in range(weight)])
STARVED_STEP = st.sampled_from(
    [step for weight, step in World.STARVED_STEPS for _ in range(weight)]
)
# Mostly long; still to be shortened a step at a time.
LENGTH = st.sampled_from([*range(1, STEPS), *[STEPS] * STEPS])

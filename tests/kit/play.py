"""Play scenarios, and say what came of each."""

from __future__ import annotations

import time
import traceback
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

from . import scenarios_ends  # noqa: F401 # enters its scenarios in the list
from .scenarios import SCENARIOS, Scenario
from .stage import Options, Skipped, Stage, open_stage
from .violation import Violation
from .wire import Address
from .writer import KitError


@dataclass
class Outcome:
    """One scenario on one transport with one seed."""

    name: str
    transport: str
    seed: int
    verdict: str = "kept"  # kept, broken, skipped, failed (the kit could not do its work)
    lines: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return self.verdict in ("kept", "skipped")

    def json(self) -> dict[str, Any]:
        return self.__dict__


async def play(
    address: Address, options: Options, one: Scenario, transport: str, seed: int
) -> Outcome:
    """Play one scenario. What goes wrong is in the outcome; only cancellation gets out."""
    outcome = Outcome(one.name, transport, seed)
    began = time.monotonic()
    stage: Stage | None = None
    try:
        async with open_stage(address, options, seed, f"{one.name}_{transport}") as stage:
            await one.play(stage, transport)
    except Skipped as reason:
        outcome.verdict, outcome.lines = "skipped", [str(reason)]
    except Exception as error:
        fault = only(error)
        if isinstance(fault, Violation):
            outcome.verdict, outcome.lines = "broken", fault.lines()
        elif isinstance(fault, Skipped):
            outcome.verdict, outcome.lines = "skipped", [str(fault)]
        elif isinstance(fault, KitError):
            outcome.verdict, outcome.lines = "failed", [str(fault)]
        else:
            outcome.verdict = "failed"
            outcome.lines = "".join(traceback.format_exception(fault)).splitlines()
    if stage is not None:
        outcome.counts = stage.totals()
    outcome.seconds = time.monotonic() - began
    return outcome


def only(error: BaseException) -> BaseException:
    """What a nursery wrapped; of several the violation, for the others may be its consequence."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    faults = [only(one) for one in error.exceptions]
    return next((one for one in faults if isinstance(one, Violation)), faults[0])


def chosen(only_names: Iterable[str] = ()) -> list[tuple[Scenario, str]]:
    """The scenarios to play, each with a transport; all when none is named. Raises KeyError."""
    names = [*only_names]
    known = {one.name for one in SCENARIOS}
    if unknown := [name for name in names if name not in known]:
        raise KeyError(f"{unknown[0]} is not one of: {', '.join(sorted(known))}")
    return [
        (one, transport)
        for one in SCENARIOS
        if not names or one.name in names
        for transport in one.transports
    ]


async def play_all(
    address: Address, options: Options, seeds: Iterable[int], only_names: Iterable[str] = ()
) -> AsyncIterator[Outcome]:
    """Play all that are chosen with every seed, one after another."""
    for seed in seeds:
        for one, transport in chosen(only_names):
            yield await play(address, options, one, transport, seed)

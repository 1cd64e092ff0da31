"""How long the loop was held, by the processor's clock: what a busy machine cannot blur.

    python -m tests.abuse.holds FILE serve …      `triode serve …`, and in FILE what held its loop

A line for each step of a task, and for each `ROUNDS` rounds of the loop together, that took long.
Whoever asks something waits for so many rounds at most: it is read in one, carried out in the next,
and its answer flushed in a third.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import trio

from tests.behaviour.server import Server, Settings

ROUNDS: Final = 3
# Shorter ones are not written down.
LEAST_S: Final = 0.001
LEAST_ROUNDS_S: Final = 0.003
SAMPLE_S: Final = 0.001
DEEPEST: Final = 12


class Holds(NamedTuple):
    """The longest step and the longest few rounds, in milliseconds, and what was run then."""

    step_ms: float = 0.0
    step_in: Sequence[str] = ()
    rounds_ms: float = 0.0
    rounds_in: Sequence[str] = ()

    def or_longer(self, other: Holds) -> Holds:
        """The longer step and the longer rounds of both."""
        step = max(self, other, key=lambda one: one.step_ms)
        rounds = max(self, other, key=lambda one: one.rounds_ms)
        return Holds(step.step_ms, step.step_in, rounds.rounds_ms, rounds.rounds_in)


class _Round:
    """One round of the loop: what it took, and the steps of each kind of task."""

    def __init__(self) -> None:
        self.taken_s = 0.0
        self.steps: defaultdict[str, list[float]] = defaultdict(list)

    def lines(self) -> list[str]:
        """The dearest, for people."""
        by_cost = sorted(self.steps.items(), key=lambda item: -sum(item[1]))
        said = [
            f"  {len(all)} x {name}: {1000 * sum(all):.1f} ms, the longest {1000 * max(all):.1f}"
            for name, all in by_cost[:3]
        ]
        return [f"{1000 * self.taken_s:.1f} ms", *said]


class Recorder(trio.abc.Instrument):
    """Writes down each long hold."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._begun = self._step_begun = time.thread_time()
        self._rounds: deque[_Round] = deque([_Round() for _ in range(ROUNDS)], maxlen=ROUNDS)
        self._stack: list[str] = []
        self._collecting = 0.0

    def sample(self, _signal: int, frame: FrameType | None) -> None:
        """Where the step is by now."""
        found = traceback.extract_stack(frame, limit=DEEPEST)
        self._stack = [f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in found]

    def collected(self, phase: str, info: dict[str, int]) -> None:
        """The garbage collector begins or ends."""
        if phase == "start":
            self._collecting = time.thread_time()
        elif (taken := time.thread_time() - self._collecting) > LEAST_S:
            self._stack = [f"garbage collection {info['generation']}: {1000 * taken:.1f} ms"]

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """A step begins."""
        self._stack = []
        self._step_begun = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """It is over."""
        taken = time.thread_time() - self._step_begun
        self._rounds[-1].steps[task.name].append(taken)
        if taken > LEAST_S:
            self._note("step", taken, self._stack or [task.name])

    def after_io_wait(self, timeout: float) -> None:
        """A round begins."""
        now = time.thread_time()
        self._rounds[-1].taken_s = now - self._begun
        self._begun = now
        taken = sum(one.taken_s for one in self._rounds)
        if taken > LEAST_ROUNDS_S:
            self._note("rounds", taken, [line for one in self._rounds for line in one.lines()])
        self._rounds.append(_Round())

    def _note(self, kind: str, taken_s: float, where: list[str]) -> None:
        self._file.write(json.dumps([kind, 1000 * taken_s, where]) + "\n")


class WatchedServer(Server):
    """The native lane, and what held its loop."""

    def __init__(self, settings: Settings, home: Path) -> None:
        super().__init__("native", settings, home)
        self._holds = home / "holds"
        self._seen = 0

    def longest(self) -> Holds:
        """Since this was asked last."""
        lines = self._holds.read_text().splitlines() if self._holds.exists() else []
        found: dict[str, tuple[float, list[str]]] = {}
        for line in lines[self._seen :]:
            kind, taken_ms, where = json.loads(line)
            found[kind] = max(found.get(kind, (0.0, [])), (taken_ms, where))
        self._seen = len(lines)
        return Holds(*found.get("step", (0.0, [])), *found.get("rounds", (0.0, [])))

    def _command(self) -> list[str]:
        python, _module, _triode, *arguments = super()._command()
        return [python, "-m", "tests.abuse.holds", str(self._holds), *arguments]


def main(path: Path, arguments: list[str]) -> None:
    """`triode` with these arguments, watched."""
    run = trio.run
    recorder = Recorder(path)

    def watched(*args: Any, **named: Any) -> Any:
        return run(*args, **named, instruments=[recorder])

    setattr(trio, "run", watched)  # noqa: B010 # mypy lets no function be assigned
    gc.callbacks.append(recorder.collected)
    signal.signal(signal.SIGPROF, recorder.sample)
    signal.setitimer(signal.ITIMER_PROF, SAMPLE_S, SAMPLE_S)
    from triode.app.cli import main as triode

    sys.argv = ["triode", *arguments]
    try:
        triode()
    finally:
        # A signal that comes when Python has ended would end the process.
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

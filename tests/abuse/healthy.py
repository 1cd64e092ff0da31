"""The healthy: they write, subscribe and read, beside whatever is done to the server.

    python -m tests.abuse.healthy PORT

A process of its own, so that the attacker's Python does not make them slow. A line on standard
output says that they have begun; one on standard input, that it is enough. Then each must have got
all that it was owed (`tests.kit`), and the last line of standard output says what came of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from tests.kit.play import play
from tests.kit.scenarios import Scenario
from tests.kit.stage import Options, Stage
from tests.kit.wire import Address

ROOT: Final = Path(__file__).resolve().parents[2]
PAUSE_S: Final = 0.02
# What is owed may come late: the others are a hundred.
PATIENCE_S: Final = 60.0


class Healthy:
    """The process, as those who start it see it."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.abuse.healthy", str(port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def outcome(self) -> dict[str, Any]:
        """Let them come to an end: the `tests.kit.play.Outcome` as JSON."""
        said, _ = self._process.communicate("\n")
        found: dict[str, Any] = json.loads(said)
        return found

    def stop(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()


async def live(stage: Stage, _transport: str) -> None:
    """Write, and read over both transports, until a line comes."""
    async with (
        stage.subscribe("sse", ".rows.*", ".rows.*[on=true]") as one,
        stage.subscribe("ws", ".rows.*") as other,
    ):
        print("begun", flush=True)
        async with stage.reading(one, other), trio.open_nursery() as nursery:
            nursery.start_soon(write, stage, stopped := trio.Event())
            await trio.to_thread.run_sync(sys.stdin.readline)
            # Not cut off: nobody would know what became of its last write.
            stopped.set()
        await stage.settle(one, other)


async def write(stage: Stage, stopped: trio.Event) -> None:
    """One write after another, until it is enough."""
    while not stopped.is_set():
        await stage.write(1)
        await trio.sleep(PAUSE_S)


def main(port: int) -> None:
    """Live, then say how it was."""
    options = Options(patience_s=PATIENCE_S)
    scenario = Scenario("healthy", live, ("both",))
    address = Address(f"http://127.0.0.1:{port}")
    outcome = trio.run(partial(play, address, options, scenario, "both", seed=0))
    print(json.dumps(outcome.json()))


if __name__ == "__main__":
    main(int(sys.argv[1]))

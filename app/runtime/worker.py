"""One of several processes that share a port and a log (`--workers`): which one it is, and how it
and the process that has started it know of each other.

    alive    a pipe whose other end that process holds: at its end this one ends, too
    ready    a pipe, into which goes one byte when connections are accepted
    folder   of all of them: N.sock at which worker N answers the others, and how often one died
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import trio

_VARIABLE: Final = "_TRIODE_WORKER"


@dataclass(frozen=True, slots=True)
class Worker:
    """Numbered from 1. `alive` and `ready` are file descriptors."""

    number: int
    count: int
    port: int
    folder: str
    alive: int
    ready: int

    def __str__(self) -> str:
        return f"#{self.number}"

    def told(self) -> dict[str, str]:
        """What its environment has, for `worker_here`."""
        return {_VARIABLE: json.dumps(asdict(self))}

    def socket(self, number: int | None = None) -> Path:
        """Where worker `number` answers the others, or this one."""
        return Path(self.folder) / f"{number or self.number}.sock"

    def say_ready(self) -> None:
        """Connections are accepted."""
        with suppress(OSError):
            os.write(self.ready, b"r")

    async def follow(self) -> None:
        """End this process in order when the one that has started it is gone."""
        await trio.lowlevel.wait_readable(self.alive)
        os.kill(os.getpid(), signal.SIGTERM)

    @property
    def deaths(self) -> int:
        """How often one of all has died."""
        try:
            return int(deaths_file(self.folder).read_text())
        except (OSError, ValueError):
            return 0


def deaths_file(folder: str) -> Path:
    """Where it is noted how often one has died."""
    return Path(folder) / "deaths"


def worker_here(environment: MutableMapping[str, str]) -> Worker | None:
    """Which one this process is. Taken out, so that no child takes it for its own."""
    text = environment.pop(_VARIABLE, "")
    return Worker(**json.loads(text)) if text else None

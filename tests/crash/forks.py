"""Servers that are forked from a process which has imported all of Triode already: a start takes a
tenth of the processor's time, so there can be many.

`python -m tests.crash.forks` reads a line of JSON for each: {"arguments", "environment", "folder",
"log"}, and answers with the process' id.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.crash.launch import run


class Forked:
    """A process that is not our child, with the face of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        """None while it runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 1
        return None

    def kill(self) -> None:
        """As `kill -9`."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def wait(self) -> None:
        """Until it is gone."""
        while self.poll() is None:
            time.sleep(0.002)


class Forks:
    """The process that is forked."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[2],
        )

    def start(self, arguments: list[str], environment: dict[str, str], home: Path) -> Forked:
        """One more server."""
        order = {"arguments": arguments, "environment": environment, "folder": str(home)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return Forked(int(self._process.stdout.readline()))

    def close(self) -> None:
        """No more of them."""
        self._process.communicate()


def become(order: dict[str, Any]) -> None:
    """This process is the server from here on."""
    os.chdir(order["folder"])
    log = os.open("server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(old, new)
    os.environ.clear()
    os.environ.update(order["environment"])
    random.seed()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.argv = ["triode", *order["arguments"]]
    run()


def main() -> None:
    """Until there are no more orders."""
    import triode.app.serve  # noqa: F401 # what all of them need

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            become(json.loads(line))
            return
        print(pid, flush=True)


if __name__ == "__main__":
    main()

"""Commands that packages are built and installed with."""

from __future__ import annotations

import subprocess
from pathlib import Path

DEADLINE_S = 300


def run(
    *command: str | Path, cwd: Path, deadline_s: float = DEADLINE_S
) -> subprocess.CompletedProcess[str]:
    """What came of it: its exit status and what it printed."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
    )

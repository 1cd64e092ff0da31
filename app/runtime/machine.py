"""The machine that we run on: how much memory and how many files there are for us."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

# Of a control group, version 2 and version 1. "max", or a number near 2^63, is no limit.
_CGROUP_FILES: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
# Beside connections: the log, listeners, the demo's look into /proc, the interpreter's own.
SPARE_FILES: Final = 100


def memory_bytes() -> int:
    """The memory of the machine, or of the control group (a container) where that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [limit for path in _CGROUP_FILES if (limit := _limit_in(path)) is not None]
    return min([machine, *limits])


def _limit_in(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def most_connections() -> int:
    """So many that a few files are left to others; 0 where there is no limit."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 0 if limit == resource.RLIM_INFINITY else max(1, limit - SPARE_FILES)

"""The machine that we run on: how much memory there is for us."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# Of a control group, version 2 and version 1. "max", or a number near 2^63, is no limit.
_CGROUP_FILES: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


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

"""How a garbage collector, or another thread, reaches the event loop of a task."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any


def soon_caller() -> Callable[..., Any]:
    """What runs a function, with arguments, in the present event loop; it may be called anywhere.

    Where the loop has ended it raises `RuntimeError`.
    """
    # Not imported: a program on asyncio need not have it.
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        caller: Callable[..., Any] = trio.lowlevel.current_trio_token().run_sync_soon
        return caller
    return asyncio.get_running_loop().call_soon_threadsafe

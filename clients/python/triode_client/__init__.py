"""Triode's client for Python: live values of a JSON document on a server.

In plain programs:

t = Triode("http://127.0.0.1:8080")
for change in t.watch(".host.load"):
    print(change.value)

On asyncio and on Trio:

async with connect("http://127.0.0.1:8080") as t:
    async for change in t.watch(".host.load"):
        print(change.value)
"""

from __future__ import annotations

from . import op
from .assembly import MISSING, Json, Missing
from .client import AsyncTriode, connect
from .errors import (
    BatchRefused,
    CannotConnect,
    Changed,
    Closed,
    Ended,
    Lost,
    NotAllowed,
    NotFound,
    RateLimited,
    Refused,
    TriodeError,
    Unsent,
    WrongType,
)
from .fetch import Fetch
from .options import Options
from .room import Message, Room
from .sync import Triode
from .topic import Change
from .watch import View, Watch

__version__ = "0.1.0"

__all__ = [
    "MISSING",
    "AsyncTriode",
    "BatchRefused",
    "CannotConnect",
    "Change",
    "Changed",
    "Closed",
    "Ended",
    "Fetch",
    "Json",
    "Lost",
    "Message",
    "Missing",
    "NotAllowed",
    "NotFound",
    "Options",
    "RateLimited",
    "Refused",
    "Room",
    "Triode",
    "TriodeError",
    "Unsent",
    "View",
    "Watch",
    "WrongType",
    "connect",
    "op",
]

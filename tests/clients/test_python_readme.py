"""The examples of the Python client's README run as they are, but for the address."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import triode_client
from tests.behaviour.api import Api
from tests.behaviour.server import Server

README = Path(__file__).resolve().parents[2] / "clients/python/README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
FIRST = BLOCKS[:3]
OTHERS = [block for block in BLOCKS[3:] if "async def main" in block]
PRINTED = [
    "'.shop.prices.BTC': 6",
    "'log': ['hello'], 'a': 1",
    "2\n",
    "False\n20",
    "True say",
]


def names() -> dict[str, Any]:
    """What the examples take as imported."""
    given: dict[str, Any] = {name: getattr(triode_client, name) for name in triode_client.__all__}
    return {**given, "msgspec": msgspec, "__name__": __name__}


def test_all_are_found() -> None:
    assert [
        word in block for word, block in zip(("Triode(", "asyncio", "trio"), FIRST, strict=True)
    ]
    assert len(OTHERS) == len(PRINTED)


@pytest.mark.parametrize("door", ["sync", "asyncio", "trio"])
async def test_a_first_example(
    server: Server, api: Api, door: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It watches for ever: it is over when it has printed the first value."""
    await api.reset({"host": {"load": 0.5}})
    source = FIRST[["sync", "asyncio", "trio"].index(door)]
    source = source.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
    source = source.replace("print(change.value)", "print(change.value); stop()")
    names: dict[str, Any] = {"stop": _stop}

    def run() -> None:
        with pytest.raises(Stopped):
            exec(source, names)
        if door == "sync":
            names["t"].close()

    await trio.to_thread.run_sync(run)
    assert capsys.readouterr().out == "0.5\n"


class Stopped(BaseException):
    """The example has gone far enough."""


def _stop() -> None:
    raise Stopped


@pytest.mark.parametrize("number", range(len(PRINTED)))
@pytest.mark.parametrize("world", ["trio", "asyncio"])
async def test_an_example(
    server: Server, api: Api, world: str, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = names()
    exec(OTHERS[number].replace("127.0.0.1:8080", f"127.0.0.1:{server.port}"), found)
    with trio.fail_after(10):
        if world == "trio":
            await found["main"]()
        else:
            await trio.to_thread.run_sync(lambda: asyncio.run(found["main"]()))
    assert PRINTED[number] in capsys.readouterr().out

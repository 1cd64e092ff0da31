"""The examples of the Python client's README run as they are, but for the address."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trio

import triode_client
from tests.behaviour.api import Api
from tests.behaviour.server import Server

README = Path(__file__).resolve().parents[2] / "clients/python/README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
EXAMPLES = [block for block in BLOCKS if "async def main" in block]


def test_all_are_found() -> None:
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("number", range(4))
async def test_an_example(
    server: Server, api: Api, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    await api.reset({"host": {"load": 0.5}})
    names: dict[str, Any] = {name: getattr(triode_client, name) for name in triode_client.__all__}
    source = EXAMPLES[number].replace("trio.run(main)", "")
    exec(source.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}"), names)
    with trio.move_on_after(1 if "async for change" in source else 10) as scope:
        await names["main"]()
    assert scope.cancelled_caught == ("async for change" in source)
    expected = ["0.5", "'.shop.prices.BTC': 6", "'log': ['hello'], 'a': 1", "True say"]
    assert expected[number] in capsys.readouterr().out

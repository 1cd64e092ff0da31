"""Large answers: whole and unmixed while the document changes, and without a pin left behind."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import trio

from tests.app.web import Answer, Web, serving
from triode.app.blueprints.json_answer import PIECE_BYTES, item_pieces
from triode.store.value import encode


def big(items: int = 3000) -> dict[str, Any]:
    return {"rows": [{"id": number, "text": "x" * 200} for number in range(items)], "n": 0}


def pins(web: Web) -> int:
    return web.triode.store.document._pins


@pytest.mark.parametrize(
    "target", ["/store?path=.", "/store?path=.rows[*]", "/store?filter=.rows,.n"]
)
async def test_a_large_answer_comes_in_pieces(target: str) -> None:
    async with serving(big()) as web:
        pieces: list[int] = []
        seen = 0

        async def take(answer: Answer) -> None:
            nonlocal seen
            pieces.append(len(answer.body) - seen)
            seen = len(answer.body)
            assert pins(web) == 1

        answer = await web.run(web.exchange("GET", target, take=take))
        assert answer.complete
        assert len(answer.json()) in (2, 3000)
        assert len(pieces) > 4
        assert max(pieces) < 4 * PIECE_BYTES
        assert pins(web) == 0


async def test_writes_meanwhile_do_not_show() -> None:
    async with serving(big()) as web:
        writes = 0

        async def take(_answer: Answer) -> None:
            nonlocal writes
            writes += 1
            await web.json("PUT", f"/store?path=.rows[{writes * 100}].text", "changed")
            await web.json("PATCH", "/store?path=.n", writes)
            await web.json("DELETE", "/store?path=.rows[-1]")

        answer = await web.run(web.exchange("GET", "/store?path=.", take=take))
        assert writes > 4
        assert answer.json() == big()
        assert web.triode.store.document.get(("n",)) == writes
        assert (await web.json("GET", "/store?path=.rows"))[100]["text"] == "changed"


async def test_a_client_that_hangs_up_leaves_no_pin() -> None:
    async with serving(big()) as web:

        async def take(_answer: Answer) -> None:
            exchange.hang_up.set()
            await trio.sleep_forever()

        exchange = web.exchange("GET", "/store?path=.", take=take)
        answer = await web.run(exchange)
        assert not answer.complete
        assert pins(web) == 0


async def test_hanging_up_before_the_head_is_sent_leaves_no_pin() -> None:
    async with serving(big()) as web:
        exchange = web.exchange("GET", "/store?path=.")

        async def stuck(_message: dict[str, Any]) -> None:
            exchange.hang_up.set()
            await trio.sleep_forever()

        exchange.send = stuck  # type: ignore[assignment,method-assign]
        await web.run(exchange)
        gc.collect()
        assert pins(web) == 0


async def test_head_of_a_large_value_holds_no_pin() -> None:
    async with serving(big()) as web:
        answer = await web.ask("HEAD", "/store?path=.")
        assert answer.status == 200
        assert "Content-Length" not in answer.headers
        assert pins(web) == 0


async def test_small_answers_say_how_long_they_are() -> None:
    async with serving(big(3)) as web:
        answer = await web.ask("GET", "/store?path=.")
        assert int(answer.headers["Content-Length"]) == len(answer.body)


def test_items_are_the_json_they_should_be() -> None:
    items: list[tuple[tuple[str | int, ...], Any]] = [
        ((), None),
        (("a b", 0), "é" * PIECE_BYTES),
        (("c",), [1] * PIECE_BYTES),
    ]
    wanted = [
        {"path": ".", "value": None},
        {"path": '["a b"][0]', "value": "é" * PIECE_BYTES},
        {"path": ".c", "value": [1] * PIECE_BYTES},
    ]
    assert b"".join(item_pieces(iter(items))) == encode(wanted)
    assert b"".join(item_pieces(iter(()))) == b"[]"


async def test_a_download_too_many_is_503_and_small_reads_are_answered() -> None:
    wide = {f"key{number}": "x" * 20 for number in range(5_000)}
    async with serving(wide, pins_bytes=150_000) as web:
        pinned = web.triode.store.document.pin
        with pinned():
            await web.json("PUT", "/store?path=.key0", "1")
            assert (await web.ask("GET", "/store?path=.")).status == 200
            with pinned():
                await web.json("PUT", "/store?path=.key0", "2")
                for target in ("/store?path=.", "/store?path=.*", "/store?filter=.*,.key1"):
                    refused = await web.ask("GET", target)
                    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
                for target in ("/store?path=.key0", "/store?filter=.key0,.key1"):
                    assert (await web.ask("GET", target)).status == 200
                assert (await web.ask("HEAD", "/store?path=.")).status == 200
                account = web.triode.ledger.accounts["pins"]
                assert account.refused == 3
                assert account.held > account.bound
                assert pins(web) == 2
        assert (await web.ask("GET", "/store?path=.")).status == 200

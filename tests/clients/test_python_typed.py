"""The Python client's values of the program's own types, and its transactions."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import pydantic
import pytest
import trio

from tests.behaviour.api import Api
from tests.behaviour.server import Server
from tests.clients.doors import Connect
from triode_client import MISSING, Changed, WrongType
from triode_client.typed import converter, jsonable


class Order(msgspec.Struct):
    total: float
    paid: bool = False


class Item(pydantic.BaseModel):
    name: str
    count: int = 1


@dataclass
class Point:
    x: int
    y: int


# ── types ───────────────────────────────────────────────────────────────────────────────────────


async def test_values_have_the_programs_types(connect: Connect, server: Server, api: Api) -> None:
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        await t.set(".", {"orders": {}, "item": None})
        await t.set(".orders.17", Order(20))
        await t.set(".item", Item(name="nut"))
        await t.set(".points", [Point(1, 2)])
        assert await api.get(".orders") == {"17": {"total": 20.0, "paid": False}}
        assert await t.get(".orders.17", type=Order) == Order(20)
        assert await t.get(".item", type=Item) == Item(name="nut")
        assert await t.get(".points", type=list[Point]) == [Point(1, 2)]
        assert await t.get(".none", type=Order) is MISSING
        assert await t.get(".orders.*", type=dict[str, Order]) == {'.orders["17"]': Order(20)}
        async with t.view(".orders", type=dict[str, Order]) as view:
            assert view.value == {"17": Order(20)}
        with t.watch(".orders.17", type=Order) as watch:
            assert (await anext(watch)).value == Order(20)
            await t.set(".orders.17.paid", True)
            assert (await anext(watch)).value == Order(20, paid=True)
            await t.set(".orders.17", {"total": "much"})
            with pytest.raises(WrongType, match="Order") as caught:
                await anext(watch)
            assert caught.value.value == {"total": "much"}
            await t.delete(".orders.17")
            assert (await anext(watch)).value is MISSING


def test_a_pydantic_model_inside_another_type_is_pydantics() -> None:
    assert converter(dict[str, list[Item]])({"a": [{"name": "x"}]}) == {"a": [Item(name="x")]}
    with pytest.raises(WrongType):
        converter(list[Item])([{"count": 1}])


def test_without_a_type_a_value_is_what_it_was() -> None:
    value = {"a": [1]}
    assert converter(None)(value) is value


def test_where_nothing_knows_types_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unknown: ...

    for name in ("msgspec", "pydantic"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TypeError, match="pip install"):
        converter(Unknown)


@pytest.mark.parametrize("value", [object(), {1}, b"", Order, Point])
def test_what_is_no_instance_of_such_a_class_is_no_json(value: Any) -> None:
    with pytest.raises(TypeError, match="not JSON"):
        jsonable(value)


# ── transactions ────────────────────────────────────────────────────────────────────────────────


async def test_nothing_is_lost_among_many_transactions(
    connect: Connect, server: Server, api: Api
) -> None:
    await api.reset({"n": 0})
    tried = 0

    def increment(value: int) -> int:
        nonlocal tried
        tried += 1
        return value + 1

    url = f"http://127.0.0.1:{server.port}"
    async with connect(url) as first, connect(url) as second:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(first.transaction, ".n", increment)
                nursery.start_soon(second.transaction, ".n", increment)
        assert await first.get(".n") == 20
    assert tried > 20, "nobody was faster than another"


async def test_a_transaction_makes_changes_and_removes(
    connect: Connect, server: Server, api: Api
) -> None:
    async with connect(f"http://127.0.0.1:{server.port}") as t:
        seen: list[Any] = []

        def add(value: Any) -> Any:
            seen.append(value)
            return [*(value or []), len(seen)]

        assert await t.transaction(".new.list", add) == [1]
        assert await t.transaction(".new.list", add) == [1, 2]
        assert seen == [MISSING, [1]]
        assert await t.transaction(".new.list", lambda _: MISSING) is MISSING
        assert await t.get(".new") == {}
        assert await t.transaction(".new.list", lambda _: MISSING) is MISSING
        with pytest.raises(ZeroDivisionError):
            await t.transaction(".new", lambda _: 1 // 0)
        paid = await t.transaction(".o", lambda _: Order(3), type=Order)
        assert paid == Order(3)
        await t.transaction(".o", lambda order: Order(order.total + 1), type=Order)
        assert await api.get(".o") == {"total": 4.0, "paid": False}


async def test_a_transaction_that_never_comes_first_is_given_up(
    connect: Connect, server: Server, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("client", "sync"):
        monkeypatch.setattr(f"triode_client.{module}.TRANSACTION_TRIES", 3)
    await api.reset({"n": 0})
    tried = 0
    url = f"http://127.0.0.1:{server.port}"
    with httpx.Client(base_url=url) as other:

        def beaten(_: int) -> int:
            nonlocal tried
            tried += 1
            other.put("/store", params={"path": ".n"}, json=tried).raise_for_status()
            return -1

        async with connect(url) as t:
            with pytest.raises(Changed):
                await t.transaction(".n", beaten)
    assert tried == 3
    assert await api.get(".n") == 3

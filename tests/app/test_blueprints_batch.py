"""`POST /store/batch`: an answer for each command, whatever the others are."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from tests.app.web import ADMIN, Web, serving
from triode.app.blueprints import batch as batch_module
from triode.app.blueprints.batch import split_lines
from triode.app.runtime.effort import Effort

NDJSON = {"Content-Type": "application/x-ndjson"}


async def batch(web: Web, raw: bytes) -> list[Any]:
    answer = await web.ask("POST", "/store/batch", raw=raw, headers=NDJSON)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    text = answer.body.decode()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def lines(*commands: Any) -> bytes:
    return b"".join(json.dumps(command).encode() + b"\n" for command in commands)


async def test_each_command_has_its_answer_in_order() -> None:
    async with serving({"n": 1}) as web:
        epoch = web.triode.store.epoch
        answers = await batch(
            web,
            lines(
                {"type": "set", "path": ".a", "value": 1, "ref": "x"},
                {"type": "increment", "path": ".n", "ref": None},
                {"type": "get", "filter": ".n"},
                {"type": "batch", "ops": [{"type": "delete", "path": ".a"}], "ref": 0},
                {"type": "publish", "room": "r", "event": "e"},
            ),
        )
        assert answers[0] == {"type": "ok", "ref": "x", "ok": True, "id": f"{epoch}:1"}
        assert answers[1] == {"type": "ok", "ref": None, "ok": True, "id": f"{epoch}:2"}
        assert answers[2]["items"] == [{"path": ".n", "value": 2}]
        assert answers[3] == {"type": "ok", "ref": 0, "ok": True, "positions": [f"{epoch}:3"]}
        assert answers[4] == {"type": "ok", "ok": True, "reached": 0}
        assert web.triode.store.document.root == {"n": 2}


async def test_a_bad_line_has_its_own_error_and_the_others_go_on() -> None:
    async with serving({}) as web:
        raw = b'{"type":"set","path":".a","value":1}\r\n{oops\n\n  \n[1]\n' + lines(
            {"type": "set", "path": ".x.y", "value": 1, "ref": 5},
            {"type": "fly", "ref": [1]},
            {"type": "set", "path": ".a", "value": 2},
        )
        answers = await batch(web, raw.removesuffix(b"\n"))
        assert [answer["ok"] for answer in answers] == [True, False, False, False, False, True]
        assert answers[1]["error"]["status"] == 400
        assert answers[1]["error"]["line"] == 2
        assert answers[1]["type"] == "error"
        assert answers[1]["status"] == 400
        assert answers[3]["ref"] == 5
        assert answers[3]["error"]["status"] == 404
        assert "ref" not in answers[4]
        assert web.triode.store.document.root == {"a": 2}


async def test_an_array_is_answered_with_an_array() -> None:
    async with serving({}) as web:
        commands = [{"type": "set", "path": f".k{i}", "value": i, "ref": i} for i in range(120)]
        answers = await web.json("POST", "/store/batch", [*commands, "junk"])
        assert [answer.get("ref") for answer in answers[:-1]] == list(range(120))
        assert answers[-1]["ok"] is False
        assert await web.json("POST", "/store/batch", []) == []
        await web.problem(400, "POST", "/store/batch", {"type": "get"})
        assert await batch(web, b"\n\n") == []


async def test_grants_hold_for_each_command() -> None:
    async with serving({"a": 1, "b": 2}, admin_token=ADMIN, token=ADMIN) as web:
        grant = {"read": [".a"], "write": [".a"]}
        secret = (await web.json("POST", "/tokens", grant))["token"]
        answers = await batch(
            web.with_token(secret),
            lines(
                {"type": "set", "path": ".a", "value": 5},
                {"type": "set", "path": ".b", "value": 5},
                {"type": "get", "filter": "."},
            ),
        )
        assert [answer["ok"] for answer in answers] == [True, False, False]
        assert answers[1]["error"]["status"] == 403


async def test_large_gets_are_whole_and_hold_no_pin() -> None:
    big = {f"key{i}": "x" * 1000 for i in range(1000)}
    async with serving({"big": big, "n": 0}) as web:
        answers = await batch(
            web,
            lines(
                {"type": "get", "filter": ".big", "ref": 1},
                {"type": "set", "path": ".n", "value": 1},
                {"type": "get", "filter": ".big"},
            ),
        )
        assert answers[0]["ref"] == 1
        assert answers[0]["items"][0]["value"] == big
        assert answers[2]["items"][0]["value"] == big
        many = [{"type": "get", "filter": ".big"}] * 2
        assert len(await web.json("POST", "/store/batch", many)) == 2
        assert web.triode.store.document._pins == 0


async def test_other_tasks_run_between_the_commands() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with serving({}) as web, trio.open_nursery() as nursery:
        nursery.start_soon(count)
        before = turns
        await batch(web, lines({"type": "set", "path": ".a", "value": 1}) * 5000)
        nursery.cancel_scope.cancel()
        assert turns - before > 5000 / 50


async def test_a_bug_in_one_command_is_a_500_in_its_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving({}) as web:

        async def broken(*_arguments: Any, **_named: Any) -> Any:
            raise ZeroDivisionError("inside")

        monkeypatch.setattr(batch_module, "carry_out", broken)
        answers = await batch(web, lines({"type": "delete", "path": ".a", "ref": 1}))
        assert answers[0]["error"]["status"] == 500
        assert "inside" not in json.dumps(answers)
        assert "ZeroDivisionError" in caplog.text
        assert web.triode.metrics.errors_total == 1


async def test_wrong_types_are_refused() -> None:
    async with serving({}) as web:
        await web.problem(
            415, "POST", "/store/batch", raw=b"{}", headers={"Content-Type": "text/plain"}
        )


def test_lines_are_numbered_as_an_editor_does() -> None:
    assert list(split_lines(bytearray(b"a\n\r\n b \n\nc"))) == [(1, b"a"), (3, b"b"), (5, b"c")]
    assert list(split_lines(bytearray())) == []


async def test_blank_lines_give_way_to_others() -> None:
    """Five million of them held everybody up for two seconds."""
    many = b"\n" * 2500 + lines({"type": "set", "path": ".a", "value": 1})
    assert [number for number, _ in split_lines(many)] == [1000, 2000, 2501]
    async with serving({}) as web:
        [answer] = await batch(web, many)
        assert answer["ok"] is True


async def test_the_answers_are_bounded_and_the_rest_is_not_carried_out() -> None:
    async with serving({"n": 0}, max_answer_bytes=1024) as web:
        add = {"type": "increment", "path": ".n"}
        answers = await batch(
            web, lines(*[add] * 10, {"type": "set", "path": ".x.y", "value": 1}) * 90
        )
        assert answers[-1]["status"] == 422
        assert answers[-1]["error"]["limit"] == 1024
        assert answers[-1]["error"]["line"] == len(answers)
        assert sum(len(json.dumps(one, separators=(",", ":"))) for one in answers[:-2]) < 1024
        done = [one for one in answers if one["ok"]]
        assert web.triode.store.document.root == {"n": len(done)}
        many = await web.json("POST", "/store/batch", [{"type": "get", "filter": ".n"}] * 100)
        assert many[-1]["error"]["index"] == len(many) - 1 < 99
        # What fits is not touched.
        assert [one["ok"] for one in await batch(web, lines(add))] == [True]


async def test_a_batch_is_charged_and_costs_no_more_than_a_share() -> None:
    async with serving({}, cpu_share_s=0.05) as web:
        answers = await batch(web, b"{\n" * 20_000)
        assert len(answers) < 20_000
        assert answers[-1]["status"] == 429
        assert answers[-1]["error"]["line"] == len(answers)
        assert answers[-1]["error"]["retry_after"] >= 1
        assert web.triode.gate.cpu.charged >= 50_000


async def test_each_slice_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0

    class Counted(Effort):
        async def turn(self) -> bool:
            nonlocal turns
            turns += 1
            return await super().turn()

    monkeypatch.setattr(batch_module, "Effort", Counted)
    async with serving({}) as web:
        await batch(web, b"{\n" * 5_000)
        assert turns >= 5_000 / batch_module.SLICE

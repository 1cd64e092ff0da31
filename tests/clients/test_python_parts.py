"""The Python client's parts that need no server: delays, targets, options, the outbox, errors."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from triode_client import Lost, NotFound, Options, RateLimited, Refused, TriodeError, Unsent, op
from triode_client.backoff import Backoff
from triode_client.connection import read_retry_s
from triode_client.errors import refused
from triode_client.outbox import Call, Outbox
from triode_client.plan import Plan
from triode_client.target import read_target
from triode_client.task_group import bare_task_group

# ── delays ──────────────────────────────────────────────────────────────────────────────────────


def test_delays_double_to_a_cap_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(1, 30, 0)
    assert [backoff.next_s() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    backoff.reset()
    assert backoff.next_s() == 1


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 5000))
def test_a_delay_is_jittered_downwards_and_never_overflows(
    jitter: float, drawn: float, failures: int
) -> None:
    backoff = Backoff(1, 30, jitter, lambda: drawn)
    backoff.failures = failures
    most = min(30, 2.0 ** min(failures, 62))
    assert most * (1 - jitter) * (1 - 1e-9) <= backoff.next_s() <= most


def test_the_defaults(cases: Any) -> None:
    lines = (cases / "client.jsonl").read_text().splitlines()
    named = {case["name"]: case["expect"] for case in map(json.loads, lines)}
    options, expect = Options(), named["defaults"]
    assert options.attempts == expect["attempts"]
    assert options.delay_s == expect["delay_s"]
    assert options.connect_s == expect["timeout_s"]
    backoff = Backoff(options.delay_s, options.max_delay_s, 0)
    waits = named["exponential backoff"]["waits_s"]
    assert [backoff.next_s() for _ in waits] == waits


@pytest.mark.parametrize(
    "wrong",
    [{"connect_s": 0}, {"attempts": 0}, {"jitter": 2}, {"queue": 0}, {"idle_s": float("nan")}],
)
def test_options_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Options(**wrong)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [(1500, 1.5), (0, 0.0), (10**9, 300.0), (-1, None), ("5", None), (None, None), (True, None)],
)
def test_a_delay_that_the_server_asks_for(told: Any, seconds: float | None) -> None:
    assert read_retry_s(told) == seconds


# ── targets ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/ws"),
        ("http://127.0.0.1:8080/", "ws://127.0.0.1:8080/ws"),
        ("https://example.org", "wss://example.org/ws"),
        ("ws://example.org", "ws://example.org/ws"),
        ("wss://example.org:444/game/7", "wss://example.org:444/game/7"),
        ("http://[::1]:9", "ws://[::1]:9/ws"),
        # A server that is mounted below a path.
        ("http://h/live", "ws://h/live/ws"),
        ("http://h/live/", "ws://h/live/ws"),
        ("https://h/live/ws", "wss://h/live/ws"),
        ("http://h/live/ws/", "ws://h/live/ws"),
        ("http://h/news", "ws://h/news/ws"),
        ("ws://h/live/ws", "ws://h/live/ws"),
    ],
)
def test_where_a_url_points(url: str, text: str) -> None:
    assert str(read_target(url)) == text


def test_tags_and_a_query_go_into_the_resource() -> None:
    target = read_target("ws://h/ws?policy=latest", {"kind": "a&b", "é": "1"})
    assert target.resource == "/ws?policy=latest&tag.kind=a%26b&tag.%C3%A9=1"
    assert str(target) == "ws://h/ws"


@pytest.mark.parametrize(
    "url", ["", "example.org", "ftp://x", "http://", "http://u:p@h", "ws://h:x"]
)
def test_what_is_no_url_of_a_server(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        read_target(url)


@pytest.mark.parametrize(
    ("url", "is_open"),
    [("http://h", True), ("https://h", False), ("http://localhost", False),
     ("ws://127.8.0.1", False), ("ws://[::1]", False), ("ws://10.0.0.1", True)],
)  # fmt: skip
def test_whether_what_is_sent_can_be_read_on_its_way(url: str, is_open: bool) -> None:
    assert read_target(url).is_open is is_open


# ── the outbox ──────────────────────────────────────────────────────────────────────────────────


def ok(call: Call, **members: Any) -> dict[str, Any]:
    return {"type": "ok", "ref": call.ref, **members}


def too_many(call: Call, retry_after: float) -> dict[str, Any]:
    return {"type": "error", "ref": call.ref, "status": 429, "retry_after": retry_after}


async def test_without_a_connection_the_oldest_is_dropped_and_told() -> None:
    outbox = Outbox(3)
    calls = [Call(op.set(".a", n)) for n in range(5)]
    for call in calls:
        outbox.put(call)
    assert [isinstance(call.error, Unsent) for call in calls] == [True, True, False, False, False]
    outbox.open()
    sent = []
    for _ in range(3):
        call = await outbox.next()
        sent.append(json.loads(call.text)["value"])
        outbox.settle(ok(call))
    assert sent == [2, 3, 4]
    assert len(outbox) == 0


async def test_what_has_waited_is_sent_one_at_a_time_and_again_if_there_were_too_many(
    autojump_clock: MockClock,
) -> None:
    outbox = Outbox(10)
    first, second = Call(op.set(".a", 1)), Call(op.set(".a", 2))
    outbox.put(first)
    outbox.put(second)
    outbox.open()
    late = Call(op.set(".a", 3))
    outbox.put(late)
    assert await outbox.next() is first
    with trio.move_on_after(1) as waiting:
        await outbox.next()
    assert waiting.cancelled_caught  # not the second, before the first is answered
    outbox.settle(too_many(first, 2.5))
    began = trio.current_time()
    assert await outbox.next() is first
    assert trio.current_time() - began == pytest.approx(2.5)
    outbox.settle(ok(first))
    for call in (second, late):
        assert await outbox.next() is call
        outbox.settle(ok(call))
    assert late.settled.is_set()


async def test_with_a_connection_nothing_waits_for_answers_and_a_refusal_is_told() -> None:
    outbox = Outbox(2)
    outbox.open()
    calls = [Call(op.set(".a", n)) for n in range(5)]
    for call in calls:
        outbox.put(call)
    assert [await outbox.next() for _ in calls] == calls
    outbox.settle(too_many(calls[3], 1))
    assert isinstance(calls[3].error, RateLimited)
    assert calls[3].error.retry_after_s == 1


async def test_what_makes_the_connection_goes_first_and_is_sent_again_in_any_order(
    autojump_clock: MockClock,
) -> None:
    outbox = Outbox(2)
    outbox.open()
    write = Call(op.set(".a", 1))
    settled: list[Call] = []
    control = Call({"type": "ping"}, then=settled.append)
    outbox.put(write)
    outbox.put_control(control)
    assert [await outbox.next(), await outbox.next()] == [control, write]
    outbox.settle(too_many(control, 3))
    assert not settled
    assert await outbox.next() is control
    assert trio.current_time() >= 3
    outbox.settle(ok(control))
    assert settled == [control]


def a_write(n: int = 1) -> Call:
    return Call(op.set(".a", n), is_write=True)


def key_of(call: Call) -> str:
    return str(json.loads(call.text)["key"])


async def test_a_cut_loses_messages_and_forgets_what_made_the_connection() -> None:
    outbox = Outbox(10)
    outbox.open()
    told: list[Call] = []
    message, read = Call({"type": "publish"}), Call({"type": "get", "filter": "."}, is_read=True)
    given_up = Call({"type": "get", "filter": "."}, is_read=True)
    later = a_write(2)
    for call in (message, read, given_up):
        outbox.put(call)
        await outbox.next()
    outbox.put_control(Call({"type": "ping"}, then=told.append))
    await outbox.next()
    outbox.put(later)
    outbox.forget(given_up)
    outbox.cut("it broke")
    assert isinstance(message.error, Lost)
    assert "it broke" in str(message.error)
    assert not told
    assert not read.settled.is_set()
    outbox.open()
    assert await outbox.next() is read
    outbox.settle(ok(read, items=[]))
    assert await outbox.next() is later
    outbox.settle({"type": "error", "ref": later.ref, "status": 404, "title": "Not found"})
    assert isinstance(later.error, NotFound)


async def test_writes_are_sent_again_with_their_keys_and_before_all_others() -> None:
    outbox = Outbox(10)
    outbox.open()
    writes = [a_write(n) for n in range(4)]
    for call in writes[:3]:
        outbox.put(call)
        await outbox.next()
    outbox.settle(ok(writes[0]))
    outbox.forget(writes[2])  # its task was cancelled: whether it was done is not known
    outbox.put(writes[3])
    texts = [call.text for call in writes]
    assert len({key_of(call) for call in writes}) == 4
    for _ in range(2):
        outbox.cut("it broke")
        outbox.open()
        assert await outbox.next() is writes[1]
    assert [call.text for call in writes] == texts
    assert isinstance(writes[2].error, Lost)
    outbox.settle(ok(writes[1]))
    assert await outbox.next() is writes[3]


async def test_clients_do_not_share_keys() -> None:
    keys = set()
    for _ in range(3):
        outbox = Outbox(10)
        call = a_write()
        outbox.put(call)
        keys.add(key_of(call))
    assert len(keys) == 3
    assert all(1 <= len(key) <= 40 for key in keys)


@pytest.mark.parametrize("when", ["soon", "late", "too late"])
async def test_a_write_is_not_sent_again_when_the_server_may_have_forgotten_it(
    autojump_clock: MockClock, when: str
) -> None:
    outbox = Outbox(10)
    outbox.open()
    old, new = a_write(1), a_write(2)
    outbox.put(old)
    await outbox.next()
    await trio.sleep(200 if when == "late" else 1)
    outbox.cut("it broke")
    outbox.put(new)
    await trio.sleep(1 if when == "soon" else 200)
    outbox.open()
    expected = old if when == "soon" else new
    if when == "too late":
        outbox.cut("it broke")
        await trio.sleep(200)
        outbox.open()
    assert await outbox.next() is expected
    assert isinstance(old.error, Lost) == (expected is new)


@pytest.mark.parametrize(("went_on_s", "is_lost"), [(100, False), (400, True), (-5, True)])
async def test_a_clock_that_stood_still_while_the_machine_slept_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, went_on_s: int, is_lost: bool
) -> None:
    now = time.time()
    outbox = Outbox(10)
    outbox.open()
    old, new = a_write(1), a_write(2)
    outbox.put(old)
    await outbox.next()
    outbox.cut("it broke")
    outbox.put(new)
    monkeypatch.setattr("triode_client.outbox.time.time", lambda: now + went_on_s)
    outbox.open()
    assert await outbox.next() is (new if is_lost else old)
    assert isinstance(old.error, Lost) == is_lost


@pytest.mark.parametrize("how", ["renewed before", "renewed after", "asked for another"])
async def test_a_write_is_not_sent_again_as_the_holder_of_another_token(how: str) -> None:
    outbox = Outbox(10)
    outbox.open()
    write = a_write()
    renewal = Call({"type": "auth"}, is_renewal=True, then=lambda _: None)
    for call in (renewal, write) if how == "renewed before" else (write, renewal):
        if call is write:
            outbox.put(call)
        elif how != "asked for another":
            outbox.put_control(call)
        else:
            continue
        assert await outbox.next() is call
    outbox.cut("it broke", same_token=how != "asked for another")
    assert isinstance(write.error, Lost) == (how != "renewed before")


async def test_a_write_whose_outcome_the_server_does_not_know_is_sent_again() -> None:
    outbox = Outbox(10)
    outbox.open()
    write = a_write()
    outbox.put(write)
    await outbox.next()
    outbox.settle(
        {"type": "error", "ref": write.ref, "status": 503, "title": "Outcome unknown", "detail": ""}
    )
    assert not write.settled.is_set()
    outbox.cut("it ended")
    outbox.open()
    assert await outbox.next() is write


async def test_it_is_sent_again_on_the_same_connection_too(autojump_clock: MockClock) -> None:
    outbox = Outbox(10)
    outbox.open()
    write = a_write()
    outbox.put(write)
    text = (await outbox.next()).text
    unknown = {"status": 503, "title": "Outcome unknown", "detail": "", "retry_after": 3}
    outbox.settle({"type": "error", "ref": write.ref, **unknown})
    since = trio.current_time()
    with trio.fail_after(60):
        assert (await outbox.next()).text == text
    assert trio.current_time() - since == pytest.approx(3)
    outbox.settle(ok(write))
    assert write.error is None


async def test_what_was_sent_before_is_lost_and_not_unsent() -> None:
    outbox = Outbox(1)
    outbox.open()
    sent, other, last = a_write(1), a_write(2), a_write(3)
    outbox.put(sent)
    await outbox.next()
    outbox.cut("it broke")
    outbox.put(other)
    assert isinstance(sent.error, Lost)
    outbox.put(last)
    assert isinstance(other.error, Unsent)
    outbox.open()
    await outbox.next()
    outbox.cut("it broke")
    outbox.end(TriodeError("left"))
    assert isinstance(last.error, Lost)


async def test_a_command_that_nobody_waits_for_is_not_sent() -> None:
    outbox = Outbox(10)
    first, second = Call(op.set(".a", 1)), Call(op.set(".a", 2))
    outbox.put(first)
    outbox.put(second)
    outbox.forget(first)
    outbox.open()
    assert await outbox.next() is second


async def test_the_sender_sleeps_until_there_is_something(autojump_clock: MockClock) -> None:
    outbox = Outbox(10)
    outbox.open()
    got: list[Call] = []

    async def send() -> None:
        got.append(await outbox.next())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        assert not got
        outbox.put(Call(op.delete(".a")))
    assert len(got) == 1


@pytest.mark.parametrize("kind", ["control", "patient"])
async def test_what_is_refused_for_the_rate_wakes_a_sender_that_sleeps(
    autojump_clock: MockClock, kind: str
) -> None:
    """It was sent again only when something else was to be sent."""
    outbox = Outbox(10)
    outbox.open()
    if kind == "control":
        call = Call({"type": "ping"}, then=lambda _: None)
        outbox.put_control(call)
    else:
        call = Call(op.delete(".a"), is_patient=True)
        outbox.put(call)
    sent: list[tuple[Call, float]] = []

    async def send() -> None:
        while len(sent) < 2:
            sent.append((await outbox.next(), trio.current_time()))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            outbox.settle(too_many(call, 2))
    assert [each for each, _ in sent] == [call, call]
    assert sent[1][1] == pytest.approx(2)


async def test_at_the_end_everybody_is_told() -> None:
    outbox = Outbox(10)
    call, error = Call(op.set(".a", 1)), TriodeError("over")
    outbox.put(call)
    outbox.end(error)
    assert call.error is error


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, b""])
async def test_what_is_no_json_fails_where_it_is_given(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Call(op.set(".a", value))


# ── errors ──────────────────────────────────────────────────────────────────────────────────────


def test_a_refusal_has_the_class_of_its_status() -> None:
    for status, name in [(401, "NotAllowed"), (403, "NotAllowed"), (404, "NotFound"),
                         (412, "Changed"), (429, "RateLimited"), (400, "Refused")]:  # fmt: skip
        error = refused({"status": status, "title": "T", "detail": "d"})
        assert type(error).__name__ == name
        assert str(error) == "T: d"
    assert Refused({"status": 503}).is_temporary
    assert not Refused({"status": 403}).is_temporary


@asynccontextmanager
async def block() -> AsyncIterator[None]:
    async with bare_task_group() as tasks:
        tasks.start_soon(trio.sleep_forever)
        yield
        tasks.cancel_scope.cancel()


async def test_an_exception_of_the_body_comes_out_as_it_was() -> None:
    error, context = ValueError("mine"), KeyError("before")
    error.__context__ = context
    with pytest.raises(ValueError, match="mine") as caught:
        async with block():
            raise error
    assert caught.value is error
    assert error.__context__ is context


async def test_a_group_of_the_body_stays_a_group() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with block():
            raise ExceptionGroup("two", [ValueError("a")])
    assert caught.value.message == "two"


async def test_a_cancelled_body_is_cancelled() -> None:
    with trio.move_on_after(0) as scope:
        async with block():
            await trio.sleep_forever()
    assert scope.cancelled_caught


def test_only_what_a_triode_says_at_a_reconnect_is_final() -> None:
    """A proxy whose server is away answers with 404, 403, 302 or 521."""
    plan = Plan(Options(jitter=0), can_renew=False)
    for status in (302, 403, 404, 521):
        refusal = refused({"status": status})
        refusal.is_triodes = False
        with pytest.raises(Refused):  # a wrong address is told at once
            plan.delay_s(refusal)
        plan.was_connected = True
        assert plan.delay_s(refusal) > 0
        refusal.is_triodes = True
        with pytest.raises(Refused):
            plan.delay_s(refusal)
        plan.was_connected = False

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.limits.rate import (
    PRESETS,
    RETRY_AFTER_MAX_S,
    Buckets,
    Rate,
    Verdict,
    limit_field,
    parse_rate,
    per_replica,
    policy_field,
    rate_headers,
    retry_after,
)

EPOCH_S = 1_763_692_800.123  # a Unix time: what is left of a double's digits is the point


def count(buckets: Buckets, key: str, now: float, tries: int) -> int:
    return sum(buckets.allow(key, now) for _ in range(tries))


@pytest.mark.parametrize("rps", [0.1, 1 / 3, 1, 7, 10, 99.9, 100, 1e4])
@pytest.mark.parametrize("burst", [1, 2, 3, 20, 200, 10_000])
@pytest.mark.parametrize("now", [0.0, 0.1, 12_345.678, EPOCH_S])
def test_burst_is_exact_at_one_instant(rps: float, burst: int, now: float) -> None:
    assert count(Buckets(Rate(rps, burst)), "k", now, burst + 5) == burst


@given(
    rps=st.floats(0.01, 1e4),
    burst=st.integers(1, 300),
    start=st.floats(0, 2e9),
    steps=st.lists(st.floats(0, 5), max_size=30),
)
@settings(max_examples=150, deadline=None)
def test_never_more_than_burst_plus_refill_and_never_fewer_than_owed(
    rps: float, burst: int, start: float, steps: list[float]
) -> None:
    buckets, now, level = Buckets(Rate(rps, burst)), start, float(burst)
    for step in steps:
        later = now + step
        level, now = min(burst, level + (later - now) * rps), later
        allowed = buckets.allow("k", now)
        if abs(level - 1) > 0.01:  # away from the edge the plain token bucket is the model
            assert allowed == (level >= 1)
        level -= allowed


def test_take_and_allow_are_one_rule() -> None:
    one, two = Buckets(Rate(10, 5)), Buckets(Rate(10, 5))
    for step in range(200):
        now = EPOCH_S + step * 0.037
        assert one.allow("k", now) == two.take("k", now).allowed


def test_waiting_as_told_is_enough() -> None:
    buckets, now = Buckets(Rate(3, 2)), EPOCH_S
    for _ in range(50):
        verdict = buckets.take("k", now)
        if not verdict.allowed:
            assert verdict.retry_after_s == pytest.approx(buckets.retry_after_s("k", now), abs=1e-3)
            assert not buckets.allow("k", now + verdict.retry_after_s * 0.98)
            now += verdict.retry_after_s
            assert buckets.take("k", now).allowed
    assert now > EPOCH_S


def test_verdict_counts_down() -> None:
    buckets = Buckets(Rate(10, 3))
    verdicts = [buckets.take("k", 5.0) for _ in range(4)]
    assert [v.remaining for v in verdicts] == [2, 1, 0, 0]
    assert [v.allowed for v in verdicts] == [True, True, True, False]
    assert verdicts[0].reset_s == pytest.approx(0.1)
    assert verdicts[3].retry_after_s == pytest.approx(0.1)
    assert verdicts[3].limit == 3


def test_cost() -> None:
    buckets = Buckets(Rate(10, 10))
    assert buckets.take("k", 0, 7).remaining == 3
    refused = buckets.take("k", 0, 4)
    assert (refused.allowed, refused.remaining) == (False, 3)
    assert refused.retry_after_s == pytest.approx(0.1)
    assert buckets.take("k", 0, 3).allowed
    assert buckets.take("k", 0, 11).retry_after_s == math.inf
    with pytest.raises(ValueError, match="negative"):
        buckets.take("k", 0, -1)
    with pytest.raises(ValueError, match="negative"):
        buckets.take("k", 0, math.nan)


def test_looking_counts_nothing_and_remembers_nothing() -> None:
    buckets = Buckets(Rate(10, 1))
    assert buckets.take("k", 0, 0).remaining == 1
    assert buckets.retry_after_s("k", 0) == 0
    assert len(buckets) == 0
    assert buckets.allow("k", 0)
    assert buckets.retry_after_s("k", 0) == pytest.approx(0.1)


def test_keys_are_independent() -> None:
    buckets = Buckets(Rate(1, 1))
    assert [buckets.allow(key, 0) for key in "aabb"] == [True, False, True, False]


def test_refill_is_capped() -> None:
    buckets = Buckets(Rate(10, 2))
    assert count(buckets, "k", 0, 5) == 2
    assert count(buckets, "k", 1e6, 5) == 2


# ---- changing the rate ----


def test_raising_gives_the_difference_at_once() -> None:
    buckets = Buckets(Rate(1, 5))
    assert count(buckets, "k", 0, 9) == 5
    buckets.set_rate(Rate(100, 12))
    assert buckets.rate == Rate(100, 12)
    assert count(buckets, "k", 0, 20) == 7
    assert count(buckets, "k", 0.05, 20) == 5  # the new rps


def test_lowering_keeps_what_was_left_up_to_the_new_burst() -> None:
    buckets = Buckets(Rate(10, 10))
    assert count(buckets, "little", 0, 1) == 1
    assert count(buckets, "much", 0, 9) == 9
    assert count(buckets, "all", 0, 10) == 10
    buckets.set_rate(Rate(1, 2))
    assert [count(buckets, key, 0, 9) for key in ("little", "much", "all")] == [2, 1, 0]
    assert count(buckets, "all", 1.0, 9) == 1  # nobody waits for the old burst
    assert count(buckets, "new", 1.0, 9) == 2


def test_setting_the_same_rate_changes_nothing() -> None:
    buckets, steady = Buckets(Rate(10, 5)), Buckets(Rate(10, 5))
    for step in range(100):
        now = EPOCH_S + step * 0.03
        buckets.set_rate(Rate(10, 5))
        assert buckets.allow("k", now) == steady.allow("k", now)


def test_off_and_on() -> None:
    buckets = Buckets(None)
    assert count(buckets, "k", 0, 1000) == 1000
    verdict = buckets.take("k", 0)
    assert verdict.allowed
    assert rate_headers(verdict) == {}
    assert buckets.retry_after_s("k", 0) == 0
    assert buckets.sweep(0) == 0
    buckets.set_rate(Rate(1, 1))
    assert count(buckets, "k", 0, 3) == 1
    buckets.set_rate(None)
    assert count(buckets, "k", 0, 3) == 3
    assert len(buckets) == 0


# ---- the map ----


def test_sweep_only_forgets_the_idle() -> None:
    buckets = Buckets(Rate(10, 2), idle_s=300)
    buckets.allow("old", 0)
    buckets.allow("young", 120)
    assert buckets.sweep(299) == 0
    assert buckets.sweep(360) == 1
    assert len(buckets) == 1


def test_sweep_keeps_who_still_owes() -> None:
    buckets = Buckets(Rate(1 / 3600, 1), idle_s=300)
    assert buckets.allow("k", 0)
    assert buckets.sweep(1000) == 0
    assert not buckets.allow("k", 1000)


def test_sweep_before_any_check() -> None:
    assert Buckets(Rate(1, 1)).sweep(1e9) == 0


def test_flood_of_keys_is_bounded_and_lifts_no_limit() -> None:
    buckets = Buckets(Rate(0.001, 3), max_keys=64)
    assert count(buckets, "victim", 0, 9) == 3
    for number in range(5_000):
        buckets.allow(f"flood-{number}", number * 1e-3)
        assert len(buckets) <= 64
    assert count(buckets, "victim", 5.0, 9) == 0


def test_flood_of_exhausted_keys_lifts_no_limit() -> None:
    buckets = Buckets(Rate(0.001, 3), max_keys=64)
    total = {"victim": count(buckets, "victim", 0, 9)}
    for number in range(2_000):
        key = f"flood-{number % 400}"
        total[key] = total.get(key, 0) + count(buckets, key, 1.0, 9)
    total["victim"] += count(buckets, "victim", 1.0, 9)
    assert max(total.values()) == 3
    assert len(buckets) <= 64


def test_newcomers_get_in_while_a_flood_of_single_shots_runs() -> None:
    buckets = Buckets(Rate(100, 20), max_keys=100)
    for number in range(10_000):  # 5000 new keys a second, half of max_keys * rps
        assert buckets.allow(f"flood-{number}", number / 5000)
    assert count(buckets, "honest", 2.0, 30) >= 18


def test_the_floor_wears_off() -> None:
    buckets = Buckets(Rate(1, 20), max_keys=100)
    for number in range(10_000):  # a hundred times max_keys * rps
        buckets.allow(f"flood-{number}", number * 1e-4)
    assert count(buckets, "flood-9999", 1.0, 30) == 0
    assert count(buckets, "later", 21.0, 30) == 20


def test_idle_keys_go_first_when_full() -> None:
    buckets = Buckets(Rate(10, 5), max_keys=4)
    assert count(buckets, "busy", 100, 5) == 5
    for key in "abc":
        buckets.allow(key, 0)
    buckets.allow("new", 100)
    assert len(buckets) == 2
    assert not buckets.allow("busy", 100)


def test_clock_that_steps_back_does_not_lock_anybody_out() -> None:
    buckets = Buckets(Rate(1, 2), max_keys=2)
    assert count(buckets, "k", 1e6, 2) == 2
    assert not buckets.allow("k", 0)
    assert buckets.allow("k", 1.0)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="max_keys"):
        Buckets(None, max_keys=0)
    with pytest.raises(ValueError, match="idle_s"):
        Buckets(None, idle_s=-1)


# ---- texts ----


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/20", Rate(100, 20)),
        (" 0.5/1 ", Rate(0.5, 1)),
        ("100", Rate(100, 100)),
        ("0.2", Rate(0.2, 1)),
        ("0", None),
        ("0/20", None),
        ("0.0", None),
        ("OFF", None),
        ("default", PRESETS["default"]),
        ("websocket", Rate(100, 200)),
    ],
)
def test_parse_rate(text: str, rate: Rate | None) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    ["", "/", "-1/2", "1/-2", "1/0", "1e3/1", "inf/1", "nan", "1/2/3", "١/٢", "1/2.5", "x", "1 /2"],
)
def test_parse_rate_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"rate|burst"):
        parse_rate(text)


def test_rate_prints_as_it_is_read() -> None:
    assert parse_rate(str(Rate(0.5, 3))) == Rate(0.5, 3)


@pytest.mark.parametrize(("rps", "burst"), [(0, 1), (-1, 1), (math.nan, 1), (math.inf, 1), (1, 0)])
def test_rate_refuses(rps: float, burst: int) -> None:
    with pytest.raises(ValueError, match=r"rate|burst"):
        Rate(rps, burst)


def test_replicas() -> None:
    assert [per_replica(300, n) for n in (3, 1, 0, -2)] == [100, 300, 300, 300]
    assert Rate(300, 20).share(3) == Rate(100, 7)
    assert Rate(300, 20).share(0) == Rate(300, 20)


@pytest.mark.parametrize(
    ("rate", "field"),
    [
        (Rate(100, 20), '"default";q=20;w=1'),
        (Rate(100, 200), '"default";q=200;w=2'),
        (Rate(0.5, 1), '"default";q=1;w=2'),
        (Rate(1 / 60, 1), '"default";q=1;w=60'),
        (Rate(100 / 3, 100), '"default";q=100;w=3'),
        (Rate(1e-5, 1), '"default";q=1;w=100000'),
    ],
)
def test_policy_field(rate: Rate, field: str) -> None:
    assert policy_field(rate) == field


def test_headers() -> None:
    buckets = Buckets(Rate(0.5, 2))
    assert rate_headers(buckets.take("k", 0)) == {
        "RateLimit-Policy": '"default";q=2;w=4',
        "RateLimit": '"default";r=1;t=2',
    }
    buckets.take("k", 0)
    refused = buckets.take("k", 0)
    assert limit_field(refused, 'a"b\\') == '"a\\"b\\\\";r=0;t=2'
    assert rate_headers(refused)["Retry-After"] == "2"
    assert 2 <= int(rate_headers(refused, jitter=0.99)["Retry-After"]) <= 4
    with pytest.raises(ValueError, match="ASCII"):
        limit_field(refused, "naïve\n")


def test_retry_after_is_never_before_t() -> None:
    for wait_s in (0.0, 0.01, 0.999, 1.0, 1.2, 59.5, 1e5, math.inf):
        verdict = Verdict(False, 0, wait_s, 0.0, 1, Rate(1, 1))
        t = int(limit_field(verdict).rpartition("=")[2])
        for jitter in (0.0, 0.5, 0.999):
            assert t <= retry_after(wait_s, jitter)
            assert 1 <= retry_after(wait_s, jitter) <= RETRY_AFTER_MAX_S


@pytest.mark.parametrize(
    ("wait_s", "jitter", "seconds"),
    [(0.01, 0, 1), (1.0, 0, 1), (1.001, 0, 2), (10, 0.5, 15), (0.2, 0.9, 2), (0, 0, 1)],
)
def test_retry_after(wait_s: float, jitter: float, seconds: int) -> None:
    assert retry_after(wait_s, jitter) == seconds


@pytest.mark.parametrize("jitter", [-0.1, 1.0, math.nan])
def test_retry_after_refuses_other_jitter(jitter: float) -> None:
    with pytest.raises(ValueError, match="jitter"):
        retry_after(1, jitter)

"""`limits`: rate checks, token checks, tokens made; and what a key costs in memory.

In this process; times are CPU times.
"""

from __future__ import annotations

import gc
import os
import time
import tracemalloc
from collections.abc import Callable
from typing import Any, Final

from bench.machine import SERVER_CORE
from bench.report import OURS, bars, chart, keep, middle, progress, spread, table
from triode.limits.grant import FULL
from triode.limits.rate import Buckets, Rate
from triode.limits.token import Tokens

KEYS: Final = 10_000
HUGE: Final = Rate(1e9, 10**9)


def _allow(keys: int, limit: Rate = HUGE) -> Callable[[int], None]:
    buckets = Buckets(limit)
    names = [f"ip:10.0.{i >> 8}.{i & 255}" for i in range(keys)]

    def loop(count: int) -> None:
        allow, now = buckets.allow, 1.0
        for index in range(count):
            allow(names[index % keys], now)
            now += 1e-6

    return loop


def _take() -> Callable[[int], None]:
    buckets = Buckets(HUGE)

    def loop(count: int) -> None:
        for index in range(count):
            buckets.take("ip:10.0.0.1", 1.0 + index * 1e-6)

    return loop


def _validate(case: str) -> Callable[[int], None]:
    tokens = Tokens()
    issued = [tokens.issue(FULL, now=0.0, ttl_s=1000.0).secret for _ in range(1000)]

    def loop(count: int) -> None:
        validate = tokens.validate
        if case == "miss":
            secrets, now = [secret[:-1] + "!" for secret in issued], 1.0
        else:
            secrets, now = issued, 1.0
        for index in range(count):
            validate(secrets[index % 1000], now)

    return loop


def _expired(count: int) -> None:
    tokens = Tokens(count + 1)
    secrets = [tokens.issue(FULL, now=0.0, ttl_s=1.0).secret for _ in range(count)]
    started = time.process_time()
    for secret in secrets:
        tokens.validate(secret, 10.0)
    _expired_s.append((time.process_time() - started) / count)


_expired_s: list[float] = []


def _issue(count: int) -> None:
    tokens = Tokens(count + 1)
    for _ in range(count):
        tokens.issue(FULL, now=0.0, ttl_s=1000.0)


def _bytes_per(make: Callable[[], Any]) -> float:
    gc.collect()
    tracemalloc.start()
    kept = make()
    gc.collect()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return used / KEYS


def _buckets() -> Buckets:
    buckets = Buckets(HUGE)
    for index in range(KEYS):
        buckets.allow(f"ip:10.0.{index >> 8}.{index & 255}", 1.0)
    return buckets


def _tokens() -> Tokens:
    tokens = Tokens(KEYS)
    for _ in range(KEYS):
        tokens.issue(FULL, now=0.0, ttl_s=1000.0)
    return tokens


def run(*, quick: bool = False, repeats: int = 3) -> dict[str, Any]:
    """Measure, print, keep, draw."""
    count = 20_000 if quick else 300_000
    repeats = 2 if quick else max(repeats, 5)
    cases: dict[str, tuple[Callable[[int], None], int]] = {
        "rate check, 1 key": (_allow(1), count),
        "rate check, 10 000 keys": (_allow(KEYS), count),
        "rate check, refused": (_allow(1, Rate(1e-3, 1)), count // 4),
        "rate check with the header's numbers": (_take(), count),
        "token check, hit": (_validate("hit"), count),
        "token check, miss": (_validate("miss"), count),
        "token check, expired": (_expired, count // 20),
        "token made": (_issue, count // 20),
    }
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {SERVER_CORE})
    results: dict[str, list[float]] = {}
    try:
        with progress() as shown:
            task = shown.add_task("limits", total=len(cases) * repeats)
            for name, (loop, times) in cases.items():
                loop(min(times, 1000))  # a warm-up
                _expired_s.clear()
                for _ in range(repeats):
                    started = time.process_time()
                    loop(times)
                    took_s = (time.process_time() - started) / times
                    if loop is _expired:
                        took_s = _expired_s[-1]
                    results.setdefault(name, []).append(1 / took_s)
                    shown.advance(task)
    finally:
        os.sched_setaffinity(0, cores)
    memory = {"a rate key": _bytes_per(_buckets), "a token": _bytes_per(_tokens)}
    table(
        "limits", ["", "per second"], [[name, spread(values)] for name, values in results.items()]
    )
    table("memory", ["", "bytes"], [[name, f"{value:.0f}"] for name, value in memory.items()])
    keep("limits", results, bytes=memory)
    names = list(results)
    medians = [middle(results[name]) for name in names]
    chart("limits", lambda f: _draw(f, names, medians))
    return results


def _draw(figure: Any, names: list[str], medians: list[float]) -> None:
    axes = figure.subplots()
    bars(axes, names, medians, [OURS] * len(names), "per second, one core")
    axes.axvline(1e6, color="#adb5bd", linestyle="--", linewidth=1)
    axes.set_title("Checks per second (dashed: the aim, 1 M)", loc="left", fontsize=11)

"""How often a key may act: GCRA, one float per key.

Theory of operation
-------------------
A token bucket of `burst` requests that refills at `rps` is kept as one number per key, its *debt*:
requests made and not yet paid off. The debt shrinks by `rps` each second; a request is allowed
when the debt with it stays within `burst`. Instead of the debt itself the map holds the *mark*, the
reading at which the debt will be nil, on a clock that counts requests instead of seconds:

    ticks(now) = (now - origin) * rps + base        debt = max(0, mark - ticks(now))

Counting in requests rather than seconds is what makes the burst exact: at one instant the marks
are ticks+1, ticks+2, …, and adding whole numbers to a double of this size does not round, while
adding 1/rps over and over does. SLACK covers what the caller's own clock rounds away; it is a
thousandth of a request, so it can never admit one too many.

Changing the rate moves the clock and no key, so it is O(1): the clock goes on from where it stands
with the new `rps`. A larger burst gives every key the difference at once; a smaller one keeps what
each key had left, up to the new burst (the clock is moved ahead by the difference). Nobody is
forgiven or punished relative to another. The change is carried out at the next check, because only
that knows the time; until then `_room` is -inf, which sends the next check to the slow path without
costing the hot one a test. The very first check takes the same way, and sets the origin.

The map is bounded. A key whose debt is nil is like one never seen, so forgetting it loses nothing;
when the map is full those go first, and with them the eighth that owes least. What those owed is
kept as one number for all, the *floor*: a key that is not in the map starts there. So an attacker
with endless keys can neither grow the memory nor wash away anybody's debt, its own least of all.
The price is that newcomers start in debt during such a flood. As in the Space-Saving sketch
(Metwally et al. 2005) the floor rises by about one request for each `max_keys` new keys, while it
sinks by `rps` a second: newcomers are shut out only by more than max_keys * rps new keys a second,
ten million at the defaults, and keys in the map are served throughout. Refusing all newcomers, or
plain LRU, were rejected: the one locks out honest clients much sooner, the other lifts limits.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

SLACK: Final = 1e-3  # requests; see above
UNLIMITED: Final = 2**53 - 1  # "remaining" where there is no limit: still exact in JavaScript
RETRY_AFTER_MAX_S: Final = 86_400
MAX_RPS: Final = 1e9
MAX_BURST: Final = 10**9

_SAMPLE = 1_000  # marks looked at to find the eighth that owes least


@dataclass(frozen=True, slots=True)
class Rate:
    """`rps` requests a second on the long run, at most `burst` at one instant."""

    rps: float
    burst: int

    def __post_init__(self) -> None:
        if not 0 < self.rps <= MAX_RPS:
            raise ValueError(f"a rate must be above 0 and at most {MAX_RPS:g} a second")
        if not 1 <= self.burst <= MAX_BURST or self.burst != int(self.burst):
            raise ValueError(f"a burst must be a whole number from 1 to {MAX_BURST}")

    def __str__(self) -> str:
        return f"{self.rps:g}/{self.burst}"

    def share(self, replicas: int) -> Rate:
        """This rate as each of `replicas` processes must hold it; the burst is rounded up."""
        parts = max(1, replicas)
        return Rate(per_replica(self.rps, replicas), max(1, math.ceil(self.burst / parts)))


PRESETS: Final[dict[str, Rate | None]] = {
    "off": None,
    "low": Rate(10, 10),
    "default": Rate(100, 20),  # HTTP
    "websocket": Rate(100, 200),  # commands of one WebSocket client
    "high": Rate(1_000, 200),
}

_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(?:/([0-9]{1,12}))?")


def parse_rate(text: str) -> Rate | None:
    """`RPS/BURST`, `RPS` (burst: one second's worth), or a preset; `0` and `off` are None.

    Raises ValueError, saying what is accepted.
    """
    word = text.strip()
    if word.lower() in PRESETS:
        return PRESETS[word.lower()]
    found = _RATE.fullmatch(word)
    if found is None:
        names = ", ".join(PRESETS)
        raise ValueError(f"rate {word[:40]!r} is not RPS/BURST, such as 100/20, nor one of {names}")
    rps = float(found[1])
    if rps == 0:
        return None
    return Rate(rps, int(found[2]) if found[2] else max(1, math.ceil(rps)))


def per_replica(rps: float, replicas: int) -> float:
    """One process's share of a rate that `replicas` hold together; below one counts as one."""
    return rps / max(1, replicas)


class Verdict(NamedTuple):
    """The answer to one check.

    `retry_after_s` is 0 when allowed, and infinite when the cost is above the burst. `reset_s` is
    the time until the bucket is full again. `limit` is the burst (0 with `rate` None: no limit).
    """

    allowed: bool
    remaining: int
    retry_after_s: float
    reset_s: float
    limit: int
    rate: Rate | None


_FREE = Verdict(True, UNLIMITED, 0.0, 0.0, 0, None)


class Buckets:
    """A bucket per key. `now` is seconds on any one clock; if it steps back, no key waits longer
    than a full bucket takes to refill.

    `rate` None means no limit: everything is allowed and nothing is remembered.
    """

    __slots__ = (
        "_base", "_floor", "_idle_s", "_marks", "_max_keys", "_next", "_origin", "_rate", "_room",
        "_rps",
    )  # fmt: skip

    def __init__(
        self, rate: Rate | None, *, max_keys: int = 100_000, idle_s: float = 300.0
    ) -> None:
        if max_keys < 1:
            raise ValueError("max_keys must be at least 1")
        if not idle_s >= 0:
            raise ValueError("idle_s must not be negative")
        self._max_keys = max_keys
        self._idle_s = idle_s
        self._marks: dict[str, float] = {}
        self._floor = -math.inf
        self._rate: Rate | None = None  # what the clock below runs at
        self._rps = 1.0
        self._origin = 0.0
        self._base = 0.0
        self._room = -math.inf  # burst + SLACK; -inf sends every check to the slow path
        self._next = rate  # what set_rate asked for; taken over by the next check

    def __len__(self) -> int:
        return len(self._marks)

    @property
    def rate(self) -> Rate | None:
        """The rate in force, None when there is no limit."""
        return self._next

    def set_rate(self, rate: Rate | None) -> None:
        """Change the limit of every key, from the next check on; what was used stays used."""
        self._next = rate
        self._room = -math.inf

    def allow(self, key: str, now: float) -> bool:
        """Count one request if it is within the limit: `take` without the details, about twice
        as fast."""
        if self._rate is None and self._next is None:
            return True
        ticks = (now - self._origin) * self._rps + self._base
        mark = self._marks.get(key)
        if mark is None:
            return self._charge(key, now, 1.0)[0]
        if mark < ticks:
            mark = ticks
        mark += 1.0
        if mark - ticks > self._room:
            return self._charge(key, now, 1.0)[0]
        self._marks[key] = mark
        return True

    def take(self, key: str, now: float, cost: float = 1.0) -> Verdict:
        """Count `cost` requests if they are within the limit, all or none.

        A cost of 0 only looks. A cost above the burst can never be met and is refused with an
        infinite `retry_after_s`. Raises ValueError for a negative cost, which would be a refund.
        """
        if not cost >= 0:
            raise ValueError("a cost must not be negative")
        allowed, debt = self._charge(key, now, cost)
        rate = self._rate
        if rate is None:
            return _FREE
        rps, burst = self._rps, rate.burst
        if allowed:
            return Verdict(True, int(burst + SLACK - debt), 0.0, debt / rps, burst, rate)
        wait_s = (debt + cost - burst) / rps if cost <= burst else math.inf
        left = max(0, int(burst + SLACK - debt))
        return Verdict(False, left, wait_s, debt / rps, burst, rate)

    def retry_after_s(self, key: str, now: float) -> float:
        """Seconds until one request of this key would be allowed, 0 if it would be now."""
        verdict = self.take(key, now, 0)
        rate = verdict.rate
        if rate is None:
            return 0.0
        wait_s = verdict.reset_s - (rate.burst - 1 + SLACK) / rate.rps
        return wait_s + SLACK / rate.rps if wait_s > 0 else 0.0

    def sweep(self, now: float) -> int:
        """Forget the keys whose bucket has been full for `idle_s`; gives their number.

        Never earlier: a key forgotten in debt would have its limit lifted.
        """
        if self._room < 0:
            self._settle(now)
        return self._forget(self._ticks(now) - self._idle_s * self._rps)

    def _charge(self, key: str, now: float, cost: float) -> tuple[bool, float]:
        """The whole rule. Gives (allowed, the debt after it)."""
        if self._room < 0:
            self._settle(now)
            if self._rate is None:
                return True, 0.0
        ticks = (now - self._origin) * self._rps + self._base
        known = self._marks.get(key)
        mark = self._floor if known is None else known
        if mark < ticks:
            mark = ticks
        after = mark + cost
        if after - ticks > self._room:
            return False, self._refused(key, mark, ticks)
        if known is None:
            if cost == 0:
                return True, after - ticks
            if len(self._marks) >= self._max_keys:
                self._make_place(ticks)
        self._marks[key] = after
        return True, after - ticks

    def _refused(self, key: str, mark: float, ticks: float) -> float:
        assert self._rate is not None
        burst = self._rate.burst
        if mark - ticks <= burst:
            return mark - ticks
        # Only a clock that stepped back gets here: nobody can owe more than the burst.
        if key in self._marks:
            self._marks[key] = ticks + burst
        self._floor = min(self._floor, ticks + burst)
        return float(burst)

    def _ticks(self, now: float) -> float:
        return (now - self._origin) * self._rps + self._base

    def _settle(self, now: float) -> None:
        """Take over the rate that was asked for, keeping what every key owes."""
        old, new = self._rate, self._next
        self._rate = new
        if new is None:
            self._marks = {}
            self._floor = -math.inf
            return
        self._base = self._ticks(now)
        if old is not None:
            self._base += max(0, old.burst - new.burst)
        self._origin = now
        self._rps = new.rps
        self._room = new.burst + SLACK

    def _make_place(self, ticks: float) -> None:
        """Forget every key that owes nothing, and at least about an eighth of all.

        A pass over the map (a few ms at 100 000 keys) frees an eighth of it, so its cost for each
        new key is constant and small.
        """
        marks = list(self._marks.values())
        sample = sorted(marks[:: max(1, len(marks) // _SAMPLE)])
        threshold = max(ticks, sample[len(sample) // 8])
        self._forget(threshold)
        self._floor = max(self._floor, threshold)

    def _forget(self, threshold: float) -> int:
        before = len(self._marks)
        kept = {key: mark for key, mark in self._marks.items() if mark > threshold}
        if len(kept) < before:
            self._marks = kept
        return before - len(kept)


# ---- what HTTP says about it: draft-ietf-httpapi-ratelimit-headers ----


def policy_field(rate: Rate, name: str = "default") -> str:
    """`RateLimit-Policy`: the quota `q` for each window of `w` whole seconds, `"default";q=20;w=1`.

    The quota is the burst, and the window the time in which a spent burst comes back: who keeps to
    that is never refused, and what `RateLimit` says is left is never more than the quota.
    """
    window_s = max(1, math.ceil(rate.burst / rate.rps - 1e-9))
    return f"{_sf_string(name)};q={rate.burst};w={window_s}"


def limit_field(verdict: Verdict, name: str = "default") -> str:
    """`RateLimit`: the `r` requests left and the `t` seconds until more, `"default";r=50;t=30`.

    `t` counts to a full bucket after an allowed request, and to the next possible one after a
    refused one: there it must not point past `Retry-After`.
    """
    wait_s = verdict.reset_s if verdict.allowed else verdict.retry_after_s
    return f"{_sf_string(name)};r={verdict.remaining};t={_whole_s(wait_s)}"


def retry_after(wait_s: float, jitter: float = 0.0) -> int:
    """`Retry-After` in whole seconds: `wait_s` rounded up, at least 1, at most a day.

    `jitter` in [0, 1) is the caller's random number; it spreads the herd over as long again as the
    wait (over a second, for a shorter one) and never shortens it. Raises ValueError outside [0, 1).
    """
    if not 0 <= jitter < 1:
        raise ValueError("jitter must be in [0, 1)")
    wait_s = min(wait_s, RETRY_AFTER_MAX_S)
    return max(1, _whole_s(wait_s + jitter * max(1.0, wait_s)))


def rate_headers(verdict: Verdict, name: str = "default", jitter: float = 0.0) -> dict[str, str]:
    """The fields for an answer: none without a limit, `Retry-After` only on a refusal."""
    if verdict.rate is None:
        return {}
    fields = {
        "RateLimit-Policy": policy_field(verdict.rate, name),
        "RateLimit": limit_field(verdict, name),
    }
    if not verdict.allowed:
        fields["Retry-After"] = str(retry_after(verdict.retry_after_s, jitter))
    return fields


def _whole_s(seconds: float) -> int:
    # A hair above a whole second is float noise, not a reason to name the next one.
    return math.ceil(max(0.0, min(seconds, RETRY_AFTER_MAX_S)) - 1e-6)


def _sf_string(text: str) -> str:
    """A structured-field string (RFC 9651 3.3.3); raises ValueError outside printable ASCII."""
    if not all(" " <= char <= "~" for char in text):
        raise ValueError("a policy's name must be printable ASCII")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

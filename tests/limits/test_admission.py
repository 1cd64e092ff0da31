from __future__ import annotations

import random

import pytest

from triode.limits.admission import Admission, Full, Ticket


def refused(admission: Admission, ip: str | None, principal: str | None) -> tuple[str, int]:
    before = admission.statistics()
    with pytest.raises(Full) as caught:
        admission.enter(ip, principal)
    assert admission.statistics() == before
    return caught.value.which, caught.value.limit


def test_each_bound_is_exact_and_named() -> None:
    admission = Admission(total=4, per_ip=3, per_principal=2, heads=0)
    tickets = [admission.enter("a", "p"), admission.enter("a", "p")]
    assert refused(admission, "a", "p") == ("per_principal", 2)
    tickets.append(admission.enter("a", "q"))
    assert refused(admission, "a", "r") == ("per_ip", 3)
    tickets.append(admission.enter("b", "r"))
    assert refused(admission, "c", "s") == ("total", 4)
    tickets[0].release()
    admission.enter("c", "s")
    assert refused(admission, "c", "s2") == ("total", 4)


def test_release_counts_once() -> None:
    admission = Admission(total=2)
    first, second = admission.enter("a", "p"), admission.enter("a", "p")
    first.release()
    first.release()
    assert first.released
    assert admission.statistics() == {
        "clients": 1,
        "heads": 0,
        "http": 0,
        "ips": 1,
        "principals": 1,
    }
    with second:
        second.release()
    assert admission.statistics() == {
        "clients": 0,
        "heads": 0,
        "http": 0,
        "ips": 0,
        "principals": 0,
    }


def test_context_manager_releases_on_errors() -> None:
    admission = Admission()

    def fail(ticket: Ticket) -> None:
        with ticket:
            raise RuntimeError("x")

    for ticket in (admission.enter("a", "p"), admission.enter_head()):
        with pytest.raises(RuntimeError):
            fail(ticket)
    assert set(admission.statistics().values()) == {0}


def test_heads_are_counted_and_never_refused() -> None:
    """Who accepts connections waits for `heads_full` instead."""
    admission = Admission(total=1, heads=2)
    heads = [admission.enter_head()]
    assert not admission.heads_full()
    heads += [admission.enter_head(), admission.enter_head()]
    assert admission.heads_full()
    with admission.enter("a", "p"):  # heads take no client's place
        assert admission.statistics()["clients"] == 1
    heads[0].release()
    assert admission.heads_full()
    heads[1].release()
    assert not admission.heads_full()


def test_http_connections_have_their_own_bounds() -> None:
    admission = Admission(total=1, per_ip=1, http=3, http_per_ip=2)
    held = [admission.enter_http("a"), admission.enter_http("a")]
    with pytest.raises(Full) as caught:
        admission.enter_http("a", over=True)  # above the total, never above the share
    assert (caught.value.which, caught.value.limit) == ("per_ip", 2)
    held.append(admission.enter_http(None))
    with pytest.raises(Full) as caught:
        admission.enter_http("b")
    assert (caught.value.which, caught.value.limit) == ("http", 3)
    held.append(admission.enter_http("b", over=True))
    with admission.enter("a", "p"):
        assert admission.statistics()["http"] == 4
    for ticket in held:
        ticket.release()
    assert set(admission.statistics().values()) == {0}


def test_zero_is_no_bound_and_none_is_not_counted() -> None:
    admission = Admission(total=0, per_ip=0, per_principal=0, heads=0)
    tickets: list[Ticket] = [admission.enter("a", "p") for _ in range(2_000)]
    tickets += [admission.enter_head() for _ in range(2_000)]
    assert admission.statistics()["clients"] == 2_000
    tight = Admission(per_ip=1, per_principal=1)
    unknown = [tight.enter(None, None) for _ in range(5)] + [tight.enter_http(None)]
    counts = {"clients": 5, "heads": 0, "http": 1, "ips": 0, "principals": 0}
    assert tight.statistics() == counts
    for ticket in unknown:
        ticket.release()
    assert set(tight.statistics().values()) == {0}


def test_defaults_are_bounds() -> None:
    admission = Admission()
    assert min(admission.total, admission.per_ip, admission.per_principal, admission.heads) > 0
    assert admission.total == 10_000


def _is_full(admission: Admission, principal_key: str) -> bool:
    try:
        admission.enter(None, principal_key).release()
    except Full:
        return True
    return False


def test_principal_changes_on_the_living_connection() -> None:
    admission = Admission(per_principal=1)
    one, two = admission.enter("a", None), admission.enter("a", "q")
    one.change_principal("p")
    one.change_principal("p")
    with pytest.raises(Full, match="per_principal"):
        one.change_principal("q")
    assert [_is_full(admission, key) for key in "pq"] == [True, True]
    two.release()
    two.change_principal("z")
    one.change_principal("q")
    assert [_is_full(admission, key) for key in "pz"] == [False, False]
    one.change_principal(None)
    one.release()
    assert set(admission.statistics().values()) == {0}


def test_lowering_a_bound_throws_nobody_out() -> None:
    admission = Admission(total=3)
    tickets = [admission.enter("a", "p") for _ in range(3)]
    admission.total = 1
    tickets[0].release()
    assert refused(admission, "b", "q") == ("total", 1)


def test_negative_bounds() -> None:
    with pytest.raises(ValueError, match="negative"):
        Admission(heads=-1)


def test_counts_hold_under_any_order() -> None:
    rng, admission, held = (
        random.Random(7),
        Admission(50, 10, 8, http=20, http_per_ip=9),
        list[Ticket](),
    )
    for _ in range(5_000):
        if held and rng.random() < 0.5:
            held.pop(rng.randrange(len(held))).release()
            continue
        ip, principal = f"ip{rng.randrange(8)}", f"p{rng.randrange(10)}"
        try:
            held.append(
                admission.enter(ip, principal) if rng.random() < 0.7 else admission.enter_http(ip)
            )
        except Full:
            continue
        stats = admission.statistics()
        assert stats["clients"] + stats["http"] == len(held)
        assert stats["clients"] <= 50
        assert stats["http"] <= 20
    for ticket in held:
        ticket.release()
    assert set(admission.statistics().values()) == {0}

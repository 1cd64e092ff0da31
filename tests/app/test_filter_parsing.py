"""Parsing many long filters gives way to others."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from unittest.mock import patch

import pytest
import trio

from tests.app.rounds import counted_rounds
from triode.app.config.settings import Settings
from triode.app.service import filter_parsing
from triode.app.service.filter_parsing import readable
from triode.app.service.triode import Triode
from triode.app.wire.refusal import Refusal
from triode.limits.grant import Grant
from triode.limits.meter import TURN_STEPS, Meter
from triode.limits.principal import OWNER, Principal
from triode.store.filter import FILTERS, parse_filter

_numbers = count()


def long_filter() -> str:
    """One that no cache has yet."""
    return f"$['{next(_numbers)}']" + "['a'" + ",'a'" * 950 + "]"


async def test_it_takes_a_turn_for_each_two_milliseconds() -> None:
    triode = Triode(Settings())
    texts = [long_filter() for _ in range(10)]
    steps = 0
    for _ in texts:
        meter = Meter(1 << 40)
        parse_filter(long_filter(), meter)
        steps += meter.spent
    async with counted_rounds() as rounds:
        filters = await readable(triode.gate, OWNER, texts)
    assert [filter.text for filter in filters] == texts
    assert steps > 20 * TURN_STEPS
    assert rounds.seen > steps // TURN_STEPS


async def test_what_is_short_or_known_waits_for_nothing() -> None:
    triode = Triode(Settings())
    known = long_filter()
    parse_filter(known)
    with trio.CancelScope() as scope:
        scope.cancel()  # a checkpoint would raise
        filters = await readable(triode.gate, OWNER, [known, ".a", "$.b[*]"])
    assert len(filters) == 3


async def test_each_is_parsed_once_however_small_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The grants ask by the text: by the end of a hundred the cache has forgotten the first."""
    triode = Triode(Settings())
    monkeypatch.setattr(FILTERS, "max_bytes", 2_000_000)
    reader = Principal("k", "reader", Grant(read=("$.a", ".*")))
    texts = [f"$.a['{next(_numbers)}']" + "['a'" + ",'a'" * 950 + "]" for _ in range(5)]
    missed = 0
    get = FILTERS.get

    def counting(text: str) -> object:
        nonlocal missed
        found = get(text)
        missed += found is None and text in texts
        return found

    monkeypatch.setattr(type(FILTERS), "get", lambda self, text: counting(text))
    await readable(triode.gate, reader, texts)
    # Once at once, which was too much, and once in turns.
    assert missed <= 2 * len(texts)


async def test_a_malformed_one_is_400_at_its_column_also_in_turns() -> None:
    triode = Triode(Settings())
    for text, column in ((".a[", 4), (long_filter()[:-1] + ",", 3_000)):
        with pytest.raises(Refusal) as caught:
            await readable(triode.gate, OWNER, [text])
        assert caught.value.status == 400
        assert caught.value.extra["column"] >= column


async def test_what_may_not_be_read_is_403() -> None:
    triode = Triode(Settings())
    with pytest.raises(Refusal) as caught:
        await readable(triode.gate, Principal("k", "x", Grant(read=(".a",))), [".a", ".b"])
    assert caught.value.status == 403


async def test_what_cannot_be_loaded_ends_the_request_and_not_the_server() -> None:
    """Without a file descriptor no module can be read. The next one finds it, when there are."""
    triode = Triode(Settings())
    module = filter_parsing._Module("triode.store.jsonpath")
    full = OSError(24, "Too many open files")
    with patch.object(filter_parsing, "_jsonpath", module):
        with (
            patch.object(filter_parsing, "import_module", side_effect=full),
            pytest.raises(Refusal, match="JSONPath could not be loaded") as refused,
        ):
            await readable(triode.gate, OWNER, ["$.a"])
        assert refused.value.status == 503
        assert len(await readable(triode.gate, OWNER, ["$.a", "$.b"])) == 2


async def test_two_who_ask_at_once_load_it_once() -> None:
    module = filter_parsing._Module("triode.store.jsonpath")
    imported: list[tuple[str, float]] = []

    def importing(name: str) -> None:
        imported.append((name, sys.getswitchinterval()))

    before_s = sys.getswitchinterval()
    with patch.object(filter_parsing, "import_module", side_effect=importing):
        # Holds those who ask; left when they have it.
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(module.load)
    assert [name for name, _ in imported] == ["triode.store.jsonpath"]
    # Meanwhile the loop has the interpreter again within a moment, and it is as it was afterwards.
    assert imported[0][1] == pytest.approx(filter_parsing.SWITCH_S)
    assert sys.getswitchinterval() == before_s


def test_what_the_library_would_use_is_not_loaded_but_there_for_others() -> None:
    """It is half of what takes time, in one piece. In a process that has loaded neither."""
    code = """if True:
        import sys, trio
        from triode.app.service import filter_parsing
        trio.run(filter_parsing._jsonpath.load)
        assert "triode.store.jsonpath" in sys.modules
        assert "regex" not in sys.modules
        import jsonpath_rfc9535
        assert jsonpath_rfc9535.find("$[?match(@, 'a.*')]", ["ab", "b"]).values() == ["ab"]
        import regex
        assert regex.fullmatch("a", "a") and sys.modules["regex"] is regex
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

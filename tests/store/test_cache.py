"""What is kept of clients' texts is bounded in bytes, and right whatever has been let go."""

from __future__ import annotations

import ast
import gc
import tracemalloc
from pathlib import Path

import pytest

import triode
from triode.store.cache import Cache, weight_of
from triode.store.path import NAMES, PATHS, PathError, format_path, parse_path

KIB = 1024


def halves(max_bytes: int) -> tuple[Cache[str, str], list[str]]:
    made: list[str] = []

    def make(text: str) -> str:
        made.append(text)
        return text[: len(text) // 2]

    return Cache(make, lambda text, half: weight_of((text, half)), max_bytes), made


def test_a_text_is_read_once() -> None:
    cache, made = halves(64 * KIB)
    assert [cache["abcd"], cache["abcd"], cache["ab"]] == ["ab", "ab", "a"]
    assert made == ["abcd", "ab"]


def test_what_was_put_in_first_goes_first_and_the_account_is_exact() -> None:
    cache, _ = halves(64 * KIB)
    for number in range(5_000):
        assert cache[f"{number:06}"] == f"{number // 1000:03}"
    assert cache.bytes <= cache.max_bytes
    assert cache.bytes == sum(weight_of(entry) for entry in cache.items())
    assert list(cache) == [f"{number:06}" for number in range(5_000 - len(cache), 5_000)]
    assert len(cache) > 200
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)


def test_a_long_text_is_not_kept_and_pushes_nothing_out() -> None:
    cache, _ = halves(64 * KIB)
    cache["short"]
    assert cache["x" * 2_000] == "x" * 1_000
    assert list(cache) == ["short"]


def test_what_cannot_be_read_is_not_kept() -> None:
    before = len(PATHS)
    for _ in range(2):
        with pytest.raises(PathError):
            parse_path(".a..b")
    assert len(PATHS) == before


def test_names_of_any_length_keep_no_more_than_the_bound() -> None:
    """300 writes with long names kept 577 MB."""
    for number in range(300):
        name = f"{number}" + "x" * 200_000
        assert format_path((name,)) == f'["{name}"]'
    assert NAMES.bytes <= NAMES.max_bytes
    assert max(map(len, NAMES), default=0) < 64 * KIB


def test_the_account_of_paths_is_what_they_take() -> None:
    texts = [f".some.name[{number}].of_a_place{number}" for number in range(10_000)]
    PATHS.clear()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for text in texts:
            parse_path(text)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # The texts themselves are this test's.
    told = PATHS.bytes - sum(map(len, texts)) - 49 * len(texts)
    PATHS.clear()
    assert 0.8 * grown < told < 1.2 * grown


def test_no_cache_counts_entries_in_place_of_bytes() -> None:
    root = Path(triode.__file__).parent
    for folder in ("app", "limits", "store"):
        for file in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module == "functools":
                    assert "lru_cache" not in {alias.name for alias in node.names}, file

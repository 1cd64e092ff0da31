"""Imports go one way, and what is meant to be pure is (docs/design.md 2).

`app` → `limits` → `store`, never back. Those two wait for nothing, read no
clock, and do no I/O: time and bytes are arguments. The rules are read off the source, so that an
import inside a function counts as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("app", "store", "limits")
MAY_IMPORT = {"app": {"app", "store", "limits"}, "store": {"store"}, "limits": {"store", "limits"}}

# Modules whose very purpose is waiting, a clock or I/O.
IMPURE_MODULES = {
    "anyio", "asyncio", "concurrent", "httpx", "hypercorn", "logging", "multiprocessing", "quart",
    "quart_trio", "random", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl",
    "subprocess", "tempfile", "threading", "time", "trio", "urllib.request",
}  # fmt: skip
# Calls that read a clock, the environment, a file or a terminal without such a module.
IMPURE_CALLS = {"open", "print", "input", "datetime.now", "datetime.utcnow", "date.today"}
IMPURE_PREFIXES = ("os.", "sys.std", "io.open")
IMPURE_METHODS = {"read_text", "read_bytes", "write_text", "write_bytes"}
# Secrets of the operating system are no clock and no wait: tokens are made of them.
PURE_OS = {"os.urandom"}

# Pure modules of `app`: parsing, formatting and accounting that the lanes share.
PURE_IN_APP = [
    "app/wire/end_reasons.py",
    "app/wire/frame.py",
    "app/net/request_head.py",
    "app/wire/refusal.py",
    "app/config/validation.py",
    "app/config/socket_route.py",
    "app/wire/sse_parser.py",
    "app/delivery/tag.py",
]


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def pure_sources() -> list[Path]:
    return [*sources("store"), *sources("limits"), *(ROOT / name for name in PURE_IN_APP)]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of every module imported, wherever the statement stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield node.lineno, f"{package}.{base}" if node.level else base


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return "?"


def is_impure_module(name: str) -> bool:
    return name in IMPURE_MODULES or name.partition(".")[0] in IMPURE_MODULES


def is_impure_call(called: str) -> bool:
    if called in PURE_OS:
        return False
    last_two = ".".join(called.split(".")[-2:])
    return (
        called in IMPURE_CALLS
        or last_two in IMPURE_CALLS
        or called.startswith(IMPURE_PREFIXES)
        or called.rpartition(".")[2] in IMPURE_METHODS
    )


def impurities(source: str) -> list[str]:
    tree = ast.parse(source)
    found = [
        f"{line}: import {name}" for line, name in imported(tree, "") if is_impure_module(name)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and is_impure_call(dotted(node.func)):
            found.append(f"{node.lineno}: {dotted(node.func)}()")
        elif isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            found.append(f"{node.lineno}: asynchronous code")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    wrong = []
    for path in sources(package):
        for line, name in imported(ast.parse(path.read_text(encoding="utf-8")), package):
            whose, _, rest = name.partition(".")
            if whose in PACKAGES:
                wrong.append(f"{name_of(path)}:{line} imports {name}; it is triode.{name}")
            if whose == "triode" and rest.partition(".")[0] not in MAY_IMPORT[package]:
                wrong.append(f"{name_of(path)}:{line} imports {name}")
    assert not wrong


@pytest.mark.parametrize("path", pure_sources(), ids=name_of)
def test_pure_modules_wait_for_nothing_and_touch_nothing(path: Path) -> None:
    assert not impurities(path.read_text(encoding="utf-8"))


def test_nobody_runs_another_event_loop() -> None:
    wrong = [
        f"{name_of(path)}:{line} imports {name}"
        for package in PACKAGES
        for path in sources(package)
        for line, name in imported(ast.parse(path.read_text(encoding="utf-8")), package)
        if name.partition(".")[0] == "asyncio"
    ]
    assert not wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_postpones_its_annotations(package: str) -> None:
    late = "from __future__ import annotations"
    texts = {name_of(path): path.read_text(encoding="utf-8") for path in sources(package)}
    # A module without any code, as an empty __init__, has none to postpone.
    bare = [name for name, text in texts.items() if late not in text and "def " in text]
    assert not bare


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "def f():\n    import trio",
        "from socket import socket",
        "x = open('f')",
        "import os\nos.environ.get('x')",
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.now()",
        "from pathlib import Path\nPath('f').read_text()",
        "async def f(): ...",
    ],
)
def test_the_purity_test_sees_what_is_impure(source: str) -> None:
    assert impurities(source)


@pytest.mark.parametrize("source", ["import re", "import os\nos.urandom(32)", "re.compile('x')"])
def test_the_purity_test_lets_pass_what_is_pure(source: str) -> None:
    assert not impurities(source)

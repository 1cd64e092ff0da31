"""Imports go one way, and what is meant to be pure is (docs/design.md 2). Files are short, and what
a checker is told to pass over has its reason.

`app` → `limits` → `store`, and one way between the packages of `app`. `store` and `limits` wait for
nothing, read no clock, and do no I/O: time and bytes are arguments. The rules are read off the
source, so that an import inside a function counts as well.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("app", "store", "limits")
# Each may import from those above it, and from itself.
ROOMS = (
    "store", "limits", "app.config", "app.wire", "app.net", "app.runtime", "app.log",
    "app.backends",
    "app.delivery", "app.access", "app.service", "app.blueprints", "app.lanes", "app.application",
    "app.serve", "app.remote", "app.cli",
)  # fmt: skip

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
    "app/log/shared/calls.py",
    "app/log/shared/giving_back.py",
    "app/log/shared/member.py",
    "app/log/shared/outgoing.py",
    "app/log/shared/owed.py",
    "app/log/shared/patience.py",
    "app/log/shared/recent.py",
    "app/log/shared/state.py",
    "app/log/shared/terms.py",
    "app/wire/chunks.py",
    "app/wire/end_reasons.py",
    "app/wire/frame.py",
    "app/net/request_head.py",
    "app/wire/refusal.py",
    "app/config/validation.py",
    "app/config/socket_route.py",
    "app/wire/sse_parser.py",
    "app/delivery/tag.py",
]

# Where a file is one noun, and can be read at once.
SHORT = (*PACKAGES, "clients/python")
MAX_LINES = 400
# A checker's rules are named, and behind them is why they do not hold there.
EXCEPTION = re.compile(r"#\s*(noqa|type:\s*ignore)")
WITH_REASON = re.compile(r"# (noqa: \w+(, ?\w+)*|type: ignore\[[\w, -]+\]) # [`\w]")


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


def modules() -> dict[str, Path]:
    """Every module by its name below `triode`, as `app.delivery.hub`."""
    found = {}
    for package in PACKAGES:
        for path in sources(package):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name below `triode` of each module of ours that a file imports, for types too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            # `from triode.app.wire import frame` imports a module, or a name of one.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [
                name if name.removeprefix("triode.") in MODULES else node.module for name in names
            ]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("triode."):
                yield node.lineno, name.removeprefix("triode.")


def room_of(name: str) -> int:
    """Which room of the house a module lives in; -1 for the face of a package."""
    rooms = [n for n, room in enumerate(ROOMS) if name == room or name.startswith(room + ".")]
    return rooms[0] if rooms else -1


def test_imports_go_one_way() -> None:
    wrong = []
    for name, path in MODULES.items():
        for line, imported_name in imports_of(path):
            if name != "app" and room_of(imported_name) > room_of(name):
                wrong.append(f"{name_of(path)}:{line} imports {imported_name}")
    assert not wrong


def test_a_shared_log_is_entered_by_one_door() -> None:
    """It needs hiredis, which only those install who share a log."""
    room = "app.log.shared"
    inside = {name for name in MODULES if name.startswith(room)}
    enter = {
        name
        for name, path in MODULES.items()
        if name not in inside and inside & {other for _, other in imports_of(path)}
    }
    assert enter == {"app.log.kinds"}


def test_every_module_has_a_room() -> None:
    assert [name for name in MODULES if room_of(name) < 0] == ["app"]


def test_everybody_uses_the_one_import_name() -> None:
    wrong = [
        f"{name_of(path)}:{line} imports {name}"
        for package in PACKAGES
        for path in sources(package)
        for line, name in imported(ast.parse(path.read_text(encoding="utf-8")), package)
        if name.partition(".")[0] in PACKAGES
    ]
    assert not wrong


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that reach one another (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for name in graph:
        if name not in index:
            visit(name)
    return found


def test_no_imports_go_in_a_circle() -> None:
    graph = {
        name: {other for _, other in imports_of(path) if other in MODULES} - {name}
        for name, path in MODULES.items()
    }
    assert not circles(graph)


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


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


def unreasoned(source: str) -> list[int]:
    """The lines where a checker is told to pass over something, and nobody says why."""
    return [
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
        and EXCEPTION.match(token.string)
        and not WITH_REASON.match(token.string)
    ]


def test_files_are_short() -> None:
    lines = {
        name_of(path): path.read_text(encoding="utf-8").count("\n")
        for package in SHORT
        for path in sources(package)
    }
    assert not {name: count for name, count in lines.items() if count > MAX_LINES}


def test_exceptions_have_reasons() -> None:
    wrong = [
        f"{name_of(path)}:{line}"
        for package in SHORT
        for path in sources(package)
        for line in unreasoned(path.read_text(encoding="utf-8"))
    ]
    assert not wrong


@pytest.mark.parametrize(
    "comment",
    ["# noqa", "# noqa: S110", "#noqa: S110 # why", "# type: ignore", "# type: ignore[misc]"],
)
def test_an_exception_without_a_reason_is_seen(comment: str) -> None:
    assert unreasoned(f"x = 1  {comment}\n") == [1]


def test_a_reason_is_seen() -> None:
    assert not unreasoned(
        "x = 1  # noqa: S110, B1 # why\ny = '# noqa'  # type: ignore[a-b] # `x`\n"
    )


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

"""`python -m bench.house`: how the code is housed, in figures (`bench.hops` has the hops).

Length of functions and files, imports in a circle, what checkers are told to pass over, and how
much the hardest files say about why. A function is as long as its code: without its docstring,
comments and empty lines.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from tests.test_architecture import EXCEPTION, MODULES, circles, imports_of

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("app", "store", "limits")
# Where somebody would mend code that is right: matching, delivery, ends, turns, logs, Hypercorn.
HARDEST: Final = (
    "store/index.py",
    "store/evaluated.py",
    "store/plan.py",
    "store/history.py",
    "app/delivery/group.py",
    "app/delivery/overflow.py",
    "app/delivery/life.py",
    "app/runtime/effort.py",
    "app/runtime/turns.py",
    "app/lanes/hypercorn_stream.py",
    "app/log/shared/member.py",
    "app/service/journal.py",
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    """The files of the three packages."""
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def functions(tree: ast.AST) -> Iterator[Function]:
    """All functions and methods, inner ones too."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def comments(text: str) -> list[tokenize.TokenInfo]:
    """All comments."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token for token in tokens if token.type == tokenize.COMMENT]


def comment_lines(text: str) -> set[int]:
    """The numbers of the lines that hold nothing but a comment."""
    return {token.start[0] for token in comments(text) if token.line.lstrip().startswith("#")}


def length(function: Function, lines: list[str], bare: set[int]) -> int:
    """In lines of code, its head among them."""
    first = function.body[0]
    docstring: range = range(0)
    if ast.get_docstring(function, clean=False) is not None:
        docstring = range(first.lineno, (first.end_lineno or 0) + 1)
    return sum(
        bool(lines[number - 1].strip()) and number not in docstring and number not in bare
        for number in range(function.lineno, (function.end_lineno or 0) + 1)
    )


def main() -> None:
    """Print all figures."""
    sizes: list[int] = []
    counts: dict[Path, int] = {}
    passed_over: dict[str, int] = dict.fromkeys(PACKAGES, 0)
    for path in sources():
        text = path.read_text(encoding="utf-8")
        lines, bare = text.split("\n"), comment_lines(text)
        counts[path] = text.count("\n")
        sizes += [length(one, lines, bare) for one in functions(ast.parse(text))]
        package = path.relative_to(ROOT).parts[0]
        passed_over[package] += sum(
            bool(EXCEPTION.match(token.string)) and "noqa" in token.string
            for token in comments(text)
        )
    graph = {
        name: {other for _, other in imports_of(path) if other in MODULES} - {name}
        for name, path in MODULES.items()
    }
    longest = sorted(counts, key=lambda path: -counts[path])[:3]
    print(f"functions: {len(sizes)}, median {median(sizes):g} lines", end="")
    print(f", nine in ten up to {quantiles(sizes, n=10)[-1]:g}, longest {max(sizes)}")
    print(f"files: {len(counts)}, longest", end=" ")
    print(", ".join(f"{path.relative_to(ROOT)} {counts[path]}" for path in longest))
    print(f"imports in a circle: {len(circles(graph))}")
    print("noqa:", ", ".join(f"{package} {count}" for package, count in passed_over.items()))
    print("comment lines, of all that are not empty:")
    for name in HARDEST:
        text = (ROOT / name).read_text(encoding="utf-8")
        written = sum(bool(line.strip()) for line in text.split("\n"))
        print(f"  {name}: {len(comment_lines(text)) / written:.1%}")


if __name__ == "__main__":
    main()

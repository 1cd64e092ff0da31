"""JSONPath, RFC 9535, the whole standard: the library reads the text, this file evaluates it.

``jsonpath-rfc9535`` parses and checks the types (its own compliance: 703 of 703). Its evaluation
is not used, because there it (1.0.1) takes ``[?@]`` for false when the value is 0, ``""`` or
false, fails with TypeError on ``count(@)`` of a scalar, compares ``[true]`` and ``[1]`` as the
same, reads ``9007199254740993`` as a float, gives up below depth 100, and bounds nothing.
(python-jsonpath 2.2 strict passes as many cases and orders booleans among numbers.)

Rules for what users send us:

*Every select has a budget.* ``$..[?count($..*)>1]`` is quadratic, ``$[0,0][0,0]…`` exponential.
Work is counted in steps (a node looked at, a character of a pattern's subject, a node of a deep
comparison); past MAX_STEPS select raises FilterError. Counted work, not time: the same document
and filter always end the same way.

*Patterns cannot backtrack.* ``match()`` and ``search()`` take I-Regexp (RFC 9485), which is
regular, so patterns run on an automaton, in time proportional to the subject:
``store.jsonpath.Pattern``. One that does not conform never matches, as RFC 9535 says; a literal
one with more than MAX_STATES states is refused, one out of the document never matches.

*Nesting is bounded before the library recurses over it.*
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import NoReturn

from iregexp_check import check
from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError, JSONPathQuery
from jsonpath_rfc9535 import filter_expressions as ast
from jsonpath_rfc9535 import selectors as sel
from jsonpath_rfc9535.segments import JSONPathRecursiveDescentSegment, JSONPathSegment

from store.condition import comparable
from store.path import FilterError, Path, Reader
from store.segment import Node, containers
from store.value import MISSING, Json, Missing, equal

MAX_STEPS = 5_000_000
MAX_STATES = 1000
MAX_PATTERN_CHARS = 512
MAX_NESTING = 32
MAX_QUERY_SEGMENTS = 128  # with those in conditions; each is a generator on Python's stack
MAX_OPERATORS = 100

_ENVIRONMENT = JSONPathEnvironment()
_QUANTITY = re.compile(r"\{[0-9]+(,?)[0-9]*\}", re.ASCII)
_NESTING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|&&|\|\||[!()\[\]]""", re.DOTALL)
_INTEGER = re.compile(r"-?[0-9]+", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)


class Run:
    """One evaluation: its document and the steps that it may still take."""

    __slots__ = ("left", "root", "text")

    def __init__(self, root: Json, text: str) -> None:
        self.root = root
        self.text = text
        self.left = MAX_STEPS

    def take(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise FilterError(f"looks at too much: more than {MAX_STEPS} steps", 1, self.text)


Step = Callable[[Iterable[Node], Run], Iterator[Node]]
Selector = Callable[[Path, Json, Run], Iterable[Node]]
Logical = Callable[[Json, Run], bool]
Value = Callable[[Json, Run], Json | Missing]
Nodes = Callable[[Json, Run], Iterator[Node]]


class Query:
    """A JSONPath ready to select.

    ``prefix`` is the leading run of single names and indexes from the start, ``()`` if any
    condition looks at ``$``; ``is_fixed`` says that this is all of it.
    """

    __slots__ = ("_steps", "is_fixed", "prefix", "text")

    def __init__(self, text: str, steps: tuple[Step, ...], prefix: Path, is_fixed: bool) -> None:
        self.text = text
        self.prefix = prefix
        self.is_fixed = is_fixed
        self._steps = steps

    def select(self, root: Json) -> Iterator[Node]:
        """Yield the nodelist.

        Raises FilterError when the budget is spent: what came before is right, but not all.
        """
        run = Run(root, self.text)
        try:
            yield from _chain(self._steps, (), root, run)
        except RecursionError:  # only a caller that is itself deep: our depth is bounded
            raise FilterError("nested too deeply to evaluate here", 1, self.text) from None


def parse_query(text: str) -> Query:
    """Read a JSONPath. Raises FilterError, with the column of the fault, and nothing else."""
    reader = Reader(text, FilterError)
    _bound_nesting(reader)
    try:
        query = _ENVIRONMENT.compile(text)
    except JSONPathError as exc:
        index = exc.token.index if exc.token is not None else 0
        reader.fail(str(exc.args[0]), index if 0 <= index <= len(text) else len(text))
    except Exception as exc:
        # The library lets others out too (1e400: OverflowError). It reads nothing but the text, so
        # whatever it raises, the text is at fault.
        raise FilterError(f"not understood: {exc}", 1, text) from exc
    compiler = _Compiler(reader)
    steps = compiler.steps(query)
    prefix = _prefix(query)
    is_fixed = len(prefix) == len(query.segments)
    return Query(text, steps, () if compiler.looks_at_root else prefix, is_fixed)


def _bound_nesting(reader: Reader) -> None:
    """Refuse what would make the parser or us recurse deeply."""
    depth = operators = 0
    for token in _NESTING.finditer(reader.text):
        found = token.group()
        depth += (found in ("(", "[")) - (found in (")", "]"))
        operators += found in ("&&", "||", "!")
        if depth > MAX_NESTING:
            reader.fail(f"nested deeper than {MAX_NESTING}", token.start())
        if operators > MAX_OPERATORS:
            reader.fail(f"more than {MAX_OPERATORS} operators", token.start())


def _prefix(query: JSONPathQuery) -> Path:
    prefix: list[str | int] = []
    for segment in query.segments:
        if isinstance(segment, JSONPathRecursiveDescentSegment) or len(segment.selectors) != 1:
            break
        only = segment.selectors[0]
        if isinstance(only, sel.NameSelector):
            prefix.append(only.name)
        elif isinstance(only, sel.IndexSelector) and only.index >= 0:
            prefix.append(only.index)
        else:
            break
    return tuple(prefix)


class _Compiler:
    """Turns the library's tree into functions; refuses what the library lets through wrongly."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.looks_at_root = False
        self.segments = 0

    def refuse(self, detail: str, expression: ast.Expression) -> NoReturn:
        index = expression.token.index
        self.reader.fail(detail, max(0, min(index, len(self.reader.text))))

    def steps(self, query: JSONPathQuery) -> tuple[Step, ...]:
        self.segments += len(query.segments)
        if self.segments > MAX_QUERY_SEGMENTS:
            at = query.segments[-1].token.index
            self.reader.fail(f"more than {MAX_QUERY_SEGMENTS} segments", max(0, at))
        return tuple(self.step(segment, i) for i, segment in enumerate(query.segments))

    def step(self, segment: JSONPathSegment, position: int) -> Step:
        # A node of a late segment is handed through all the generators before it: 100 of them
        # measured 26 s for 5 million nodes where 5 take 1 s.
        cost = 1 + position // 4
        selectors = tuple(self.selector(selector) for selector in segment.selectors)
        descends = isinstance(segment, JSONPathRecursiveDescentSegment)

        def step(nodes: Iterable[Node], run: Run) -> Iterator[Node]:
            for path, value in nodes:
                for at, found in containers(path, value) if descends else ((path, value),):
                    run.take(cost)
                    for selector in selectors:
                        yield from selector(at, found, run)

        return step

    def selector(self, selector: sel.JSONPathSelector) -> Selector:
        match selector:
            case sel.NameSelector():
                return _name(selector.name)
            case sel.IndexSelector():
                return _index(selector.index)
            case sel.SliceSelector():
                return _slice(selector.slice)
            case sel.FilterSelector():
                return _having(self.logical(selector.expression.expression))
        return _children

    def logical(self, expression: ast.Expression) -> Logical:
        """An expression that is true or false."""
        match expression:
            case ast.LogicalExpression():
                operands = [self.logical(operand) for operand in _operands(expression)]
                return _all(operands) if expression.operator == "&&" else _any(operands)
            case ast.PrefixExpression():
                return self.negation(expression)
            case ast.ComparisonExpression():
                left, right = self.value(expression.left), self.value(expression.right)
                return _comparison(left, expression.operator, right)
            case ast.FilterQuery():
                nodes = self.nodes(expression)
                return lambda current, run: next(nodes(current, run), None) is not None
            case ast.FunctionExtension(name="match" | "search"):
                return self.matching(expression)
        self.refuse("this must be compared with something", expression)

    def negation(self, expression: ast.PrefixExpression) -> Logical:
        if self.reader.text[expression.token.index + 1 :].lstrip(" \t\r\n").startswith("!"):
            self.refuse("'!' cannot be doubled", expression)
        negated = self.logical(expression.right)
        return lambda current, run: not negated(current, run)

    def value(self, expression: ast.Expression) -> Value:
        """An expression that is a JSON value, or MISSING where RFC 9535 says Nothing."""
        match expression:
            case ast.FilterExpressionLiteral():
                literal = self.literal(expression)
                return lambda current, run: literal
            case ast.FilterQuery():
                return _only(self.nodes(expression))
            case ast.FunctionExtension(name="length"):
                return _length(self.value(expression.args[0]))
            case ast.FunctionExtension(name="count"):
                counted = self.nodes(expression.args[0])
                return lambda current, run: sum(1 for _ in counted(current, run))
            case ast.FunctionExtension(name="value"):
                return _only(self.nodes(expression.args[0]))
        self.refuse("only a value can be compared", expression)

    def literal(self, expression: ast.FilterExpressionLiteral[object]) -> Json:
        text = expression.token.value
        if not isinstance(expression, (ast.IntegerLiteral, ast.FloatLiteral)):
            value = expression.value
            assert value is None or isinstance(value, (bool, str))
            return value
        if not _NUMBER.fullmatch(text):
            self.refuse("not a JSON number", expression)
        # The library reads integers through float: exact only up to 2**53.
        return int(text) if _INTEGER.fullmatch(text) else float(text)

    def nodes(self, expression: ast.Expression) -> Nodes:
        if not isinstance(expression, ast.FilterQuery):
            self.refuse("expected a query", expression)
        steps = self.steps(expression.query)
        if isinstance(expression, ast.RootFilterQuery):
            self.looks_at_root = True
            return lambda current, run: _chain(steps, (), run.root, run)
        keys = _prefix(expression.query)
        if len(keys) == len(steps):
            return lambda current, run: _follow(keys, current)
        return lambda current, run: _chain(steps, (), current, run)

    def matching(self, expression: ast.FunctionExtension) -> Logical:
        subject, pattern = (self.value(arg) for arg in expression.args)
        whole = expression.name == "match"
        literal = expression.args[1]
        if isinstance(literal, ast.StringLiteral) and parse_pattern(literal.value) is TOO_LARGE:
            self.refuse(f"pattern larger than {MAX_STATES} states", literal)

        def matches(current: Json, run: Run) -> bool:
            text, source = subject(current, run), pattern(current, run)
            if not isinstance(text, str) or not isinstance(source, str):
                return False
            automaton = parse_pattern(source)
            return isinstance(automaton, Pattern) and automaton.matches(text, run, whole=whole)

        return matches


def _chain(steps: tuple[Step, ...], path: Path, value: Json, run: Run) -> Iterator[Node]:
    nodes: Iterable[Node] = ((path, value),)
    for step in steps:
        nodes = step(nodes, run)
    return iter(nodes)


def _follow(keys: Path, value: Json) -> Iterator[Node]:
    """What ``_chain`` gives for single names and indexes: nearly all conditions are ``@.name``."""
    for key in keys:
        if isinstance(key, str):
            if not isinstance(value, dict) or key not in value:
                return
            value = value[key]
        elif isinstance(value, list) and key < len(value):
            value = value[key]
        else:
            return
    yield (), value


def _children(path: Path, value: Json, run: Run) -> Iterator[Node]:
    for key, child in _items(value, run):
        yield (*path, key), child


def _items(value: Json, run: Run) -> Iterable[tuple[str | int, Json]]:
    if isinstance(value, dict):
        run.take(len(value))
        return value.items()
    if isinstance(value, list):
        run.take(len(value))
        return enumerate(value)
    return ()


def _having(holds: Logical) -> Selector:
    def having(path: Path, value: Json, run: Run) -> Iterator[Node]:
        for key, child in _items(value, run):
            if holds(child, run):
                yield (*path, key), child

    return having


def _name(name: str) -> Selector:
    def member(path: Path, value: Json, run: Run) -> Iterable[Node]:
        if isinstance(value, dict) and name in value:
            return (((*path, name), value[name]),)
        return ()

    return member


def _index(index: int) -> Selector:
    def element(path: Path, value: Json, run: Run) -> Iterable[Node]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            at = index % len(value)
            return (((*path, at), value[at]),)
        return ()

    return element


def _slice(bounds: slice) -> Selector:
    def elements(path: Path, value: Json, run: Run) -> Iterator[Node]:
        if isinstance(value, list) and bounds.step != 0:
            for at in range(*bounds.indices(len(value))):
                run.take(1)
                yield (*path, at), value[at]

    return elements


def _operands(expression: ast.LogicalExpression) -> list[ast.Expression]:
    """The operands of a run of one operator, flat: a long run must not nest our functions."""
    flat: list[ast.Expression] = []
    todo: list[ast.Expression] = [expression]
    while todo:
        part = todo.pop()
        if isinstance(part, ast.LogicalExpression) and part.operator == expression.operator:
            todo += [part.right, part.left]
        else:
            flat.append(part)
    return flat


def _all(operands: list[Logical]) -> Logical:
    return lambda current, run: all(operand(current, run) for operand in operands)


def _any(operands: list[Logical]) -> Logical:
    return lambda current, run: any(operand(current, run) for operand in operands)


def _comparison(left: Value, operator: str, right: Value) -> Logical:
    """RFC 9535 section 2.3.5.2.2: everything is made of ``==`` and ``<``."""

    def compare(current: Json, run: Run) -> bool:
        a, b = left(current, run), right(current, run)
        if operator == "==":
            return _same(a, b, run)
        if operator == "!=":
            return not _same(a, b, run)
        if operator in (">", ">="):
            a, b = b, a
        return _less(a, b) or (operator in ("<=", ">=") and _same(a, b, run))

    return compare


def _same(a: Json | Missing, b: Json | Missing, run: Run) -> bool:
    if a is MISSING or b is MISSING:
        return a is b
    if isinstance(a, (dict, list)) and isinstance(b, (dict, list)):
        run.take(_size(a) if len(a) == len(b) else 1)
    return equal(a, b)


def _size(value: Json) -> int:
    """How many nodes lie below."""
    return sum(len(each) for _, each in containers((), value) if isinstance(each, (dict, list)))


def _less(a: Json | Missing, b: Json | Missing) -> bool:
    return comparable(a, b) and a < b  # type: ignore[operator]


def _only(nodes: Nodes) -> Value:
    """The value of the one node, MISSING when there is none or there are more."""

    def only(current: Json, run: Run) -> Json | Missing:
        found = list(islice(nodes(current, run), 2))
        return found[0][1] if len(found) == 1 else MISSING

    return only


def _length(of: Value) -> Value:
    def length(current: Json, run: Run) -> Json | Missing:
        value = of(current, run)
        return len(value) if isinstance(value, (str, dict, list)) else MISSING

    return length


# Patterns (RFC 9485): a Thompson automaton, made deterministic as far as subjects lead into it.

Admits = Callable[[str], bool]
Code = list[tuple[str, Admits | None, int, int]]  # what, class of "char", targets of "split"
Emit = Callable[[Code], None]


class Pattern:
    """A compiled I-Regexp; ``^`` and ``$`` are anchors, as the compliance suite has it."""

    __slots__ = ("_code", "_known")

    def __init__(self, code: Code) -> None:
        self._code = code
        self._known: dict[tuple[frozenset[int], str, bool, bool], frozenset[int] | None] = {}

    def matches(self, text: str, run: Run, *, whole: bool) -> bool:
        """Whether ``text`` (``whole``) or some part of it matches; linear in its length."""
        run.take(1 + len(text))
        at = frozenset((0,))
        for i, char in enumerate(text):
            key = (at, char, i == 0, whole)
            if key not in self._known:
                run.take(len(self._code))
                self._remember(key)
            onward = self._known[key]
            if not onward:
                return onward is None
            at = onward
        return len(self._code) - 1 in self._closure(at, start=not text, end=True)

    def _remember(self, key: tuple[frozenset[int], str, bool, bool]) -> None:
        """Work out one step: where ``char`` leads; None when a match is found already."""
        at, char, start, whole = key
        if len(self._known) * len(self._code) > 20_000:  # bounds the memory of a pattern
            self._known.clear()
        reached = self._closure(at, start=start, end=False)
        if not whole and len(self._code) - 1 in reached:
            self._known[key] = None
            return
        tests = ((pc, self._code[pc][1]) for pc in reached)
        onward = {pc + 1 for pc, admits in tests if admits is not None and admits(char)}
        # A search may also begin at the next character.
        self._known[key] = frozenset(onward if whole else onward | {0})

    def _closure(self, at: Iterable[int], *, start: bool, end: bool) -> set[int]:
        reached: set[int] = set()
        todo = list(at)
        while todo:
            pc = todo.pop()
            if pc in reached:
                continue
            reached.add(pc)
            what, _, one, other = self._code[pc]
            if what == "split":
                todo += (one, other)
            elif (what == "start" and start) or (what == "end" and end):
                todo.append(pc + 1)
        return reached


class _TooLarge(Exception):
    pass


@lru_cache(maxsize=64)
def parse_pattern(text: str) -> Pattern | str:
    """The pattern, or NOT_IREGEXP, or TOO_LARGE."""
    if len(text) > MAX_PATTERN_CHARS:
        return TOO_LARGE
    # The checker refuses quantities above 9, RFC 9485 does not; their size is our matter.
    if not check(_QUANTITY.sub(r"{1\1}", text)):
        return NOT_IREGEXP
    code: Code = []
    try:
        _alternatives(_Cursor(text), 0)(code)
    except _TooLarge:
        return TOO_LARGE
    return Pattern([*code, ("match", None, 0, 0)])


NOT_IREGEXP = "not an I-Regexp"
TOO_LARGE = "too large"


class _Cursor:
    """The text of a conforming pattern; what ``check`` has seen is not checked again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def here(self) -> str:
        return self.text[self.at : self.at + 1]

    def next(self) -> str:
        self.at += 1
        return self.text[self.at - 1]

    def until(self, end: str) -> str:
        stop = self.text.index(end, self.at)
        found, self.at = self.text[self.at : stop], stop + 1
        return found


def _add(code: Code, what: str, admits: Admits | None = None, one: int = 0, other: int = 0) -> None:
    if len(code) >= MAX_STATES:
        raise _TooLarge
    code.append((what, admits, one, other))


def _alternatives(cursor: _Cursor, depth: int) -> Emit:
    if depth > MAX_NESTING:
        raise _TooLarge
    branches = [_branch(cursor, depth)]
    while cursor.here() == "|":
        cursor.next()
        branches.append(_branch(cursor, depth))

    def emit(code: Code) -> None:
        jumps: list[int] = []
        for branch in branches[:-1]:
            fork = len(code)
            _add(code, "split")
            branch(code)
            jumps.append(len(code))
            _add(code, "split")
            code[fork] = ("split", None, fork + 1, len(code))
        branches[-1](code)
        for jump in jumps:
            code[jump] = ("split", None, len(code), len(code))

    return emit


def _branch(cursor: _Cursor, depth: int) -> Emit:
    pieces: list[Emit] = []
    while cursor.here() not in ("", "|", ")"):
        piece = _atom(cursor, depth)
        pieces.append(_repeated(piece, *_quantifier(cursor)))

    def emit(code: Code) -> None:
        for piece in pieces:
            piece(code)

    return emit


def _quantifier(cursor: _Cursor) -> tuple[int, int | None]:
    simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
    if cursor.here() in simple:
        return simple[cursor.next()]
    if cursor.here() != "{":
        return 1, 1
    cursor.next()
    low, comma, high = cursor.until("}").partition(",")
    return int(low), (int(high) if high else None) if comma else int(low)


def _repeated(piece: Emit, low: int, high: int | None) -> Emit:
    if (low, high) == (1, 1):
        return piece
    if max(low, high or 0) > MAX_STATES:
        raise _TooLarge

    if high is not None and high < low:
        return lambda code: _add(code, "char", lambda c: False)

    def emit(code: Code) -> None:
        for _ in range(low):
            size = len(code)
            piece(code)
            if len(code) == size:
                break  # "()" many times
        forks: list[int] = []
        for _ in range(1 if high is None else high - low):
            forks.append(len(code))
            _add(code, "split")
            piece(code)
        if high is None:
            _add(code, "split", None, forks[0], forks[0])
        for fork in forks:
            code[fork] = ("split", None, fork + 1, len(code))

    return emit


def _atom(cursor: _Cursor, depth: int) -> Emit:
    char = cursor.next()
    if char == "(":
        inner = _alternatives(cursor, depth + 1)
        cursor.next()
        return inner
    if char in "^$":
        return lambda code: _add(code, "start" if char == "^" else "end")
    admits = _class(cursor) if char == "[" else _single(cursor, char)
    return lambda code: _add(code, "char", admits)


def _single(cursor: _Cursor, char: str) -> Admits:
    if char == ".":
        return lambda c: c not in "\r\n"
    if char == "\\" and cursor.here() in ("p", "P"):
        return _category(cursor)
    char = _escaped(cursor, char)
    return lambda c: c == char


def _category(cursor: _Cursor) -> Admits:
    negated = cursor.next() == "P"
    cursor.next()
    name = cursor.until("}")
    return lambda c: unicodedata.category(c).startswith(name) is not negated


def _escaped(cursor: _Cursor, char: str) -> str:
    if char != "\\":
        return char
    char = cursor.next()
    return {"n": "\n", "r": "\r", "t": "\t"}.get(char, char)


def _class(cursor: _Cursor) -> Admits:
    negated = cursor.here() == "^"
    cursor.at += negated
    admits: list[Admits] = []
    while (char := cursor.next()) != "]":
        if char == "\\" and cursor.here() in ("p", "P"):
            admits.append(_category(cursor))
            continue
        low = high = _escaped(cursor, char)
        if cursor.here() == "-" and cursor.text[cursor.at + 1] != "]":
            cursor.next()
            high = _escaped(cursor, cursor.next())
        admits.append(lambda c, low=low, high=high: low <= c <= high)  # type: ignore[misc]
    return lambda c: any(admit(c) for admit in admits) is not negated

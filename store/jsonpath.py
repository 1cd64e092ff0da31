"""JSONPath, RFC 9535, the whole standard: the library reads the text, this file evaluates it.

``jsonpath-rfc9535`` parses and checks the types (its own compliance: 703 of 703). Its evaluation
is not used, because there it (1.0.1) takes ``[?@]`` for false when the value is 0, ``""`` or
false, fails with TypeError on ``count(@)`` of a scalar, compares ``[true]`` and ``[1]`` as the
same, reads ``9007199254740993`` as a float, gives up below depth 100, and bounds nothing.
(python-jsonpath 2.2 strict passes as many cases and orders booleans among numbers.)

Rules for what users send us:

*Every select has a budget.* ``$..[?count($..*)>1]`` is quadratic, ``$[0,0][0,0]…`` exponential.
Work is counted in steps (a node, a selector applied to it, an element passed, a character of a
pattern's subject, a node of a deep comparison); TooCostly when there are none left. Counted work,
not time: the same document and filter always end the same way.

*Patterns cannot backtrack.* ``match()`` and ``search()`` take I-Regexp (RFC 9485), which is
regular, so patterns run on an automaton, in time proportional to the subject:
``store.pattern``. One that does not conform never matches, as RFC 9535 says; a literal
one with too many states is refused, one out of the document never matches.

*Nesting is bounded before the library recurses over it.*
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NoReturn

from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError, JSONPathQuery
from jsonpath_rfc9535 import filter_expressions as ast
from jsonpath_rfc9535 import selectors as sel
from jsonpath_rfc9535.segments import JSONPathRecursiveDescentSegment, JSONPathSegment

from triode.store.condition import comparable
from triode.store.path import OUT_OF_RANGE, FilterError, Path, Reader
from triode.store.pattern import MAX_STATES, TOO_LARGE, Pattern, parse_pattern
from triode.store.segment import Node, containers
from triode.store.value import MISSING, Json, Missing, equal
from triode.store.work import FREE, TooCostly, Work

MAX_NESTING = 32
MAX_QUERY_SEGMENTS = 128  # with those in conditions; each is a generator on Python's stack
MAX_OPERATORS = 100
# Two strings are compared by the processor, so many characters in a microsecond.
CHARS_A_STEP_LOG2 = 12

_ENVIRONMENT = JSONPathEnvironment()
_NESTING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|&&|\|\||[!()\[\]]""", re.DOTALL)
_ANY_NUMBER = re.compile(r"[0-9]+(?:[eE][+-]?[0-9]+)?", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]+", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)


class Run:
    """One evaluation: its document, and what is charged for it."""

    __slots__ = ("root", "take", "work")

    def __init__(self, root: Json, work: Work) -> None:
        self.root = root
        self.work = work
        self.take = work.charge


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

    def select(self, root: Json, work: Work) -> Iterator[Node]:
        """Yield the nodelist. Raises TooCostly, see `Filter.select`."""
        run = Run(root, work)
        try:
            yield from _chain(self._steps, (), root, run)
        except RecursionError:  # only a caller that is itself deep: our depth is bounded
            raise TooCostly(work.left, work.left + 1) from None


def parse_query(text: str) -> Query:
    """Read a JSONPath. Raises FilterError, with the column of the fault, and nothing else."""
    reader = Reader(text, FilterError)
    _bound_nesting(reader)
    try:
        query = _ENVIRONMENT.compile(text)
    except JSONPathError as exc:
        index = exc.token.index if exc.token is not None else 0
        reader.fail(str(exc.args[0]), index if 0 <= index <= len(text) else len(text))
    except OverflowError:  # the library reads integers through float
        large = (found for found in _ANY_NUMBER.finditer(text) if math.isinf(float(found[0])))
        found = next(large, None)
        reader.fail(OUT_OF_RANGE, found.start() if found else 0)
    except Exception as exc:
        # The library lets others out too. It reads nothing but the text, so
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
                for at, found in (
                    containers(path, value, run.work) if descends else ((path, value),)
                ):
                    run.take(cost)
                    for selector in selectors:
                        run.take(1)
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
            return lambda current, run: _follow(keys, current, run)
        return lambda current, run: _chain(steps, (), current, run)

    def matching(self, expression: ast.FunctionExtension) -> Logical:
        subject, pattern = (self.value(arg) for arg in expression.args)
        whole = expression.name == "match"
        literal = expression.args[1]
        if (
            isinstance(literal, ast.StringLiteral)
            and parse_pattern(literal.value, FREE) is TOO_LARGE
        ):
            self.refuse(f"pattern larger than {MAX_STATES} states", literal)

        def matches(current: Json, run: Run) -> bool:
            text, source = subject(current, run), pattern(current, run)
            if not isinstance(text, str) or not isinstance(source, str):
                return False
            automaton = parse_pattern(source, run.work)
            return isinstance(automaton, Pattern) and automaton.matches(text, run.work, whole=whole)

        return matches


def _chain(steps: tuple[Step, ...], path: Path, value: Json, run: Run) -> Iterator[Node]:
    nodes: Iterable[Node] = ((path, value),)
    for step in steps:
        nodes = step(nodes, run)
    return iter(nodes)


def _follow(keys: Path, value: Json, run: Run) -> Iterator[Node]:
    """What ``_chain`` gives for single names and indexes: nearly all conditions are ``@.name``."""
    run.take(1 + len(keys) // 4)
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


def _items(value: Json, run: Run) -> Iterator[tuple[str | int, Json]]:
    items: Iterable[tuple[str | int, Json]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for item in items:
        run.take(1)
        yield item


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
        run.take(1)
        a, b = left(current, run), right(current, run)
        if isinstance(a, str) and isinstance(b, str):
            run.take(min(len(a), len(b)) >> CHARS_A_STEP_LOG2)
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
    todo = [iter(((a, b),))]
    while todo:
        for one, other in todo[-1]:
            run.take(1)
            if isinstance(one, dict) and isinstance(other, dict):
                if len(one) != len(other) or not all(key in other for key in one):
                    return False
                todo.append(iter([(one[key], other[key]) for key in one]))
                break
            if isinstance(one, list) and isinstance(other, list):
                if len(one) != len(other):
                    return False
                todo.append(zip(one, other, strict=True))
                break
            if not equal(one, other):
                return False
        else:
            todo.pop()
    return True


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

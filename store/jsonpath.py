"""JSONPath, RFC 9535, the whole standard: the library reads the text (`store.jsonpath_text`), and
this file makes functions of it (`store.jsonpath_parts`) that evaluate it.

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
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NoReturn

from jsonpath_rfc9535 import JSONPathQuery
from jsonpath_rfc9535 import filter_expressions as ast
from jsonpath_rfc9535 import selectors as sel
from jsonpath_rfc9535.segments import JSONPathRecursiveDescentSegment, JSONPathSegment

from triode.store.jsonpath_parts import (
    Logical,
    Nodes,
    Run,
    Selector,
    Step,
    Value,
    chain,
    children,
    comparison,
    conjunction,
    disjunction,
    element_of,
    follow,
    having,
    length,
    member_of,
    only,
    slice_of,
)
from triode.store.jsonpath_text import parse_text
from triode.store.path import FilterError, Path, Reader
from triode.store.pattern import MAX_STATES, TOO_LARGE, Pattern, parse_pattern
from triode.store.segment import Node, containers
from triode.store.value import Json
from triode.store.work import FREE, TooCostly, Work

MAX_QUERY_SEGMENTS = 128  # with those in conditions; each is a generator on Python's stack

_INTEGER = re.compile(r"-?[0-9]+", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)


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
            yield from chain(self._steps, (), root, run)
        except RecursionError:  # only a caller that is itself deep: our depth is bounded
            raise TooCostly(work.left, work.left + 1) from None


def parse_query(text: str, work: Work = FREE) -> Query:
    """Read a JSONPath. Raises FilterError, with the column of the fault, and TooCostly."""
    reader = Reader(text, FilterError)
    query = parse_text(reader, work)
    compiler = _Compiler(reader, work)
    steps = compiler.steps(query)
    prefix = _prefix(query)
    is_fixed = len(prefix) == len(query.segments)
    return Query(text, steps, () if compiler.looks_at_root else prefix, is_fixed)


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

    def __init__(self, reader: Reader, work: Work) -> None:
        self.reader = reader
        self.work = work
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
        self.work.charge(1)
        match selector:
            case sel.NameSelector():
                return member_of(selector.name)
            case sel.IndexSelector():
                return element_of(selector.index)
            case sel.SliceSelector():
                return slice_of(selector.slice)
            case sel.FilterSelector():
                return having(self.logical(selector.expression.expression))
        return children

    def logical(self, expression: ast.Expression) -> Logical:
        """An expression that is true or false."""
        self.work.charge(2)
        match expression:
            case ast.LogicalExpression():
                operands = [self.logical(operand) for operand in _operands(expression)]
                join = conjunction if expression.operator == "&&" else disjunction
                return join(operands)
            case ast.PrefixExpression():
                return self.negation(expression)
            case ast.ComparisonExpression():
                left, right = self.value(expression.left), self.value(expression.right)
                return comparison(left, expression.operator, right)
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
        self.work.charge(2)
        match expression:
            case ast.FilterExpressionLiteral():
                literal = self.literal(expression)
                return lambda current, run: literal
            case ast.FilterQuery():
                return only(self.nodes(expression))
            case ast.FunctionExtension(name="length"):
                return length(self.value(expression.args[0]))
            case ast.FunctionExtension(name="count"):
                counted = self.nodes(expression.args[0])
                return lambda current, run: sum(1 for _ in counted(current, run))
            case ast.FunctionExtension(name="value"):
                return only(self.nodes(expression.args[0]))
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
            return lambda current, run: chain(steps, (), run.root, run)
        keys = _prefix(expression.query)
        if len(keys) == len(steps):
            return lambda current, run: follow(keys, current, run)
        return lambda current, run: chain(steps, (), current, run)

    def matching(self, expression: ast.FunctionExtension) -> Logical:
        subject, pattern = (self.value(arg) for arg in expression.args)
        whole = expression.name == "match"
        literal = expression.args[1]
        if (
            isinstance(literal, ast.StringLiteral)
            and parse_pattern(literal.value, self.work) is TOO_LARGE
        ):
            self.refuse(f"pattern larger than {MAX_STATES} states", literal)

        def matches(current: Json, run: Run) -> bool:
            text, source = subject(current, run), pattern(current, run)
            if not isinstance(text, str) or not isinstance(source, str):
                return False
            automaton = parse_pattern(source, run.work)
            return isinstance(automaton, Pattern) and automaton.matches(text, run.work, whole=whole)

        return matches


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

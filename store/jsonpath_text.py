"""The text of a JSONPath, read by ``jsonpath-rfc9535``, which checks the types too.

The library reads 4 KB in ten milliseconds. So that others have turns meanwhile, its lexer and its
stream of tokens charge for each token. Nesting is bounded before it recurses over it.
"""

from __future__ import annotations

import math
import re
from typing import Final

from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError, JSONPathQuery, JSONPathSyntaxError
from jsonpath_rfc9535.lex import Lexer
from jsonpath_rfc9535.tokens import Token, TokenStream, TokenType

from triode.store.path import OUT_OF_RANGE, FilterError, Reader
from triode.store.work import TooCostly, Work

MAX_NESTING = 32
MAX_OPERATORS = 100

_ENVIRONMENT = JSONPathEnvironment()
_NESTING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|&&|\|\||[!()\[\]]""", re.DOTALL)
_ANY_NUMBER = re.compile(r"[0-9]+(?:[eE][+-]?[0-9]+)?", re.ASCII)
# The lexer goes through quoted text one by one.
_CHARS_A_STEP: Final = 8
_TOKEN_STEPS: Final = 2


def parse_text(reader: Reader, work: Work) -> JSONPathQuery:
    """The library's tree. Raises FilterError, with the column of the fault, and TooCostly."""
    text = reader.text
    _bound_nesting(reader)
    try:
        stream = _Stream(_tokens(text, work), work)
        return JSONPathQuery(env=_ENVIRONMENT, segments=tuple(_ENVIRONMENT.parser.parse(stream)))
    except TooCostly:
        raise
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


class _Lexer(Lexer):
    __slots__ = ("_work",)

    def __init__(self, text: str, work: Work) -> None:
        super().__init__(text)
        self._work = work

    def emit(self, t: TokenType) -> None:
        self._work.charge(_TOKEN_STEPS + (self.pos - self.start) // _CHARS_A_STEP)
        super().emit(t)


class _Stream(TokenStream):
    def __init__(self, tokens: list[Token], work: Work) -> None:
        self._work = work
        super().__init__(tokens)

    def __next__(self) -> Token:
        self._work.charge(1)
        return super().__next__()


def _tokens(text: str, work: Work) -> list[Token]:
    """As the library's `tokenize`, which makes the lexer itself."""
    lexer = _Lexer(text, work)
    lexer.run()
    tokens = lexer.tokens
    if tokens and tokens[-1].type_ == TokenType.ERROR:
        raise JSONPathSyntaxError(tokens[-1].message or "", token=tokens[-1])
    if lexer.bracket_stack:
        char, index = lexer.bracket_stack[-1]
        detail = f"unbalanced {'brackets' if char == '[' else 'parentheses'}"
        raise JSONPathSyntaxError(
            detail, token=Token(TokenType.ERROR, text[index], index, text, detail)
        )
    return tokens


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

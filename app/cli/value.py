"""A VALUE of the command line: JSON, else a text."""

from __future__ import annotations

import json
import sys
from typing import NoReturn

import click

from triode.app.cli.render import note


def read_value(text: str) -> bytes:
    """The JSON for a VALUE: the very text if it is JSON, so the server judges what was typed.

    `-` reads standard input. Raises `UsageError` for a mistyped option, which commands that take
    negative numbers do not see themselves.
    """
    if text.startswith("--"):
        raise click.UsageError(f"no such option: {text}; a text is given as '\"{text}\"'")
    if text == "-":
        text = sys.stdin.read().rstrip("\r\n")
    try:
        json.loads(text, parse_constant=_not_json)
        return text.encode()
    except (ValueError, RecursionError):
        if text.lstrip().startswith(("{", "[", '"')):
            note("note: not JSON, so taken as text; is a bracket or quote missing?")
        else:
            note("note: not JSON, so taken as text")
        return json.dumps(text).encode()


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

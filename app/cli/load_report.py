"""What became of the lines that `triode load` has read: none is lost without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from triode.app.cli.render import clean, escape


class Line(NamedTuple):
    """A line that is not blank, and its number in the file."""

    number: int
    text: bytes


class Report:
    """Counts lines, names the refused ones, and says where to go on when the work ended early."""

    def __init__(self, file: str, *, as_json: bool) -> None:
        self.name = "-" if file == "-" else Path(file).name
        self._as_json = as_json
        self.done = 0
        self.refused = 0
        self._settled = 0  # number of the last line whose fate is known, as that of all before it
        self._unanswered: list[Line] = []

    def sending(self, lines: list[Line]) -> None:
        """These are sent now; until each is answered they may be done or not."""
        self._settled = lines[0].number - 1
        self._unanswered = lines

    def not_sent(self) -> None:
        """What was sent last did not arrive, or was refused as a whole: none of it was done."""
        self._unanswered = []

    def answered(self, answers: list[dict[str, Any]]) -> None:
        """The answers to what was sent, in order."""
        for line, answer in zip(self._unanswered, answers, strict=False):
            self._take(line.number, answer)
            self._settled = line.number
        self._unanswered = self._unanswered[len(answers) :]

    def _take(self, number: int, answer: dict[str, Any]) -> None:
        # Of a batch in one line that is not atomic, a part may have been refused.
        problems = answer.get("errors", []) if answer.get("ok") else [answer.get("error") or answer]
        if problems:
            self.refused += 1
        else:
            self.done += 1
        for problem in problems:
            self._show(number, problem)

    def _show(self, number: int, problem: dict[str, Any]) -> None:
        problem.pop("line", None)  # counted from the start of the request
        if self._as_json:
            line = msgspec.json.encode({"line": number, "error": problem}).decode()
            click.echo(escape(line))
        else:
            part = f" (operation {problem['index']})" if "index" in problem else ""
            text = f"{problem.get('title')}: {problem.get('detail')}{part}"
            click.echo(f"{clean(self.name)}:{number}: {clean(text)}", err=True)

    def finish(self) -> None:
        """The sum, on standard output."""
        if self._as_json:
            self._print_json()
        else:
            refused = f", {self.refused} refused" if self.refused else ""
            click.echo(f"{self.done} done{refused}")

    def stopped(self) -> None:
        """The sum, and how to go on, when it ended early."""
        doubt = [line.number for line in (self._unanswered[:1] + self._unanswered[-1:])]
        if self._as_json:
            self._print_json(skip=self._settled, **({"in_doubt": doubt} if doubt else {}))
            return
        self.finish()
        if doubt:
            click.echo(f"Lines {doubt[0]} to {doubt[1]} may have been done or not.", err=True)
            again = "If doing them twice does no harm, go"
        else:
            again = "Go"
        click.echo(f"{again} on with --skip {self._settled}.", err=True)

    def _print_json(self, **more: Any) -> None:
        total = {"done": self.done, "refused": self.refused} | more
        click.echo(msgspec.json.encode(total))

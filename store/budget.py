"""What one evaluation of a filter may cost."""

from __future__ import annotations

from triode.store.path import FilterError
from triode.store.value import Json

MAX_STEPS = 5_000_000


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

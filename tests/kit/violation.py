"""A promise that was not kept, and the frames that show it."""

from __future__ import annotations

import json
from typing import Any, Final

Frame = dict[str, Any]

SHOWN: Final = 4  # the divergent frame, and those before it


class Violation(AssertionError):
    """A promise of docs/wire.md that was not kept."""

    def __init__(self, rule: str, detail: str, frames: list[Frame] | None = None) -> None:
        self.rule = rule
        self.detail = detail
        self.frames = frames or []
        super().__init__(f"{rule}: {detail}")

    def lines(self) -> list[str]:
        """The violation for people; the divergent frame comes last."""
        return [str(self), *(f"  {shown(frame)}" for frame in self.frames)]


def shown(frame: Frame, limit: int = 300) -> str:
    """A frame, shortened."""
    text = json.dumps(frame)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"

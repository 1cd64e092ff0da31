"""A line of the log that says a thing once for each subject, not once for each request."""

from __future__ import annotations

import logging
from typing import Final

# Whoever makes up subjects fills the log with so many lines and no more.
MOST_SUBJECTS: Final = 100
MOST_CHARS: Final = 200


class LogOnce:
    """Warnings of one kind."""

    def __init__(self, log: logging.Logger, text: str) -> None:
        """`text` has one `%s`, for the subject."""
        self._log = log
        self._text = text
        self._said: set[str] = set()

    def warn(self, subject: str = "") -> None:
        """Log it, unless it has been said of this subject."""
        subject = subject[:MOST_CHARS]
        if subject in self._said or len(self._said) >= MOST_SUBJECTS:
            return
        self._said.add(subject)
        # Written as Python writes it: a subject is a client's text, and could forge lines.
        self._log.warning(self._text, subject if subject.isprintable() else repr(subject))

"""The names that `push` gives: made from the number of the change, so without a clock.

    push_key(1)        → "a1"        push_key(12345) → "cc1p"
    push_key(1, 3)     → "a1a3"      the fourth one of an atomic batch

A number is written with 32 digits behind a letter that says how many they are. So texts are in the
order of the numbers, a name is plain in a path (`.orders.cc1p`), and no number that JavaScript
would put in front of all other members.
"""

from __future__ import annotations

from typing import Final

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuv"


def push_key(number: int, nth: int = 0, tail: str = "") -> str:
    """The name of what the change `number` pushes; `nth` counts them within the change from 0.

    `tail` is what other documents do not have in their names.
    """
    name = _ordered(number)
    if nth:
        name += _ordered(nth)
    # `_` is lower than the letters that a longer name goes on with.
    return f"{name}_{tail}" if tail else name


def _ordered(number: int) -> str:
    digits = ""
    while number:
        digits = _DIGITS[number & 31] + digits
        number >>= 5
    return chr(ord("a") + max(0, len(digits) - 1)) + (digits or "0")

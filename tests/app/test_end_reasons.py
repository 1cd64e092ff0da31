"""The table of ends, and what clients and documents say of it."""

from __future__ import annotations

import re
from pathlib import Path

from triode.app.remote.http_client import FINAL_REASONS
from triode.app.wire import end_reasons
from triode.app.wire.end_reasons import End

ROOT = Path(__file__).resolve().parents[2]
ENDS = [end for end in vars(end_reasons).values() if isinstance(end, End)]
# Codes of 44xx: the same request would end the same way.
FINAL = {end.label for end in ENDS if end.code >= 4400}


def test_each_end_stands_in_the_contract_with_its_code() -> None:
    text = (ROOT / "docs/wire.md").read_text(encoding="utf-8")
    section = text.split("\n## How a connection ends\n")[1].split("\n## ")[0]
    told = re.findall(r"^\| `(\w+)` \| (\d{4}) \| \S", section, re.MULTILINE)
    assert sorted(told) == sorted((end.label, str(end.code)) for end in ENDS)


def test_clients_know_which_ends_are_final() -> None:
    assert FINAL == FINAL_REASONS
    source = (ROOT / "clients/js/triode.js").read_text(encoding="utf-8")
    [final] = re.findall(r"^const FINAL = \{(.*)\};$", source, re.MULTILINE)
    codes = {end.label: end.code - 4000 for end in ENDS if end.label in FINAL}
    assert {name: int(code) for name, code in re.findall(r"(\w+): (\d+)", final)} == codes

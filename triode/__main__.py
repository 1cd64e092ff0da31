"""`python -m triode`: the command line."""

from __future__ import annotations

from triode.app.cli import main

main()

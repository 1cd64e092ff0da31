"""A log that several Triodes share (docs/terms.md). Only `kinds` makes one: it needs hiredis."""

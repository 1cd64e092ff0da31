"""Hostile inputs, each with what it must be answered, and how long others may wait meanwhile.

    python -m tests.abuse [NAME …] [--rounds N] [--holds]
    python -m tests.abuse crowd [NAME …] [--holds]
    python -m tests.abuse generated [--minutes N] [--seed N]
    python -m tests.abuse memory [NAME …]

Each input runs against a `triode serve` of its own while a bystander in a process of its own pings
over WebSocket. The table has the bystander's worst wait. What an input costs in steps is asserted
in the unit tests: a clock is noise on a busy machine, steps are not.

On a busy machine a wait says little. So beside it stands how much processor time the server had in
a wait, and that is judged. With `--holds` the server itself says how long its loop was held, by the
processor's clock, and in what (`holds`).

`crowd` has each input from a hundred clients at once: others may wait 50 ms then, and healthy
subscribers get every event, or are told of it (`tests.kit`).

`generated` makes inputs that nobody thought of (`maker`). The suite tries some of them.

`memory` runs inputs that make the server hold much, and compares its resident memory with the bound
(`--memory`). It takes minutes, and is no part of the suite.

To add an input: a row in one of the tables that `__main__` collects.
"""

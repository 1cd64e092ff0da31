"""The kit: backpressure and recovery of *any* server that speaks docs/wire.md, by its URL alone.

    python -m tests.kit URL [--token T] [--seed N] [--only NAME]

It writes below one root of its own in the document, subscribes over both transports with clients
that read slowly, not at all, or are cut at any byte, and checks all they received against a model
of what each was owed:

- for every connection and every filter, events sent + events announced as missed = events matched;
- what is assembled from them is what the filter selects, once what was announced has been healed;
- positions only rise, and none is told before everything up to it has arrived;
- what has been answered has been answered once; what was unsubscribed is silent.

`model` knows what is owed, `wire` speaks the two transports, `ledger` compares, `stage` brings them
together, `scenarios` say what happens. A scenario is a function; what it draws comes from its seed.
"""

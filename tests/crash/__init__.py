"""`kill -9` under load, again and again: nothing that was answered is missing afterwards, nothing
that was refused is there, and every client resumes exactly.

    operations   random writes of every kind; each leaves a mark of its own
    writers      send them over WebSocket, HTTP and NDJSON, and note what was answered
    followers    watch over SSE and WebSocket, and resume by position
    ledger       what was sent, and what became of it
    checker      replays all in the order of the positions on a plain document, and compares
    launch       a server with small snapshots, and with faults put in to try the checker
    forks        many of them, cheaply
    crash        the loop
    damage       each byte of the log's files turned over
    power        cuts of the power under the log's file, on a disk that forgets (`disk`)

Every answer carries its position, so the order of all writes is given: the checker looks at each
write once.
"""

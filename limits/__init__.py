"""Who may do what, how often, and how many at once.

Everything here is pure: no clock, no I/O, no Trio. Time is an argument and every decision is one
synchronous call, so it is exact under concurrency: nothing can run between the check and the count.

=============  ====================================================================================
rate           how often: one GCRA bucket per key, the HTTP fields that tell a client about it
admission      how many at once: exact counts of connections, given back through tickets
token          the server's own opaque tokens, kept as SHA-256 digests
jwt            tokens that another party signed
principal      who a request speaks for, and which credentials it presented
grant          what a principal may read, write, join and administer
address        peers, networks, and the client behind trusted proxies
policy         what happens when a subscriber's queue is full
=============  ====================================================================================
"""

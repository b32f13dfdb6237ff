"""The replay queue: the third box of the picture, between generators and learner, on Redis Streams.

What it promises: a group that Redis accepted is delivered until the learner acknowledges it, or it is
dead-lettered with a reason; a group id enters the stream once; generators work on a group under a lease,
which another one takes over when its holder dies; only the newest learner incarnation writes. Every change
of state is one Lua script (`*.lua` beside this file), so that a process may die between any two commands. Reading alone
is an XREADGROUP, whose entries count as read once a script has entered them into the books.

    producer.py   generators: lease, renew, add
    consumer.py   the learner's rank 0: open, read, acknowledge, trim, dead-letter, publish
    entries.py    what the consumer reads
    stats.py      counters, for reports and the control plane
    gauges.py     counters and the state of this moment, for a person
    admin.py      a person: look at dead letters, requeue or purge them
"""

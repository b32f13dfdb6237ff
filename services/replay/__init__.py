"""The replay queue between generators and learner, on Redis Streams.

A group that Redis accepted is delivered until the learner acknowledges it, or it is dead-lettered with a reason. A group
id enters the stream once. A generator works on a group under a lease, which another generator takes over when its holder
dies. Only the newest learner incarnation writes. Every change of state is one Lua script (`lua/`), so a process may die
between any two commands. Reading is an XREADGROUP; its entries count as read once a script has recorded them.

    producer.py      generators: lease, renew, add
    outbox.py        generators: finished groups that are ready together share a round trip
    consumer.py      the learner's rank 0: open, read, acknowledge, trim, dead-letter, publish
    entries.py       what the consumer reads
    actuators.py     the mixes of a curriculum, from the learner to the generators
    stats.py         counters and gauges, for step records, reports and the control plane
    dead_letters.py  an operator: list dead letters, requeue or purge them
"""

"""The replay queue between generators and learner, on Redis Streams: leases, exactly-once admission, dead letters.

A group that Redis accepted is delivered until the learner acknowledges it, or it is dead-lettered with a reason. A
group id enters the stream once. A generator works on a group under a lease, which another generator takes over when
its holder dies. Only the newest learner incarnation writes. Every change of state is one Lua script (`lua/`), so a
process may die between any two commands. Reading is an XREADGROUP; its entries count as read once a script has
recorded them.
"""

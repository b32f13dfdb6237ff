#!lua flags=allow-oom
-- Moves a pending entry to the dead-letter stream, with the reason.
-- KEYS fence, trajectories, counters, dead letters, lost
-- ARGV epoch, consumer group, id, reason
-- Returns 1, or 0 if the entry is not pending
-- include: fence
local id = ARGV[3]
local pending = redis.call('XPENDING', KEYS[2], ARGV[2], id, id, 1)[1]
if not pending then
    return 0
end
local fields = redis.call('XRANGE', KEYS[2], id, id)[1][2]
local group, data = fields[2], fields[6] or ''
local place = string.match(group, '^(%l+:%d+):%d+$')
redis.call('XACK', KEYS[2], ARGV[2], id)
redis.call('XADD', KEYS[4], '*', 'entry', id, 'group', group, 'producer', fields[4] or '', 'data', data,
           'reason', ARGV[4], 'deliveries', pending[4])
if place then
    redis.call('SADD', KEYS[5], place)
end
redis.call('HINCRBY', KEYS[3], 'dead_lettered', 1)
redis.call('HINCRBY', KEYS[3], 'released_bytes', #data)
return 1
